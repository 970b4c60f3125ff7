"""Small corpora for the tests of data/."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from elmo_jax.data.corpus import Corpus, encode, open_corpus

# Sentences of a document; a corpus is a list of documents.
Documents = Sequence[Sequence[Sequence[str]]]


@pytest.fixture
def encoded(tmp_path: Path) -> Callable[[Documents], Corpus]:
    """Encodes documents and opens the corpus."""

    def make(documents: Documents) -> Corpus:
        directory = tmp_path / f"corpus{len(list(tmp_path.iterdir()))}"
        encode((sentence for document in documents for sentence in [*map(list, document), None]), directory)
        return open_corpus(directory)

    return make


@pytest.fixture
def documents() -> list[list[list[str]]]:
    """Twelve documents of one to nine sentences of one to fourteen words, some of them equal."""
    rng = np.random.default_rng(1)
    return [
        [[f"w{n}" for n in rng.zipf(1.5, rng.integers(1, 15)) % 60] for _ in range(rng.integers(1, 10))]
        for _ in range(12)
    ]
