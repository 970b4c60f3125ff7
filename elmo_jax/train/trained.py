"""What a run has learnt, for tools that use it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elmo_jax import checkpoint
from elmo_jax.config import Config
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.model.bilm import BiLM, compute_dtype
from elmo_jax.model.clusters import Clusters
from elmo_jax.train import inputs
from elmo_jax.train.run_directory import RunDirectory


@dataclass(frozen=True)
class Trained:
    """The weights of a run, and what belongs to them.

    Attributes:
        config: of the run.
        vocabulary: of the run.
        step: the checkpoint that the weights are from.
        params: the parameter tree of docs/design.md.
    """

    config: Config
    vocabulary: Vocabulary
    step: int
    params: Any

    @property
    def model(self) -> BiLM:
        """The network that the weights are of."""
        clusters = Clusters(len(self.vocabulary), self.config.model.softmax.cutoffs)
        return BiLM(self.config.model, clusters, compute_dtype(self.config.model))

    @property
    def segmentation(self) -> Segmentation:
        """How its text was cut into sentences and tokens."""
        return inputs.segmentation(self.config.data)


def load(path: Path, step: int | None = None) -> Trained:
    """The best weights of the run directory at ``path``, or those of a given checkpoint.

    Raises:
        UserError: when it is no run directory, or has no such checkpoint.
    """
    run = RunDirectory(path)
    config, vocabulary = run.config(), run.vocabulary()
    step, params, _ = checkpoint.restore_params(run.checkpoints, step=step)
    return Trained(config, vocabulary, step, params)
