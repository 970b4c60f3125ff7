"""The model that a new run starts from: ``config.init_from``."""

from functools import cached_property
from pathlib import Path
from typing import Any

from elmo_jax.config import Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop import readers
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train import trained
from elmo_jax.train.run_directory import differences

# Fields of a model with which weights have nothing to do.
NOT_IN_WEIGHTS = (
    "dropout",
    "dropout_places",
    "dropout_mask",
    "compute_dtype",
    "softmax.n_negative_samples_batch",
)
# Kinds of the softmax that have the same parameters.
UNCLUSTERED = {"full", "sampled"}


class Origin:
    """A model that weights are taken from. Those of a run are not read before they are asked for.

    Args:
        source: path of the model.

    Raises:
        UserError: when there is no model.
    """

    def __init__(self, source: str) -> None:
        self.source, self._run = source, trained.run_at(Path(source))
        if self._run is None and readers.of(Path(source), readers.DIRECT) is None:
            raise UserError(f"config.init_from: {readers.no_model(Path(source))}")

    @cached_property
    def _model(self) -> Pretrained:
        return trained.load(Path(self.source))

    @cached_property
    def config(self) -> Config:
        """Of the model."""
        return self._model.config if self._run is None else self._run.config()

    @property
    def has_softmax(self) -> bool:
        """Whether the model has one: files of other programs need not."""
        return self._run is not None or "softmax" in self._model.params

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The words of its softmax or of its input; None where there is neither, for then any words will do."""
        if self._run is not None:
            return self._run.vocabulary()
        bound = self.has_softmax or self.config.model.input == "words"
        return self._model.vocabulary if bound else None

    @property
    def vocabulary_file(self) -> Path:
        """Where its words are, for people."""
        return Path(self.source) / "vocab.txt"

    @property
    def title(self) -> str:
        """What is taken from it, for people."""
        if self._run is not None:
            return f"{self.source}, its best weights"
        return self.source if self.has_softmax else f"{self.source}; its softmax, which it lacks, at random"

    def check(self, config: Config, vocabulary: Vocabulary | None) -> None:
        """Refuse a model that does not fit a run.

        Args:
            config: of the run, with the clusters chosen.
            vocabulary: of the run; None when it is not known yet.

        Raises:
            UserError: naming the field of the model that differs, or the vocabulary; or when there are no weights.
        """
        for path, theirs, ours in differences(self.config.model, config.model):
            if self._matters(path, theirs, ours, config):
                raise UserError(
                    f"config.init_from {self.source} has model.{path} = {theirs!r}, but this run has {ours!r}; weights "
                    f"fit only the same architecture: use --config.model.{path}={theirs!r}"
                )
        if self.vocabulary is not None and vocabulary is not None and self.vocabulary.digest() != vocabulary.digest():
            raise UserError(
                f"config.init_from {self.source} has another vocabulary than this run; leave config.data.vocabulary "
                f"empty to use its own ({self.vocabulary_file})"
            )
        if self._run is not None and not self._run.has_checkpoint:
            raise UserError(
                f"config.init_from {self.source} has no checkpoint in {self._run.checkpoints}; train it first"
            )

    def weights(self, initial: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Parameters to begin with, and where they are from.

        Args:
            initial: random ones, of which the softmax is taken when the model has none.

        Raises:
            UserError: when they cannot be read.
        """
        model = self._model
        missing = {name: part for name, part in initial.items() if name not in model.params}
        return {**model.params, **missing}, model.origin if self._run is not None else self.title

    def _matters(self, path: str, theirs: Any, ours: Any, config: Config) -> bool:
        """Whether the weights depend on a field of the model that differs."""
        if path in NOT_IN_WEIGHTS or (config.model.input == "words" and path.startswith("char_cnn.")):
            return False
        if path.startswith("softmax.") and not self.has_softmax:
            return False
        return not (path == "softmax.kind" and {theirs, ours} <= UNCLUSTERED)
