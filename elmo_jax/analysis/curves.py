"""The metrics of runs as curves, read from metrics.jsonl; of runs that still go on too."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from elmo_jax import config_io
from elmo_jax.errors import UserError

# What curves can be drawn against: tokens seen (in each direction), steps, and the hours spent in training steps
# (without evaluation, checkpoints and the time between a stop and its resume).
AXES = ("tokens", "steps", "hours")


@dataclass(frozen=True)
class Curve:
    """Finite numbers by rising step.

    Attributes:
        steps: int64 ``[n]``.
        values: float64 ``[n]``.
    """

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class RunCurves:
    """The metrics of one run.

    Attributes:
        name: short, and different from those of the other runs.
        curves: by metric, such as ``train/perplexity``; none is empty.
        axes: for each of ``AXES`` known places on it, from step 0; between them places are interpolated. ``hours`` is
            absent until there is a line of training.
    """

    name: str
    curves: dict[str, Curve]
    axes: dict[str, Curve]

    def along(self, axis: str, steps: np.ndarray) -> np.ndarray:
        """Where steps lie on an axis, ``[n]`` in float64; after the last line of training it goes on as it did.

        Raises:
            UserError: for ``hours`` before there is a line of training.
        """
        if axis not in self.axes:
            raise UserError(f"{self.name} has no training speed yet, which tells the hours; choose another --x-axis")
        known = self.axes[axis]
        (before, last), (low, high) = known.steps[-2:], known.values[-2:]
        further = np.maximum(steps - last, 0) * (high - low) / (last - before)
        return np.interp(steps, known.steps, known.values) + further


def load(directories: Sequence[Path]) -> list[RunCurves]:
    """The metrics of runs, in the order given.

    Raises:
        UserError: for a directory that is no run, is given twice, or has no metrics yet.
    """
    return [_load(path, name) for path, name in zip(directories, _names(directories), strict=True)]


def read(file: Path) -> dict[str, Curve]:
    """Every metric of a metrics.jsonl.

    A torn line, as the last one of a living run may be, is left out, and so are text and numbers that are not finite.
    Where a step was written twice, the later one counts.
    """
    points: dict[str, dict[int, float]] = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            values = json.loads(line)
            step = int(values.pop("step"))
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        for name, value in values.items():
            if name != "time" and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, {})[step] = float(value)
    return {name: _curve(found) for name, found in points.items()}


def choose(runs: Sequence[RunCurves], wanted: Sequence[str] | None, default: Sequence[str]) -> list[str]:
    """The metrics to draw: those wanted, or those of the default that there are.

    Raises:
        UserError: when no run has one that is wanted, or any.
    """
    there = sorted({name for run in runs for name in run.curves})
    for name in wanted or ():
        if name not in there:
            raise UserError(f"no run has the metric {name!r}; there are {', '.join(there)}")
    found = list(dict.fromkeys(wanted)) if wanted else [name for name in default if name in there]
    if not found:
        raise UserError(f"no run has any of {', '.join(default)}: choose from {', '.join(there)} with --metrics")
    return found


def smoothed(values: np.ndarray, half_width: int) -> np.ndarray:
    """Means over the ``half_width`` values on each side and the value itself.

    At the beginning, where a learning curve is steep, both sides are cut to the same length; at the end only what is
    there counts.
    """
    n = len(values)
    i = np.arange(n)
    left, right = np.minimum(half_width, i), np.minimum(np.minimum(half_width, i), n - 1 - i)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return (sums[i + right + 1] - sums[i - left]) / (left + right + 1)


def _load(path: Path, name: str) -> RunCurves:
    train = config_io.load(path).train
    file = path / "metrics.jsonl"
    try:
        curves = read(file) if file.exists() else {}
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}; check its permissions") from error
    if not curves:
        raise UserError(f"{file} has no metrics yet: a run writes the first after config.log_every_steps; try later")
    return RunCurves(name, curves, _axes(curves, train.batch_size * train.unroll_steps))


def _axes(curves: dict[str, Curve], tokens_per_step: int) -> dict[str, Curve]:
    """Tokens as the lines of training have them, hours from tokens and speed; before the first line by the step."""
    tokens = _from_zero(curves.get("train/tokens", Curve(np.array([1]), np.array([tokens_per_step]))))
    axes = {"steps": _from_zero(Curve(np.array([1]), np.array([1]))), "tokens": tokens}
    if "speed/tokens_per_second" in curves:
        speed = curves["speed/tokens_per_second"]
        fresh = np.diff(np.interp(speed.steps, tokens.steps, tokens.values), prepend=0.0)
        axes["hours"] = _from_zero(Curve(speed.steps, np.cumsum(fresh / np.maximum(speed.values, 1e-9)) / 3600))
    return axes


def _names(directories: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as it takes to tell them apart."""
    parts = [path.resolve().parts for path in directories]
    for path, own in zip(directories, parts, strict=True):
        if parts.count(own) > 1:
            raise UserError(f"{path} is given twice; name each run once")
    depth = 1
    while len({own[-depth:] for own in parts}) < len(parts):
        depth += 1
    return ["/".join(own[-depth:]) for own in parts]


def _curve(points: dict[int, float]) -> Curve:
    steps = sorted(points)
    return Curve(np.array(steps, np.int64), np.array([points[step] for step in steps]))


def _from_zero(curve: Curve) -> Curve:
    return Curve(np.concatenate([[0], curve.steps]), np.concatenate([[0.0], curve.values]))
