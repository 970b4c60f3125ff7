"""``elmo eval``: perplexity of a model on text."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.commands import segmentation_arguments, text_arguments
from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.train.evaluate import Perplexity

NAME = "eval"
SUMMARY = "Perplexity of a model on text: a run's best weights, or any with a softmax."
DETAILS = """\
Forward, backward (but for a forward-only model) and their geometric mean, under the full normalised distribution, every
token and one boundary a sentence counted; words out of the vocabulary are scored as <UNK>. The text is cut into
sentences and tokens as that of the run was.

  elmo eval runs/quickstart --text valid.txt                  carried state over 32 streams, as in training
  elmo eval runs/quickstart --text valid.txt --stateless      every sentence by itself
  elmo eval runs/quickstart --text valid.txt --json
  elmo eval runs/elmo_original --tfds lm1b --split test
  elmo eval elmo_weights.hdf5 --text valid.txt                of bilm-tf; its other files lie beside it"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("run", metavar="RUN", help="a run directory, or any other model with a softmax")
    text_arguments.add(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--streams", type=int, default=32, metavar="N", help="streams of carried LSTM state (default 32)")
    how.add_argument("--stateless", action="store_true", help="reset the state at every sentence")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step instead of the best one")
    parser.add_argument("--cache-dir", metavar="DIR", help="of encoded corpora (default: encoded beside RUN)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    segmentation_arguments.add(parser, of_run=True)


def run(options: argparse.Namespace) -> int:
    """Perplexity of a run's weights on text."""
    from elmo_jax import compilation_cache, parallel
    from elmo_jax.data.corpus import prepare
    from elmo_jax.train import trained
    from elmo_jax.train.evaluate import Evaluator

    streams = 0 if options.stateless else options.streams
    if streams < 0 or (streams == 0 and not options.stateless):
        raise UserError(
            f"--streams is {streams}: it must be at least 1; --stateless resets the state at every sentence"
        )
    compilation_cache.enable()
    run = trained.load(Path(options.run), options.step)
    run.require_softmax()
    # Of a model on the hub there is no folder here.
    beside = Path(options.run).parent if Path(options.run).exists() else Path()
    cache = Path(options.cache_dir) if options.cache_dir else beside / "encoded"
    segmentation = segmentation_arguments.segmentation_of_model(options, run)
    corpus = prepare(text_arguments.source(options, segmentation), cache)
    evaluator = Evaluator(run.model, run.config, run.words(), parallel.DataParallel())
    result = evaluator(run.params, corpus, streams=streams, progress=not options.json)
    if options.json:
        about = {"run": options.run, "step": run.step, "text": text_arguments.title(options)}
        print(json.dumps({**about, **result.as_dict()}))
    else:
        print(describe(run.origin, text_arguments.title(options), result))
    return 0


def describe(model: str, text: str, result: "Perplexity") -> str:
    """A perplexity as a table for people."""
    from elmo_jax.telemetry import summary_table

    each = "in each direction" if len(result.nll) > 1 else "forward"
    return summary_table(
        {
            "model": model,
            "text": text,
            "state": result.kind,
            "perplexity": f"{result.average:.3f}",
            **{direction: f"{value:.3f}" for direction, value in result.by_direction.items()},
            "predictions": f"{result.count:,} {each}, from {result.words:,} words",
            "unknown words": f"{result.oov:,} ({100 * result.oov / max(1, result.words):.2f} %), scored as <UNK>",
        }
    )
