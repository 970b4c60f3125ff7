"""A pretrained model, whatever files it came from: what every tool that uses a model is given."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from elmo_jax.config import Config
from elmo_jax.data.dictionaries import Dictionaries
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.spelling import Characters, Spelling, Words, WordsAndCharacters
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.model.bilm import BiLM, compute_dtype
from elmo_jax.model.clusters import Clusters

# Of the normalisation of layers, below the square root: bilm-tf's, and AllenNLP's of float32 (ELMO_SPEC 2.8).
EPSILON = {"tokens": 1e-12, "tokens+boundaries": 1e-13}


@dataclass(frozen=True)
class Mix:
    """A learnt mixture of the layers (ELMO_SPEC 2.8): ``gamma * sum_j softmax(weights)_j h_j``.

    Attributes:
        weights: one for each layer, the token encodings first, before their softmax; none: all layers alike.
        gamma: what the sum is multiplied by.
        norm: whether each layer is normalised first, and over what: bilm-tf and AllenNLP differ there.

    Raises:
        UserError: for numbers that are not finite, and for a normalisation that there is not.
    """

    weights: tuple[float, ...] = ()
    gamma: float = 1.0
    norm: Literal["none", "tokens", "tokens+boundaries"] = "none"

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.weights, self.gamma))):
            raise UserError(f"a mix has the weights {self.weights} and gamma {self.gamma}: they must be finite numbers")
        if self.norm not in ("none", *EPSILON):
            raise UserError(f"the norm of a mix is {self.norm!r}: use one of none, {', '.join(EPSILON)}")


@dataclass(frozen=True)
class Pretrained:
    """Weights and what belongs to them.

    Attributes:
        config: architecture, tokeniser and, as far as it is known, training.
        params: the parameter tree of docs/design.md, float32. It may lack ``softmax``: then the model gives vectors and
            no probabilities.
        vocabulary: the words of the softmax, or of a model of words; None when it is not known.
        origin: where the weights are from, for people.
        step: the checkpoint that they are from, if they are from one.
        mixes: mixtures of the layers that were learnt with them.
        about: what is known besides, for a model card: perplexity, tokens, licence, ... (interop/model_card.py).
    """

    config: Config
    params: Any
    vocabulary: Vocabulary | None
    origin: str
    step: int | None = None
    mixes: tuple[Mix, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    dictionaries: Dictionaries | None = None

    @property
    def model(self) -> BiLM:
        """The network that the weights are of."""
        model = self.config.model
        return BiLM(model, Clusters(self.n_words, model.softmax.cutoffs), compute_dtype(model))

    @property
    def n_words(self) -> int:
        """Words of the vocabulary; 1 when there is none."""
        return 1 if self.vocabulary is None else len(self.vocabulary)

    @property
    def training_known(self) -> bool:
        """Whether ``config`` says how the model was trained; for one from elsewhere it has defaults there."""
        return self.step is not None

    @property
    def segmentation(self) -> Segmentation:
        """How text is cut into sentences and tokens for it."""
        data = self.config.data
        return Segmentation(data.tokenizer, data.sentences, data.language)

    @property
    def segmentation_known(self) -> bool:
        """Whether ``segmentation`` is that of the training text; of most models from elsewhere nobody says."""
        recorded = self.vocabulary is not None and self.vocabulary.tokenizer is not None
        return self.training_known or recorded or not self.segmentation.plain

    @property
    def spelling(self) -> Spelling:
        """How tokens become what its encoder reads."""
        model = self.config.model
        if model.input == "words":
            return Words(self.words())
        width = model.char_cnn.max_characters_per_token
        if model.input == "characters":
            return Characters(width)
        if self.dictionaries is None:
            raise UserError(f"{self.origin} has no dictionaries; put its char.dic and word.dic beside its weights")
        return WordsAndCharacters(self.dictionaries, width)

    def words(self) -> Vocabulary:
        """The vocabulary.

        Raises:
            UserError: when it is not known.
        """
        if self.vocabulary is None:
            raise UserError(f"{self.origin} has no vocabulary; put its vocab.txt beside its weights")
        return self.vocabulary

    def require_softmax(self) -> None:
        """Refuse a model that can give no probabilities.

        Raises:
            UserError: when it has no softmax, or no vocabulary that says what its rows are.
        """
        if "softmax" not in self.params:
            raise UserError(
                f"{self.origin} has no softmax, so it gives vectors and no probabilities; use a run, a pretrained "
                "directory, or bilm-tf files with their softmax file"
            )
        self.words()

    def save_pretrained(self, directory: str | Path, *, dtype: str = "float32", overwrite: bool = False) -> None:
        """Write a directory that ``elmo_jax.from_pretrained`` reads: weights, configuration, vocabulary, model card.

        Args:
            directory: is made, with its parents.
            dtype: of the stored numbers, "float32", "bfloat16" or "float16"; they are read back as float32.
            overwrite: whether an earlier pretrained directory there may be replaced.

        Raises:
            UserError: when there is something at ``directory``, the parts of the model do not fit each other, or it
                cannot be written: then nothing is.

        Example:
            >>> elmo_jax.from_pretrained("runs/quickstart").save_pretrained("my-elmo")
            >>> elmo_jax.from_pretrained("my-elmo").step
            680
        """
        from elmo_jax.interop import pretrained_directory
        from elmo_jax.interop.outputs import refuse_existing

        if not overwrite:
            refuse_existing(Path(directory))
        pretrained_directory.save(Path(directory), self, dtype)
