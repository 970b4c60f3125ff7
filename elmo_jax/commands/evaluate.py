"""``elmo eval``: perplexity of a run's best weights on text."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.train.evaluate import Perplexity

NAME = "eval"
SUMMARY = "Perplexity of a run's best weights on text."
DETAILS = """\
Forward, backward (but for a forward-only model) and their geometric mean, under the full normalised distribution, every
token and one boundary a sentence counted; words out of the vocabulary are scored as <UNK>.

  elmo eval runs/quickstart --text valid.txt                  carried state over 32 streams, as in training
  elmo eval runs/quickstart --text valid.txt --stateless      every sentence by itself
  elmo eval runs/quickstart --text valid.txt --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--text", required=True, metavar="GLOB", help="shards; several globs separated by commas")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--streams", type=int, default=32, metavar="N", help="streams of carried LSTM state (default 32)")
    how.add_argument("--stateless", action="store_true", help="reset the state at every sentence")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step instead of the best one")
    parser.add_argument("--cache-dir", metavar="DIR", help="of encoded corpora (default: encoded beside RUN)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Perplexity of a run's weights on text."""
    from elmo_jax import parallel
    from elmo_jax.data.corpus import prepare
    from elmo_jax.data.text import text_source
    from elmo_jax.train import trained
    from elmo_jax.train.evaluate import Evaluator

    streams = 0 if options.stateless else options.streams
    if streams < 0 or (streams == 0 and not options.stateless):
        raise UserError(
            f"--streams is {streams}: it must be at least 1; --stateless resets the state at every sentence"
        )
    run = trained.load(Path(options.run), options.step)
    cache = Path(options.cache_dir) if options.cache_dir else Path(options.run).parent / "encoded"
    corpus = prepare(text_source(options.text), cache)
    evaluator = Evaluator(run.model, run.config, run.vocabulary, parallel.DataParallel())
    result = evaluator(run.params, corpus, streams=streams, progress=not options.json)
    if options.json:
        print(json.dumps({"run": options.run, "step": run.step, "text": options.text, **result.as_dict()}))
    else:
        print(_describe(options, run.step, result))
    return 0


def _describe(options: argparse.Namespace, step: int, result: "Perplexity") -> str:
    from elmo_jax.telemetry import summary_table

    each = "in each direction" if len(result.nll) > 1 else "forward"
    return summary_table(
        {
            "run": f"{options.run}, step {step:,}",
            "text": options.text,
            "state": result.kind,
            "perplexity": f"{result.average:.3f}",
            **{direction: f"{value:.3f}" for direction, value in result.by_direction.items()},
            "predictions": f"{result.count:,} {each}, from {result.words:,} words",
            "unknown words": f"{result.oov:,} ({100 * result.oov / max(1, result.words):.2f} %), scored as <UNK>",
        }
    )
