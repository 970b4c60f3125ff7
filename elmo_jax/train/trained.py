"""The model at a path, whatever its files are: a run, a pretrained directory, or the files of other programs."""

from pathlib import Path

from elmo_jax.errors import UserError
from elmo_jax.interop import pretrained_directory
from elmo_jax.interop.pretrained import Pretrained


def load(path: Path, step: int | None = None) -> Pretrained:
    """The model at ``path``: a run directory (its best weights) or a pretrained directory.

    Args:
        path: of the model.
        step: of a run: the checkpoint to take instead of the best.

    Raises:
        UserError: when there is no model, it is damaged, or it has no such checkpoint.
    """
    if pretrained_directory.recognises(path):
        if step is not None:
            raise UserError(f"{path} is no run: it has no checkpoint of step {step}; leave the step out")
        return pretrained_directory.load(path)
    # Orbax, which only the checkpoints of runs need, takes seconds to import.
    from elmo_jax import checkpoint
    from elmo_jax.train.run_directory import RunDirectory

    run = RunDirectory(path)
    config, vocabulary = run.config(), run.vocabulary()
    step, params, _ = checkpoint.restore_params(run.checkpoints, step=step)
    return Pretrained(config, params, vocabulary, f"{path}, step {step:,}", step)
