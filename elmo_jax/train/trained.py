"""The model at a path, whatever its files are: a run, a pretrained directory, or the files of other programs."""

import dataclasses
from pathlib import Path

from elmo_jax.errors import UserError
from elmo_jax.interop import hub, readers
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train import facts
from elmo_jax.train.run_directory import RunDirectory


def load(path: Path, step: int | None = None) -> Pretrained:
    """The model at ``path``: a run (its best weights), what one of ``readers.DIRECT`` reads, or a model of the hub.

    Args:
        path: of the model, or ``organisation/name[@revision]`` on Hugging Face's hub when there is no such path.
        step: of a run: the checkpoint to take instead of the best.

    Raises:
        UserError: when there is no model, it is damaged, or it has no such checkpoint.
    """
    if (there := hub.repository(path)) is not None:
        return dataclasses.replace(load(hub.fetch(*there), step), origin=str(path))
    if (run := run_at(path)) is not None:
        return _of_run(run, step)
    reader = readers.of(path, readers.DIRECT)
    if reader is None:
        raise readers.no_model(path)
    if step is not None:
        raise UserError(f"{path} is no run: it has no checkpoint of step {step}; leave the step out")
    return reader.load(path)


def run_at(path: Path) -> RunDirectory | None:
    """The run in a directory, unless that holds another model, whose configuration may bear the same name."""
    run = RunDirectory(path)
    is_run = run.has_checkpoint or (run.exists and readers.of(path, (*readers.DIRECT, *readers.IMPORTED)) is None)
    return run if is_run else None


def _of_run(run: RunDirectory, step: int | None) -> Pretrained:
    # Orbax, which only the checkpoints of runs need, takes seconds to import.
    from elmo_jax import checkpoint

    config, vocabulary = run.config(), run.vocabulary()
    step, params, meta = checkpoint.restore_params(run.checkpoints, step=step)
    about = facts.of_run(run, config, vocabulary, step, meta)
    return Pretrained(config, params, vocabulary, f"{run.path}, step {step:,}", step, about=about)
