"""Peak host memory of encoding and of training, on a little text and on ten times as much.

    python benchmarks/memory.py 'corpus/train-*.txt' --tokens 1000000 10000000

Each program runs by itself, as a user would run it; its peak is what the operating system accounts for it.
Training is fifty steps of ``elmo_tiny`` with a vocabulary of all types of its text, so the model grows a little too;
``--max-vocabulary`` keeps it the same. Prints one JSON line for each program and size.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from elmo_jax.data.text import expand, read_sentences

TRAIN = str(Path(__file__).parents[1] / "train.py")
STEPS = 50


def cut(text: str, n_tokens: int, output: Path) -> None:
    """Write the first ``n_tokens`` tokens of text shards, to the end of a sentence."""
    left = n_tokens
    with output.open("w", encoding="utf-8") as file:
        for sentence in read_sentences(expand(text)):
            if left <= 0:
                return
            if sentence:
                file.write(" ".join(sentence) + "\n")
                left -= len(sentence)
    if left > 0:
        raise SystemExit(f"{text} has only {n_tokens - left} tokens; {n_tokens} are wanted")


def peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of a program that must succeed, in MiB."""
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed with status {process.returncode}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Measure encoding and training at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="glob of text shards")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--max-vocabulary", type=int, default=800_000)
    options = parser.parse_args()
    elmo = [sys.executable, "-m", "elmo_jax.cli"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n_tokens in sorted(options.tokens):
            text, encoded = folder / f"{n_tokens}.txt", folder / f"encoded-{n_tokens}"
            cut(options.text, n_tokens, text)
            encode = peak_mib([*elmo, "encode", "--text", str(text), "--output", str(encoded)])
            fields = {
                "run_dir": folder / f"run-{n_tokens}",
                "data.train": text,
                "data.cache_dir": encoded,
                "data.max_vocabulary": options.max_vocabulary,
                "train.n_steps": STEPS,
            }
            overrides = [f"--config.{field}={value}" for field, value in fields.items()]
            train = peak_mib([sys.executable, TRAIN, "--config", "elmo_tiny", *overrides])
            for program, peak in (("encode", encode), ("train", train)):
                print(json.dumps({"program": program, "tokens": n_tokens, "peak_mib": round(peak, 1)}), flush=True)


if __name__ == "__main__":
    main()
