"""Checkpoints: Orbax behind save, restore, restore_params and latest.

Orbax writes in the background and commits by one rename. It neither notices a flipped bit nor looks past a damaged
newest checkpoint; both are done here. A checkpoint is a directory named after its step, with three items:

    params   the parameters, nested dictionaries of arrays
    state    everything else that training needs to go on, in the same form
    meta     JSON: what the caller gave, and of every leaf its dtype, shape and digest; sealed by a SHA-256

Arrays are stored in their global layout, so any number of devices reads what any other number wrote.

The order of restoring a run is: the newest undamaged checkpoint of its own run directory (``Checkpoints.restore``),
else weights named by the configuration (``restore_params``), else weights imported from another program, else random
ones.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from elmo_jax.checkpoint_files import (
    DamagedError,
    nested,
    newest_meta,
    perplexities,
    prepared,
    read_arrays,
    read_meta,
    reason_of,
    require_same,
    saved_steps,
    sealed_meta,
    targets,
)
from elmo_jax.digest import digest, leaves_by_path
from elmo_jax.errors import UserError

__all__ = ["Checkpoints", "Restored", "digest", "newest_meta", "restore_params"]

Tree = Any

_log = logging.getLogger("elmo_jax")


def _worth_reading(record: logging.LogRecord) -> bool:
    """Of what Orbax logs: warnings, but no traceback of an error that it raises as well."""
    return record.levelno >= logging.WARNING and not (record.exc_info and "orbax" in Path(record.pathname).parts)


logging.getLogger("absl").addFilter(_worth_reading)


@dataclass(frozen=True)
class Restored:
    """A checkpoint in memory: trees of the structure and sharding asked for, and the JSON saved with them."""

    step: int
    params: Tree
    state: Tree
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training run: the ``keep`` newest and, besides, the one of lowest held-out perplexity.

    Damaged checkpoints do not count; those that ``restore`` met are removed once a later save is complete.

    Args:
        directory: made when absent. What a killed save left behind in it is removed.
        keep: number of newest checkpoints to keep, at least 1.

    Raises:
        UserError: when the directory cannot be made or read.
    """

    def __init__(self, directory: Path, *, keep: int = 2) -> None:
        self.directory = Path(directory).absolute()
        self._keep = keep
        self._damaged: set[int] = set()
        self._saving = 0
        options = ocp.CheckpointManagerOptions(
            preservation_policy=_Preserve(self._kept),
            cleanup_tmp_directories=True,
            save_root_metadata=False,
            lightweight_initialize=True,
        )
        self._perplexity = perplexities(self.directory)
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise UserError(
                f"cannot keep checkpoints in {self.directory}: {reason_of(error)}; choose another"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            self.close()
        except UserError as failure:
            if error is None:
                raise
            if str(failure) != str(error):
                _log.warning("%s", failure)

    def save(
        self,
        step: int,
        params: Tree,
        state: Tree,
        meta: Mapping[str, Any],
        *,
        perplexity: float | None = None,
        wait: bool = False,
    ) -> None:
        """Save in the background; once this returns, every array may be donated or changed.

        A step that is already saved is not saved again: a run is a function of its step.

        Args:
            step: steps done so far.
            params: tree of JAX or NumPy arrays of any sharding, none of them empty.
            state: the same; NamedTuples and dataclasses are welcome.
            meta: JSON values (tuples come back as lists).
            perplexity: of the held-out text at this step; without one the checkpoint is never the best.
            wait: return only when the checkpoint is durable.

        Raises:
            UserError: when this save or the one before it failed, for instance because the disk is full. Finished
                checkpoints are never harmed by that.
        """
        self.wait()
        if step in self._steps():
            return
        if not os.access(self.directory, os.W_OK):
            raise self._failure(step, "the directory is not writable")
        self._perplexity.pop(step, None)
        if perplexity is not None and math.isfinite(perplexity):
            self._perplexity[step] = perplexity
        trees = {"params": prepared(params), "state": prepared(state)}
        items = {item: ocp.args.StandardSave(nested(leaves)) for item, leaves in trees.items()}
        items["meta"] = ocp.args.JsonSave(sealed_meta(step, trees, dict(meta), self._perplexity.get(step)))
        self._saving = step
        try:
            if step in self._damaged.intersection(self._manager.all_steps()):
                self._manager.delete(step)
            self._damaged.discard(step)
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)
        # Orbax and TensorStore report a full disk as OSError, ValueError or a bare Exception, whichever part meets it.
        except Exception as error:
            raise self._failure(step, reason_of(error)) from error
        if wait:
            self.wait()

    def restore(self, params_like: Tree, state_like: Tree) -> Restored | None:
        """The newest undamaged checkpoint, or None when there is none at all.

        A damaged checkpoint is named in a warning and the one before it is read.

        Args:
            params_like: tree of ``jax.ShapeDtypeStruct`` with the sharding wanted, or of arrays, with theirs. NumPy
                arrays are restored as NumPy.
            state_like: the same.

        Raises:
            UserError: when all checkpoints are damaged, or when names, shapes or dtypes are not those asked for.
        """
        likes = {"params": targets(params_like), "state": targets(state_like)}
        reasons = []
        for step in saved_steps(self.directory):
            try:
                document = read_meta(self.directory, step)
                require_same(document["leaves"], likes, f"checkpoint {step} in {self.directory}")
                found = read_arrays(self.directory, document, likes)
            except DamagedError as damage:
                self._damaged.add(step)
                reasons.append(f"{step} ({damage})")
                _log.warning("checkpoint %d in %s is damaged: %s; trying the one before", step, self.directory, damage)
                continue
            self._damaged.discard(step)
            params, state = (
                jax.tree.unflatten(jax.tree.structure(like), [leaves[path] for path in leaves_by_path(like)])
                for like, leaves in ((params_like, found["params"]), (state_like, found["state"]))
            )
            return Restored(step, params, state, document["meta"])
        if reasons:
            raise UserError(
                f"no checkpoint in {self.directory} can be read: {', '.join(reasons)}; "
                "put a copy back, or start again in another run directory"
            )
        return None

    def latest(self) -> int | None:
        """Step of the newest finished checkpoint."""
        return max(self._steps(), default=None)

    def best(self) -> int | None:
        """Step of the finished checkpoint with the lowest perplexity, if any was saved with one."""
        return self._best(self._steps())

    def wait(self) -> None:
        """Return when the save under way, if any, is durable.

        Raises:
            UserError: when it failed.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # As in save.
            raise self._failure(self._saving, reason_of(error)) from error

    def close(self) -> None:
        """``wait``, and end the threads of the writer."""
        try:
            self.wait()
        finally:
            try:
                self._manager.close()
            except Exception as error:  # As in save; Orbax tells again of a save that failed.
                raise self._failure(self._saving, reason_of(error)) from error

    def _steps(self) -> list[int]:
        return [step for step in saved_steps(self.directory) if step not in self._damaged]

    def _best(self, steps: Iterable[int]) -> int | None:
        return min((s for s in steps if s in self._perplexity), key=self._perplexity.__getitem__, default=None)

    def _kept(self, steps: list[int]) -> set[int | None]:
        good = sorted(set(steps) - self._damaged)
        return {*good[-self._keep :], self._best(good)}

    def _failure(self, step: int, reason: str) -> UserError:
        self._perplexity.pop(step, None)
        latest = self.latest()
        intact = "there are none before it" if latest is None else f"the one before it, {latest}, is intact"
        return UserError(
            f"checkpoint {step} could not be saved in {self.directory}: {reason}; {intact}. Make room there or make it "
            "writable, and start again"
        )


def restore_params(directory: Path, *, step: int | None = None) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Parameters without a target tree, for evaluation and export; writes nothing.

    Args:
        directory: of the checkpoints of a run.
        step: None for the best checkpoint, or the latest where none is best. A damaged one is named in a warning and
            the next best is read.

    Returns:
        Step, parameters as nested dictionaries of NumPy arrays, and the JSON saved with them.

    Raises:
        UserError: when there is no such checkpoint or no undamaged one.
    """
    directory = Path(directory).absolute()
    steps, perplexity = saved_steps(directory), perplexities(directory)
    if not steps or (step is not None and step not in steps):
        there = f"there are {', '.join(map(str, steps))}" if steps else "train first, or give the directory of a run"
        raise UserError(f"no checkpoint{'' if step is None else f' {step}'} in {directory}; {there}")
    by_merit = sorted(steps, key=lambda s: (perplexity.get(s, math.inf), -s)) if step is None else [step]
    for candidate in by_merit:
        try:
            document = read_meta(directory, candidate)
            params = {name: leaf for name, leaf in document["leaves"].items() if name.startswith("params/")}
            likes = {
                name.removeprefix("params/"): np.broadcast_to(np.zeros((), dtype), shape)
                for name, (dtype, shape, _) in params.items()
            }
            found = read_arrays(directory, {**document, "leaves": params}, {"params": likes})
        except DamagedError as damage:
            _log.warning("checkpoint %d in %s is damaged: %s", candidate, directory, damage)
            continue
        return candidate, nested(found["params"]), document["meta"]
    raise UserError(f"damaged in {directory}: checkpoint {', '.join(map(str, by_merit))}; put a copy back")


@dataclass(frozen=True)
class _Preserve:
    """Orbax's preservation policy, asked at each save. What it drops is removed when that save is complete."""

    kept: Callable[[list[int]], set[int | None]]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        kept = self.kept([c.step for c in checkpoints])
        return [c.step in kept for c in checkpoints]
