"""Speed of the input pipeline, in JSON lines: encoding text, reading rows, making batches; and how long training waits.

    taskset -c 0 python benchmarks/input_pipeline.py rates              one core: encoding, rows, batches
    python benchmarks/input_pipeline.py encoding                        one core against all of them
    taskset -c 0 python benchmarks/input_pipeline.py growth             a corpus of a hundred times the tokens
    python benchmarks/input_pipeline.py waiting                         share of the steps' time spent waiting for input

The text is drawn from a Zipf distribution over 200 thousand types in sentences of 25 tokens, like news; --text names
other text. Rates are tokens (of one direction) per second. All things of a kind take turns; figures are medians, of the
time that passes and of the processors' time of this process and its helpers. On a busy machine only the second one says
something.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from elmo_jax.data import processes
from elmo_jax.data.batches import Batches
from elmo_jax.data.corpus import Corpus, prepare
from elmo_jax.data.streams import Rows
from elmo_jax.data.text import text_source
from elmo_jax.data.vocab import build_from_corpus

N_TYPES, SENTENCE, WIDTH, ROUNDS = 200_000, 25, 50, 5
SHAPES = ((128, 20, 1), (1024, 20, 1), (1024, 20, 8), (128, 64, 1), (32, 20, 1))
# Tokens that are read for one figure.
READ = 500_000
SMALL, LARGE = 500_000, 50_000_000
# What training waits for is measured after this many steps, by when everything is compiled.
WARM_UP, TRAINED = 4, {"quickstart": 60, "elmo_small": 12}


def write_text(path: Path, n_tokens: int) -> Path:
    """A synthetic shard of one sentence a line."""
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, (N_TYPES, 12)).astype(np.uint8)
    words = np.array([bytes(row[:n]).decode() for row, n in zip(letters, rng.integers(1, 12, N_TYPES), strict=True)])
    cumulative = np.cumsum(1 / np.arange(1, N_TYPES + 1))
    with path.open("w") as file:
        for begin in range(0, n_tokens, 10**6):
            drawn = np.searchsorted(cumulative, rng.random(min(10**6, n_tokens - begin)) * cumulative[-1])
            file.writelines(" ".join(line) + "\n" for line in words[drawn].reshape(-1, SENTENCE))
    return path


def times(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that pass, and seconds of processors."""
    wall, processor = time.perf_counter(), processor_seconds()
    work()
    return time.perf_counter() - wall, processor_seconds() - processor


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def in_turn(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, tuple[float, float]]:
    """The median times of each, after a round of warming up."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            found = times(work)
            if turn:
                taken[name].append(found)
    return {name: (statistics.median(w for w, _ in t), statistics.median(p for _, p in t)) for name, t in taken.items()}


def report(what: str, n_tokens: int, taken: tuple[float, float], **more: object) -> None:
    """One result."""
    rates = {"tokens_per_second": round(n_tokens / taken[0]), "tokens_per_processor_second": round(n_tokens / taken[1])}
    print(json.dumps({"what": what, **more, **rates, "cores": processes.available()}), flush=True)


def encoder(text: str, n_processes: int) -> Callable[[], Corpus]:
    """Encodes a text with so many processes, into a directory that does not stay."""

    def encode() -> Corpus:
        with tempfile.TemporaryDirectory() as folder, limited_to(n_processes):
            return prepare(text_source(text), Path(folder), progress=False)

    return encode


@contextlib.contextmanager
def limited_to(n: int):
    """As if so many cores could be used."""
    before, processes.available = processes.available, lambda: n
    yield
    processes.available = before


def reader(corpus: Corpus, batch_size: int, length: int, parts: int) -> tuple[int, dict[str, Callable[[], object]]]:
    """How many tokens, and what reads them as rows and as batches."""
    rows = Rows(corpus, batch_size, range(batch_size), seed=0)
    word_ids = corpus.word_ids(build_from_corpus(corpus, 1, 800_000))
    batches = Batches(rows, corpus, word_ids, parts, WIDTH, length)
    steps = READ // (batch_size * length)
    block = max(1, (1 << 17) // (batch_size * length))

    def read() -> None:
        position = rows.start()
        for _ in range(0, steps, block):
            position = rows.read_windows(position, length, block)[1][-1]

    return steps * batch_size * length, {
        "rows": read,
        "batches": lambda: list(map(len, batches.stream(rows.start(), steps))),
    }


def rates(text: str, folder: Path) -> None:
    """Encoding, rows and batches, by one core."""
    corpus = prepare(text_source(text), folder, progress=False)
    report("encode", corpus.n_tokens, in_turn({"": encoder(text, 1)})[""], types=corpus.n_types)
    for batch_size, length, parts in SHAPES:
        n_tokens, works = reader(corpus, batch_size, length, parts)
        for what, taken in in_turn(works).items():
            report(what, n_tokens, taken, batch_size=batch_size, unroll_steps=length, parts=parts)


def encoding(text: str, folder: Path) -> None:
    """Encoding by one process and by one for each core."""
    corpus = prepare(text_source(text), folder, progress=False)
    counts = sorted({1, processes.available()})
    for n, taken in in_turn({str(n): encoder(text, n) for n in counts}).items():
        report("encode", corpus.n_tokens, taken, processes=int(n), types=corpus.n_types)


def growth(text: str, folder: Path) -> None:
    """Rates with a corpus, and with one of a hundred times the tokens."""
    del text
    shards = {n: str(write_text(folder / f"{n}.txt", n)) for n in (SMALL, LARGE)}
    corpora = {n: prepare(text_source(shard), folder, progress=False) for n, shard in shards.items()}
    encoded = in_turn({str(n): encoder(shard, 1) for n, shard in shards.items()}, rounds=1)
    costs = {"encode": {n: encoded[str(n)][1] / corpora[n].n_tokens for n in shards}}
    for batch_size, length, parts in SHAPES[:2]:
        readers = {n: reader(corpus, batch_size, length, parts) for n, corpus in corpora.items()}
        read = in_turn({str(n): works["batches"] for n, (_, works) in readers.items()})
        costs[f"batches {batch_size} x {length}"] = {n: read[str(n)][1] / readers[n][0] for n in shards}
    for what, cost in costs.items():
        by_size = {f"{n:,} tokens, {corpora[n].n_types:,} types": round(1e9 * cost[n], 1) for n in shards}
        print(json.dumps({"what": what, "nanoseconds_a_token": by_size, "ratio": round(cost[LARGE] / cost[SMALL], 3)}))


def waiting(text: str, folder: Path) -> None:
    """The share of the time of steps that real runs wait for input, from their own metrics."""
    data = [f"--config.data.train={text}", "--config.train.n_epochs=1"]
    for name, steps in TRAINED.items():
        run = folder / name
        command = [sys.executable, "-m", "elmo_jax.cli", "train", "--config", name, f"--config.run_dir={run}"]
        settings = [
            f"--config.train.n_steps={steps}",
            "--config.log_every_steps=1",
            "--config.evaluation.max_tokens=1000",
        ]
        shown = subprocess.run([*command, *settings, *(data[:1] if name != "quickstart" else [])], capture_output=True)
        if shown.returncode:
            raise SystemExit(shown.stderr.decode())
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        lines = [line for line in lines if "time/input" in line][WARM_UP:]
        seconds = [1 / line["speed/tokens_per_second"] for line in lines]  # for each token: all lines have as many
        waited = sum(share["time/input"] * second for share, second in zip(lines, seconds, strict=True))
        figures = {"steps": len(lines), "share_waiting_for_input": round(waited / sum(seconds), 5)}
        print(json.dumps({"what": "waiting", "config": name, **figures, "cores": processes.available()}), flush=True)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("rates", "encoding", "growth", "waiting"), default="rates")
    parser.add_argument("--text", help="globs of tokenised text in place of the synthetic one; growth makes its own")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="of the synthetic text (default 5 million)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        text = options.text or (
            "" if options.what == "growth" else str(write_text(folder / "text.txt", options.tokens))
        )
        {"rates": rates, "encoding": encoding, "growth": growth, "waiting": waiting}[options.what](text, folder)


if __name__ == "__main__":
    main()
