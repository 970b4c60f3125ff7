"""The metrics of a run: metrics.jsonl, which is always written, and beside it TensorBoard and Weights & Biases."""

import contextlib
import dataclasses
import importlib
import logging
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from elmo_jax import config_io
from elmo_jax.config import Config, Watch
from elmo_jax.errors import UserError
from elmo_jax.telemetry import MetricsWriter, Value, write_errors

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """What shows the metrics of a run somewhere else than in metrics.jsonl."""

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Show the numbers among ``values`` at a step; text is left out."""

    def close(self, *, failed: bool) -> None:
        """Write what is left; ``failed`` tells that an error ended the run."""


class Metrics:
    """Writes to metrics.jsonl and, once training begins, to the trackers that the configuration asks for.

    Args:
        run_dir: the run directory; metrics.jsonl in it is made when absent.
        watch: which trackers.

    Raises:
        UserError: when metrics.jsonl cannot be written.
    """

    def __init__(self, run_dir: Path, watch: Watch) -> None:
        self._run_dir, self._watch = run_dir, watch
        self._file = MetricsWriter(run_dir / "metrics.jsonl")
        self._trackers: list[Tracker] = []

    def __enter__(self) -> "Metrics":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        with contextlib.ExitStack() as closing:
            closing.callback(self._file.close)
            for tracker in self._trackers:
                closing.callback(tracker.close, failed=kind is not None)

    def begin(self, step: int, config: Config, text: str) -> None:
        """Begin after ``step``: what was written for later steps will be written again.

        Args:
            step: steps done; 0 for a new run.
            config: shown by the trackers.
            text: what the run says at its start, shown by TensorBoard.

        Raises:
            UserError: when a tracker cannot start.
        """
        self._file.truncate_after(step)
        if self._watch.tensorboard:
            self._trackers.append(TensorBoard(self._run_dir / "tensorboard", step, config, text))
        if self._watch.wandb_project:
            self._trackers.append(WeightsAndBiases(self._run_dir, self._watch.wandb_project, step, config))

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Write values at a step, as ``MetricsWriter`` does."""
        self._file.write(step, values)
        for tracker in self._trackers:
            tracker.write(step, values)


class TensorBoard:
    """Event files for TensorBoard, by tensorboardX; a reader never has to wait for the end of the run.

    Every start of a run writes a file of its own, whose first event tells TensorBoard to forget what older files have
    of later steps. Events are written here and now: tensorboardX's ``SummaryWriter`` leaves that to a thread, and
    when it dies of a full disk its queue fills and the run would wait for ever.

    Args:
        directory: of the event files.
        step: steps done.
        config: shown as text.
        text: shown as text.

    Raises:
        UserError: when the files cannot be made or, by any method, written.
    """

    def __init__(self, directory: Path, step: int, config: Config, text: str) -> None:
        self._directory = directory
        self._protos = importlib.import_module("tensorboardX.proto.event_pb2")
        self._summary = importlib.import_module("tensorboardX.summary")
        files = importlib.import_module("tensorboardX.event_file_writer")
        with self._named_errors():
            directory.mkdir(parents=True, exist_ok=True)
            # Without a suffix, starts within the same second would share a file.
            self._file = files.EventsWriter(str(directory / "events"), filename_suffix=f".{time.time_ns()}")
        restart = self._protos.SessionLog(status=self._protos.SessionLog.START)
        self._add(step=step + 1, session_log=restart)
        self._add(step=step, summary=self._summary.text("start", _preformatted(text)))
        self._add(step=step, summary=self._summary.text("config", _preformatted(config_io.to_json(config))))

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Add one point to the curve of each number."""
        points = self._summary.Summary()
        for name, value in _numbers(values).items():
            points.MergeFrom(self._summary.scalar(name, value))
        self._add(step=step, summary=points)

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        with self._named_errors():
            self._file.close()

    def _add(self, **event: Any) -> None:
        with self._named_errors():
            self._file.write_event(self._protos.Event(wall_time=time.time(), **event))
            self._file.flush()

    def _named_errors(self) -> contextlib.AbstractContextManager[None]:
        return write_errors(self._directory, "set --config.watch.tensorboard=false")


class WeightsAndBiases:
    """A run on Weights & Biases, which goes on when ours does; W&B's own settings (``WANDB_MODE``, ...) hold.

    W&B never takes a step back. Steps that are written again after a crash are there already, and the same.

    Args:
        run_dir: W&B's files go to ``wandb/`` in it, with the id of the run.
        project: on W&B.
        step: steps done; 0 makes a new run on W&B.
        config: shown by W&B.

    Raises:
        UserError: when W&B does not start. What goes wrong later ends the watching with a warning, not the run.
    """

    def __init__(self, run_dir: Path, project: str, step: int, config: Config) -> None:
        wandb = importlib.import_module("wandb")
        try:
            self._run = wandb.init(
                project=project,
                name=run_dir.absolute().name,
                dir=str(run_dir),
                id=_wandb_id(run_dir / "wandb", new=step == 0),
                resume="allow",
            )
            self._run.config.update(dataclasses.asdict(config), allow_val_change=True)
            # Of a run that goes on: the first step that W&B has not.
            self._first = self._run.step
        except Exception as error:  # W&B's own, and those of the network and the disk
            raise UserError(
                f"config.watch.wandb_project is {project!r}, but Weights & Biases does not start: {error}; log in with "
                "`wandb login`, or set WANDB_MODE=offline and upload later with `wandb sync`, or leave it empty"
            ) from error

    def write(self, step: int, values: Mapping[str, Value]) -> None:
        """Log the numbers at a step, unless W&B has that step already."""
        if self._run is not None and step >= self._first:
            with self._watching_only():
                self._run.log(_numbers(values), step=step)

    def close(self, *, failed: bool) -> None:
        """Finish, waiting for uploads."""
        if self._run is not None:
            with self._watching_only():
                self._run.finish(exit_code=int(failed))

    @contextlib.contextmanager
    def _watching_only(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            log.warning("Weights & Biases gets no more of this run: %s; training goes on, see metrics.jsonl", error)
            self._run = None


def check_installed(watch: Watch) -> None:
    """Import the libraries of the trackers, so that a missing one is known before any work is done.

    Raises:
        UserError: when one is missing.
    """
    needed = {
        ("tensorboard", "tensorboardX", "pip install tensorboardX"): watch.tensorboard,
        ("wandb_project", "wandb", "pip install 'elmo-jax[wandb]'"): bool(watch.wandb_project),
    }
    for field, library, command in (key for key, wanted in needed.items() if wanted):
        try:
            importlib.import_module(library)
        except ImportError as error:
            raise UserError(f"config.watch.{field} needs {library}: {command} ({error})") from error


def _numbers(values: Mapping[str, Value]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if not isinstance(value, str)}


def _preformatted(text: str) -> str:
    """Markdown that shows text as it is."""
    return "".join(f"    {line}\n" for line in text.strip("\n").splitlines())


def _wandb_id(directory: Path, *, new: bool) -> str:
    """The id of a run on W&B, kept in a file so that a run that is moved goes on there too."""
    file = directory / "run_id"
    if new or not file.exists():
        directory.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()
