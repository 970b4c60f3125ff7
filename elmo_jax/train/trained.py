"""The model at a path, whatever its files are: a run, a pretrained directory, or the files of other programs."""

import dataclasses
from pathlib import Path

from elmo_jax import checkpoint
from elmo_jax.errors import UserError
from elmo_jax.interop import hub, pretrained_directory
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train import facts
from elmo_jax.train.run_directory import RunDirectory


def load(path: Path, step: int | None = None) -> Pretrained:
    """The model at ``path``: a run directory (its best weights), a pretrained directory, or the id of one on the hub.

    Args:
        path: of the model, or ``organisation/name[@revision]`` on Hugging Face's hub when there is no such path.
        step: of a run: the checkpoint to take instead of the best.

    Raises:
        UserError: when there is no model, it is damaged, or it has no such checkpoint.
    """
    if (there := hub.repository(path)) is not None:
        return dataclasses.replace(load(hub.fetch(*there), step), origin=str(path))
    if pretrained_directory.recognises(path):
        if step is not None:
            raise UserError(f"{path} is no run: it has no checkpoint of step {step}; leave the step out")
        return pretrained_directory.load(path)
    run = RunDirectory(path)
    config, vocabulary = run.config(), run.vocabulary()
    step, params, meta = checkpoint.restore_params(run.checkpoints, step=step)
    about = facts.of_run(run, config, vocabulary, step, meta)
    return Pretrained(config, params, vocabulary, f"{path}, step {step:,}", step, about=about)
