"""The encodings of the words of a list, without context, as files of other programs (ELMO_SPEC 2.11)."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.embed.embedder import Embedder
from elmo_jax.embed.growing_hdf5 import GrowingHDF5
from elmo_jax.errors import UserError
from elmo_jax.interop.outputs import complete_file

Array = npt.NDArray[Any]

# Words that are encoded and written together.
BLOCK_WORDS = 4096


def token_vectors(embedder: Embedder, words: Sequence[str]) -> Iterator[Array]:
    """The encodings of words from their characters or, of a model of words, its table.

    Yields:
        float32 ``[words, P]``, some words at a time; ``<S>`` and ``</S>`` are the boundaries of a sentence.
    """
    width = embedder.pretrained.config.model.lstm.projection_dim
    for begin in range(0, len(words), BLOCK_WORDS):
        [vectors] = embedder.embed([words[begin : begin + BLOCK_WORDS]], layers=0)
        # Layer 0 is the same for both directions.
        yield vectors[:, :width]


def write_hdf5(
    embedder: Embedder,
    words: Sequence[str],
    path: Path,
    *,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda n: None,
) -> None:
    """Write bilm-tf's token table: one dataset ``embedding``, float32 ``[words, P]``.

    Args:
        embedder: of the model.
        words: in the order of the rows.
        path: of the file, which appears when it is complete.
        overwrite: a file that is there may be replaced.
        advance: told how many words are done.

    Raises:
        UserError: when the file is there, or cannot be written.
    """
    shape = (len(words), embedder.pretrained.config.model.lstm.projection_dim)
    with GrowingHDF5(path, {}, overwrite=overwrite) as growing:
        table = growing.file.create_dataset("embedding", shape, np.float32)
        done = 0
        for vectors in token_vectors(embedder, words):
            table[done : done + len(vectors)] = vectors
            growing.check()
            done += len(vectors)
            advance(done)
        growing.complete({})


def write_text(
    embedder: Embedder,
    words: Sequence[str],
    path: Path,
    *,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda n: None,
) -> None:
    """Write a line ``word v1 ... vP`` for every word, as GloVe has it and AllenNLP reads it; gzip for a name in .gz.

    Args:
        embedder: of the model.
        words: in the order of the lines.
        path: of the file, which appears when it is complete.
        overwrite: a file that is there may be replaced.
        advance: told how many words are done.

    Raises:
        UserError: for a word with white space in it, when the file is there, or cannot be written.
    """
    for number, word in enumerate(words, 1):
        if len(word.split()) != 1:
            raise UserError(f"word {number} is {word!r}: white space separates words from numbers; write HDF5 instead")
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with complete_file(path, overwrite=overwrite) as fresh, opener(fresh, "wt", encoding="utf-8", newline="\n") as file:
        begin = 0
        for vectors in token_vectors(embedder, words):
            for word, vector in zip(words[begin : begin + len(vectors)], vectors, strict=True):
                # Nine digits tell all float32 numbers apart.
                file.write(f"{word} {' '.join(f'{value:.9g}' for value in vector)}\n")
            begin += len(vectors)
            advance(begin)
