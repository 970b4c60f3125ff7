"""What a run says about itself: metrics.jsonl, a progress bar or a line a minute, where the time went, tables."""

import contextlib
import json
import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from elmo_jax.errors import UserError

Value = float | int | str

# Characters of the widest column of the parameter table.
SHAPES_WIDTH = 72


class MetricsWriter:
    """Appends one JSON object a line to ``path``; a reader never has to wait for the end of the run.

    Args:
        path: such as ``runs/elmo/metrics.jsonl``; its directory is made when absent.

    Raises:
        UserError: when the file cannot be made or, by any method, written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._named_errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Write ``{"step": step, "time": seconds since 1970, **values}``.

        Numbers that JSON has not are the strings "nan", "inf" and "-inf", which ``float`` reads. NumPy and JAX scalars
        are taken too.
        """
        line = {"step": step, "time": round(time.time(), 3), **{name: _json_value(v) for name, v in values.items()}}
        with self._named_errors():
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()

    def truncate_after(self, step: int) -> None:
        """Drop the lines of later steps and any torn one: a resumed run writes these steps again, each once.

        The file is replaced in one rename, so that a kill leaves the old or the new one.
        """
        with self._named_errors():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
            if kept == lines:
                return
            temporary = self.path.with_name(self.path.name + ".tmp")
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(kept)
                file.flush()
                os.fsync(file.fileno())
            self._file.close()
            temporary.replace(self.path)
            self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close the file; further writes are errors."""
        with self._named_errors():
            self._file.close()

    def _named_errors(self) -> contextlib.AbstractContextManager[None]:
        return write_errors(self.path, "choose another run_dir")


@contextlib.contextmanager
def write_errors(path: Path, otherwise: str) -> Iterator[None]:
    """Within it, a write that fails is a ``UserError`` that names ``path`` and says what to do but making room."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room or {otherwise}") from error


def _json_value(value: Any) -> Value:
    if hasattr(value, "item"):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _step_of(line: str) -> float:
    """The step of a line of metrics; infinite for a torn one."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
    return step if isinstance(step, int) and line.endswith("\n") else math.inf


class Clock:
    """Where the time goes. Parts may nest: a second counts for the innermost part only.

    Example:
        >>> clock = Clock()
        >>> with clock.measure("input"):
        ...     batch = next(iter([1]))
        >>> sorted(clock.shares())
        ['input', 'other']
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._start = self._last = now()
        self._open: list[str] = []
        # Seconds by part so far.
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Count the time of the block for ``part``."""
        self._count()
        self._open.append(part)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    @property
    def total(self) -> float:
        """Seconds since the clock was made."""
        return self._now() - self._start

    def read(self) -> dict[str, float]:
        """Seconds by part up to this moment, and under ``other`` what no part measured; together the total."""
        self._count()
        return {**self.seconds, "other": max(0.0, self._last - self._start - sum(self.seconds.values()))}

    def shares(self) -> dict[str, float]:
        """Each part's fraction of the total, and under ``other`` what no part measured; together 1."""
        seconds = self.read()
        total = max(sum(seconds.values()), 1e-9)
        return {part: value / total for part, value in seconds.items()}

    def _count(self) -> None:
        now = self._now()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._last
        self._last = now


class Progress:
    """How far a run is and when it ends: a bar on a terminal, else a line a minute.

    Args:
        total: units of the whole run.
        start: units that earlier parts of a resumed run have done.
        unit: what is counted, such as ``tokens``.
        stream: where to show it.
        every: seconds between lines when the stream is no terminal.
    """

    def __init__(
        self, total: int, start: int = 0, unit: str = "tokens", stream: TextIO | None = None, every: float = 60.0
    ) -> None:
        self._total, self._start, self._done, self._unit = total, start, start, unit
        self._stream = stream or sys.stderr
        self._every = every
        self._began, self._shown_at = time.monotonic(), -math.inf
        self._values: Mapping[str, Value] = {}
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total, initial=start, unit=f" {unit}", unit_scale=True, file=self._stream, dynamic_ncols=True
            )

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, done: int, values: Mapping[str, Value] | None = None) -> None:
        """Tell that ``done`` units of the whole run are done, and what else to show."""
        self._done, self._values = done, values or self._values
        if self._bar is not None:
            self._bar.set_postfix({name: _text(value) for name, value in self._values.items()}, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._shown_at >= self._every:
            self._show_line()

    def close(self) -> None:
        """Leave the last state on the screen or in the log."""
        if self._bar is not None:
            self._bar.close()
        elif self._done > self._start:
            self._show_line()
        self._done = self._start

    def _show_line(self) -> None:
        self._shown_at = time.monotonic()
        rate = (self._done - self._start) / max(self._shown_at - self._began, 1e-9)
        left = tqdm.format_interval((self._total - self._done) / rate) if rate > 0 else "?"
        parts = [
            f"{100 * self._done / max(self._total, 1):.1f} %",
            f"{_count(self._done)} of {_count(self._total)} {self._unit}",
            f"{_count(rate)} {self._unit}/s",
            f"{left} left",
            *(f"{name} {_text(value)}" for name, value in self._values.items()),
        ]
        print(time.strftime("%H:%M:%S"), ", ".join(parts), file=self._stream, flush=True)


def safe_exp(x: float) -> float:
    """``exp(x)``, infinite where a float cannot hold it."""
    return math.inf if x > 700 else math.exp(x)


def message(text: str) -> None:
    """Print text on standard output, above the progress bar if there is one."""
    tqdm.write(text, file=sys.stdout)
    sys.stdout.flush()


def parameter_table(params: Mapping[str, Any]) -> str:
    """A table of the parameters by part: shapes and counts, and the total.

    Args:
        params: nested dictionaries of anything with a ``shape``.
    """
    rows = []
    for name, shapes, count in (*_parts(params, ""), ("total", "", _size(params))):
        first, *more = textwrap.wrap(shapes, SHAPES_WIDTH, break_on_hyphens=False) or [""]
        rows += [(name, first, f"{count:,}"), *(("", line, "") for line in more)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"{name:{widths[0]}}  {shapes:{widths[1]}}  {count:>{widths[2]}}".rstrip() for name, shapes, count in rows]
    return "\n".join([*lines[:-1], "-" * len(lines[-1]), lines[-1]])


def summary_table(rows: Mapping[str, str]) -> str:
    """Names and values in two aligned columns."""
    width = max(map(len, rows), default=0)
    return "\n".join(f"{name:{width}}  {value}".rstrip() for name, value in rows.items())


def _parts(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, int]]:
    """One row for each dictionary that holds only arrays, and for each array beside dictionaries."""
    for name, node in tree.items():
        if not isinstance(node, Mapping):
            yield path + name, str(list(node.shape)), _size(node)
        elif any(isinstance(child, Mapping) for child in node.values()):
            yield from _parts(node, f"{path}{name}/")
        else:
            shapes = ", ".join(f"{child} {list(array.shape)}" for child, array in node.items())
            yield path + name, shapes, _size(node)


def _size(node: Any) -> int:
    return sum(map(_size, node.values())) if isinstance(node, Mapping) else math.prod(node.shape)


def _count(number: float) -> str:
    return tqdm.format_sizeof(number) if number >= 1000 else f"{number:.0f}"


def _text(value: Value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
