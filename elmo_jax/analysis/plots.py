"""Learning curves of several runs as one figure."""

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from elmo_jax.analysis.curves import RunCurves, smoothed
from elmo_jax.analysis.panels import Panel, panel_of
from elmo_jax.errors import UserError

AXIS_LABELS = {"tokens": "tokens seen", "steps": "steps", "hours": "hours in training steps"}

# Okabe and Ito (2008): colours that all kinds of colour vision tell apart; yellow is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#808080",
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "xtick.color": "#404040",
    "ytick.color": "#404040",
    "lines.solid_capstyle": "round",
    # Words stay words: an SVG can be searched and its labels edited.
    "svg.fonttype": "none",
    "svg.hashsalt": "elmo_jax",
}

# In inches: the figure, its margins, and the panels; the first two metrics get large ones.
WIDTH, LEFT, RIGHT, GAP = 11.0, 0.7, 0.6, 1.15
LARGE, SMALL, BETWEEN, BOTTOM = 3.3, 1.7, 0.85, 0.6
N_LARGE, N_SMALL = 2, 3
TITLE, LEGEND_LINE = 0.5, 0.22
LABEL_POINTS = 8.0
# A smoothed value is the mean over this part of its curve on each side.
SMOOTHING = 0.02
# More runs than these are drawn without the values behind the smoothed ones.
CROWD = 6
# The beginning of a smoothed curve, where everything falls steeply, may leave the panel: this part of the axis, or at
# most half of the curve.
STEEP = 0.03
# Lines whose highest values differ by more than this factor get a logarithmic scale.
FAR_APART = 20.0


def draw(runs: Sequence[RunCurves], metrics: Sequence[str], axis: str, title: str) -> Any:
    """The figure (a ``matplotlib.figure.Figure``): a panel for each metric, a line for each run that has the metric.

    Args:
        runs: from ``curves.load``.
        metrics: each one of at least one run; the first two get large panels.
        axis: one of ``curves.AXES``, which all the runs have.
        title: above it all.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        columns = max(1, min(len(runs), int((WIDTH - LEFT) / (0.6 + 0.08 * max(len(run.name) for run in runs)))))
        header = TITLE + LEGEND_LINE * math.ceil(len(runs) / columns) + 0.35
        rows = [metrics[:N_LARGE], *(metrics[i : i + N_SMALL] for i in range(N_LARGE, len(metrics), N_SMALL))]
        height = header + LARGE + (SMALL + BETWEEN) * (len(rows) - 1) + BOTTOM
        figure = Figure(figsize=(WIDTH, height))
        figure.text(LEFT / WIDTH, 1 - 0.17 / height, title, va="top", fontsize=14, weight="bold", parse_math=False)
        end = max(
            float(run.along(axis, run.curves[m].steps[-1:])[0]) for run in runs for m in metrics if m in run.curves
        )
        bottom = height - header
        for number, row in enumerate(rows):
            tall = SMALL if number else LARGE
            bottom -= tall + (BETWEEN if number else 0)
            per_row = N_SMALL if number else len(row)
            wide = (WIDTH - LEFT - RIGHT - GAP * (per_row - 1)) / per_row
            for column, metric in enumerate(row):
                box = (LEFT + column * (wide + GAP), bottom, wide, tall)
                axes = figure.add_axes(tuple(np.divide(box, (WIDTH, height, WIDTH, height))))
                lines = [
                    _line(axes, run, n, metric, axis, crowded=len(runs) > CROWD)
                    for n, run in enumerate(runs)
                    if metric in run.curves
                ]
                _finish(axes, lines, panel_of(metric), axis, end, tall)
        _legend(figure, runs, columns, 1 - TITLE / height)
    return figure


def save(figure: Any, files: Sequence[Path]) -> None:
    """Write the figure to files whose suffixes are formats, 200 dots an inch; each appears complete or not at all.

    Raises:
        UserError: when one cannot be written.
    """
    import matplotlib

    for file in files:
        temporary = file.with_name(f".{file.name}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with matplotlib.rc_context(STYLE):
                figure.savefig(temporary, format=file.suffix[1:], dpi=200)
            os.replace(temporary, file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise UserError(
                f"cannot write {file}: {error.strerror or error}; make room there or choose another --output"
            ) from error


@dataclass(frozen=True)
class _Line:
    """What is known of a line once it is drawn: its colour and its points, smoothed where the panel is."""

    colour: str
    x: np.ndarray
    y: np.ndarray


def _line(axes: Any, run: RunCurves, number: int, metric: str, axis: str, *, crowded: bool) -> _Line:
    panel, curve = panel_of(metric), run.curves[metric]
    x, y, look = run.along(axis, curve.steps), curve.values, style(number)
    neighbours = int(SMOOTHING * len(y)) if panel.smooth else 0
    if neighbours:
        if not crowded:
            axes.plot(x, y, color=look["color"], alpha=0.22, linewidth=0.6)
        # Equal ratios are equally far on a logarithmic scale, and so is their mean.
        y = np.exp(smoothed(np.log(y), neighbours)) if panel.log and (y > 0).all() else smoothed(y, neighbours)
    marker = {"marker": "o", "markersize": 3} if len(y) == 1 or (len(y) <= 40 and not panel.dense) else {}
    axes.plot(x, y, linewidth=1.6, gid=f"{metric} of {run.name}", **look, **marker)
    return _Line(look["color"], x, y)


def _finish(axes: Any, lines: Sequence[_Line], panel: Panel, axis: str, end: float, inches: float) -> None:
    """Scales, ticks, title and, right of the panel, the last value of each line."""
    from matplotlib.ticker import EngFormatter, FuncFormatter, NullLocator

    axes.set_title(panel.title, parse_math=False)
    axes.set_xlabel(AXIS_LABELS[axis])
    axes.set_xlim(0, end * 1.01)
    if axis != "hours":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    seen = np.concatenate([_in_view(line, end) if panel.smooth else line.y for line in lines])
    low, high = float(seen.min()), float(seen.max())
    peaks = [float(line.y.max()) for line in lines]
    if low > 0 and (panel.log or max(peaks) > FAR_APART * min(peaks)):
        pad = max((high / low) ** 0.06, 1.02)
        axes.set_yscale("log")
        axes.set_ylim(low / pad, high * pad)
        axes.yaxis.set_major_locator(_log_ticks(high / low))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        axes.set_ylim(0 if panel.from_zero else low - pad, high + pad)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value, digits=8)))
    _label_ends(axes, lines, inches)


def _in_view(line: _Line, end: float) -> np.ndarray:
    return line.y[line.x >= min(STEEP * end, line.x[-1] / 2)]


def _label_ends(axes: Any, lines: Sequence[_Line], inches: float) -> None:
    """Write the last value of each line beside the panel in its colour, moved apart where they would overlap.

    Lines that end alike share a label. A small panel in which there are too many of them has none.
    """
    to_height = axes.transScale + axes.transLimits
    ends: dict[str, list[tuple[float, _Line]]] = {}
    for line in lines:
        height = float(to_height.transform((line.x[-1], line.y[-1]))[1])
        ends.setdefault(_number(line.y[-1]), []).append((height, line))
    room = 1.25 * LABEL_POINTS / 72 / inches
    gap = min(room, 1 / max(1, len(ends) - 1))
    if gap < room and inches < LARGE:
        return
    places = moved_apart([alike[0][0] for alike in ends.values()], gap)
    edge = axes.get_xlim()[1]
    for (text, alike), place in zip(ends.items(), places, strict=True):
        height, line = max(alike, key=lambda one: one[1].x[-1])
        colour = line.colour if len(alike) == 1 else "#404040"
        box = {"transform": axes.transAxes, "color": colour, "clip_on": False}
        axes.plot([1.005, 1.03], [height, place], linewidth=0.6, **box)
        axes.text(1.037, place, text, va="center_baseline", fontsize=LABEL_POINTS * gap / room, **box)
        if line.x[-1] < 0.97 * edge:
            axes.plot([line.x[-1], edge], [line.y[-1]] * 2, ":", color=colour, linewidth=0.7, alpha=0.7)


def moved_apart(places: Sequence[float], gap: float) -> list[float]:
    """Places within 0 and 1, at least ``gap`` from each other, in the same order and near to the given ones.

    Their squared distances from the given ones are the least possible, by pooling neighbours that would come too near
    (the pool-adjacent-violators algorithm; Barlow et al. 1972).
    """
    order = sorted(range(len(places)), key=lambda n: places[n])
    # Without the gaps before it, each place must only be no lower than the one before.
    pools: list[tuple[float, int]] = []
    for rank, n in enumerate(order):
        mean, size = places[n] - rank * gap, 1
        while pools and pools[-1][0] >= mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    highest = 1 - (len(places) - 1) * gap
    level = [min(max(mean, 0.0), highest) for mean, size in pools for _ in range(size)]
    found = [0.0] * len(places)
    for rank, n in enumerate(order):
        found[n] = level[rank] + rank * gap
    return found


def _legend(figure: Any, runs: Sequence[RunCurves], columns: int, top: float) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=1.8, **style(n)) for n in range(len(runs))]
    place = {"loc": "upper left", "bbox_to_anchor": (LEFT / WIDTH, top), "borderaxespad": 0.0, "borderpad": 0.0}
    legend = figure.legend(handles, [" "] * len(runs), ncols=columns, frameon=False, **place)
    # Set afterwards: matplotlib would skip names that begin with an underscore and read "$" as mathematics.
    for text, run in zip(legend.get_texts(), runs, strict=True):
        text.set_parse_math(False)
        text.set_text(run.name)


def style(number: int) -> dict[str, Any]:
    """Colour and dashes of the run with this number; 28 differ."""
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number // len(COLOURS) % len(DASHES)]}


def _log_ticks(ratio: float) -> Any:
    """Ticks at round numbers, about five, whether a logarithmic scale spans decades or a few per cent."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if ratio < 3:
        return MaxNLocator(5, steps=[1, 2, 5, 10])
    return LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if ratio < 12 else (1, 2, 5) if ratio < 1000 else (1,), numticks=9)


def _number(value: float, digits: int = 4) -> str:
    """So many digits at least; those before the point all, and millions as such."""
    from matplotlib.ticker import EngFormatter

    if abs(value) >= 100_000:
        return EngFormatter(sep="")(float(f"{value:.{digits}g}"))
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
