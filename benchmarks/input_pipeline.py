"""Speed of the input pipeline on one core, in JSON lines: encoding text, reading rows, making batches.

    python benchmarks/input_pipeline.py [tokens]

The text is drawn from a Zipf distribution over 200 thousand types in sentences of 25 tokens, like news. Rates are
tokens (of one direction) per second; for rows and batches the best of three. Compare them with a training step.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import seconds

from elmo_jax.data.batches import Batches
from elmo_jax.data.corpus import Corpus, encode, open_corpus
from elmo_jax.data.streams import Rows
from elmo_jax.data.text import read_sentences
from elmo_jax.data.vocab import build_from_corpus

N_TYPES, SENTENCE, WIDTH = 200_000, 25, 50


def write_text(path: Path, n_tokens: int) -> None:
    """A synthetic shard of one sentence a line."""
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, (N_TYPES, 12)).astype(np.uint8)
    words = np.array([bytes(row[:n]).decode() for row, n in zip(letters, rng.integers(1, 12, N_TYPES), strict=True)])
    cumulative = np.cumsum(1 / np.arange(1, N_TYPES + 1))
    with path.open("w") as file:
        for _ in range(0, n_tokens, 10**6):
            drawn = np.searchsorted(cumulative, rng.random(10**6) * cumulative[-1])
            file.writelines(" ".join(line) + "\n" for line in words[drawn].reshape(-1, SENTENCE))


def report(what: str, n_tokens: int, taken: float, **more: int) -> None:
    """One result."""
    print(json.dumps({"what": what, **more, "tokens_per_second": round(n_tokens / taken)}), flush=True)


def measure_reading(corpus: Corpus, word_ids: np.ndarray, batch_size: int, length: int, parts: int) -> None:
    """Rows and batches of one shape."""
    rows = Rows(corpus, batch_size, range(batch_size), seed=0)
    batches = Batches(rows, corpus, word_ids, parts, WIDTH, length)
    steps = 500_000 // (batch_size * length)
    n_tokens = steps * batch_size * length
    shape = {"batch_size": batch_size, "unroll_steps": length, "parts": parts}
    report("rows", n_tokens, seconds(lambda: rows.read_windows(rows.start(), length, steps)), **shape)
    report("batches", n_tokens, seconds(lambda: sum(1 for _ in batches.stream(rows.start(), steps))), **shape)


def main(n_tokens: int) -> None:
    """Everything, from text to batches."""
    with tempfile.TemporaryDirectory() as name:
        shard, directory = Path(name, "shard.txt"), Path(name, "corpus")
        write_text(shard, n_tokens)
        begin = time.perf_counter()
        encode(read_sentences([shard]), directory)
        taken = time.perf_counter() - begin
        corpus = open_corpus(directory)
        report("encode", corpus.n_tokens, taken, types=corpus.n_types)
        word_ids = corpus.word_ids(build_from_corpus(corpus, 1, 800_000))
        for batch_size, length, parts in [(128, 20, 1), (1024, 20, 1), (1024, 20, 8), (128, 64, 1)]:
            measure_reading(corpus, word_ids, batch_size, length, parts)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000_000)
