"""``elmo plot``: learning curves of runs as a picture."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.analysis.curves import RunCurves

NAME = "plot"
SUMMARY = "Draw learning curves of runs."
DETAILS = """\
Held-out and training perplexity, learning rate, gradient norm and speed of finished and living runs, as PNG and SVG.
Training curves are smoothed, with the values themselves behind them; beside each curve stands its last value.

  elmo plot runs/a runs/b                                       learning_curves.png and learning_curves.svg
  elmo plot runs/* --output figures/all --x-axis hours --force
  elmo plot runs/a --metrics train/update_norm,train/parameter_norm,time/step"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run directories")
    parser.add_argument(
        "--output", default="learning_curves", metavar="PREFIX", help="writes PREFIX.png and PREFIX.svg"
    )
    parser.add_argument(
        "--metrics", metavar="NAME,...", help="of metrics.jsonl, one panel each; the first two are large"
    )
    parser.add_argument(
        "--x-axis",
        choices=("tokens", "steps", "hours"),
        default="tokens",
        help="tokens seen (default), steps, or hours spent in training steps",
    )
    parser.add_argument("--title", default="Learning curves", metavar="TEXT", help="above the figure")
    parser.add_argument("--force", action="store_true", help="replace existing files")


def run(options: argparse.Namespace) -> int:
    """Draw learning curves of runs."""
    from elmo_jax.analysis import curves, panels, plots
    from elmo_jax.telemetry import summary_table

    name = options.output.removesuffix(".png").removesuffix(".svg")
    files = [Path(name + suffix) for suffix in (".png", ".svg")]
    for file in files:
        if file.exists() and not options.force:
            raise UserError(f"{file} exists; choose another --output, or give --force to replace it")
    runs = curves.load([Path(path) for path in options.runs])
    metrics = curves.choose(runs, options.metrics.split(",") if options.metrics else None, panels.DEFAULT)
    plots.save(plots.draw(runs, metrics, options.x_axis, options.title), files)
    print(f"{files[0]}, {files[1]}: {', '.join(metrics)}")
    print(summary_table({run.name: _describe(run) for run in runs}))
    return 0


def _describe(run: "RunCurves") -> str:
    step = max(int(curve.steps[-1]) for curve in run.curves.values())
    heldout = run.curves.get("eval/perplexity")
    if heldout is None:
        return f"step {step:,}, no evaluation yet"
    best = heldout.values.argmin()
    return (
        f"step {step:,}, held-out perplexity {heldout.values[-1]:.2f} at step {heldout.steps[-1]:,}, "
        f"the best {heldout.values[best]:.2f} at step {heldout.steps[best]:,}"
    )
