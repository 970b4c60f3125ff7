"""``elmo export``: write a run's weights as bilm-tf files."""

import argparse
from pathlib import Path

NAME = "export"
SUMMARY = "Write a run's weights as bilm-tf files."
DETAILS = """\
weights.hdf5, options.json and vocab.txt, and softmax_weights.hdf5 where there is such a layout. Training does this
when it is complete.

  elmo export runs/quickstart exported"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("output", metavar="DIR", help="the directory to make")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step instead of the best one")


def run(options: argparse.Namespace) -> int:
    """Write a run's weights as bilm-tf files."""
    from elmo_jax.interop import bilm_tf
    from elmo_jax.train import trained

    run = trained.load(Path(options.run), options.step)
    notes = bilm_tf.export(Path(options.output), run.params, run.config, run.vocabulary)
    print(f"{options.output}: weights of {run.origin}")
    for note in notes:
        print(f"  note: {note}")
    return 0
