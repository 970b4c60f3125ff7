"""Held-out perplexity by tokens seen, of a run directory.

    python benchmarks/perplexity.py runs/elmo_tiny

Prints one JSON line for each evaluation of the run, and the lines of its final summary.
"""

import argparse
import json
from pathlib import Path

from elmo_jax import config_io


def main() -> None:
    """Print the evaluations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory")
    run = parser.parse_args().run
    train = config_io.load(run).train
    for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "eval/perplexity" in line:
            wanted = {name.removeprefix("eval/"): value for name, value in line.items() if name.startswith("eval/perp")}
            tokens = line["step"] * train.batch_size * train.unroll_steps
            print(json.dumps({"step": line["step"], "tokens": tokens, **wanted}))
    if (run / "summary.json").exists():
        for result in json.loads((run / "summary.json").read_text(encoding="utf-8"))["heldout"]:
            print(json.dumps({"final": True, **result}))


if __name__ == "__main__":
    main()
