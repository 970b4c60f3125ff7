"""The model at a path, whatever its files are: a run, a pretrained directory, or the files of other programs."""

from pathlib import Path

from elmo_jax import checkpoint
from elmo_jax.errors import UserError
from elmo_jax.interop import readers
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train.run_directory import RunDirectory


def load(path: Path, step: int | None = None) -> Pretrained:
    """The model at ``path``: a run directory (its best weights) or what one of ``readers.DIRECT`` reads.

    Args:
        path: of the model.
        step: of a run: the checkpoint to take instead of the best.

    Raises:
        UserError: when there is no model, it is damaged, or it has no such checkpoint.
    """
    run = run_at(path)
    if run is not None:
        config, vocabulary = run.config(), run.vocabulary()
        step, params, _ = checkpoint.restore_params(run.checkpoints, step=step)
        return Pretrained(config, params, vocabulary, f"{path}, step {step:,}", step)
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
