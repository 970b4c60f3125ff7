"""What of the layers is wanted: which of them, mixed or not, pooled or not."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import EPSILON, Mix, Pretrained

Array = npt.NDArray[Any]
Layers = Literal["all", "top", "average", "mix"] | int | Mix
Pooling = Literal["mean", "max", "first", "last", "final"]

POOLINGS = ("mean", "max", "first", "last", "final")


@dataclass(frozen=True)
class Wanted:
    """Checked wishes.

    Attributes:
        weights: of the layers in a sum, float64 ``[n_layers + 1]``; None for all layers.
        mix: a mixture of normalised layers, which is made of all layers of a sentence.
        pooling: how the words of a sentence become one vector, or None.
        boundaries: whether the rows of ``<S>`` and ``</S>`` are kept.
        n_directions: directions that lie side by side in a vector.
    """

    weights: Array | None
    mix: Mix | None
    pooling: Pooling | None
    boundaries: bool
    n_directions: int

    @property
    def needs_boundaries(self) -> bool:
        """Whether the vectors of boundaries are wanted, or needed for what is."""
        return self.boundaries or (self.mix is not None and self.mix.norm == "tokens+boundaries")

    @property
    def encodings_only(self) -> bool:
        """Whether the LSTM layers do not matter."""
        return self.weights is not None and not self.weights[1:].any()

    def finish(self, layers_LTQ: Array) -> Array:
        """What was wanted of a sentence.

        Args:
            layers_LTQ: all layers or one sum ``[1, tokens, D P]``, with boundaries if ``needs_boundaries``.
        """
        if self.mix is not None:
            layers_LTQ = normalised_mix(layers_LTQ, self.mix)[None]
            if self.needs_boundaries and not self.boundaries:
                layers_LTQ = layers_LTQ[:, 1:-1]
        result = layers_LTQ if self.weights is None and self.mix is None else layers_LTQ[0]
        return result if self.pooling is None else pool(result, self.pooling, self.n_directions)


def wanted(pretrained: Pretrained, layers: Layers, pooling: Pooling | None, boundaries: bool) -> Wanted:
    """Check what is asked of a model.

    Raises:
        UserError: for layers, a mixture or a pooling that there is not.
    """
    model = pretrained.config.model
    n_layers = model.lstm.n_layers + 1
    rest = (pooling, boundaries, len(model.directions))
    if pooling is not None and pooling not in POOLINGS:
        raise UserError(
            f"pooling is {pooling!r}: use one of {', '.join(POOLINGS)}, or None for the vector of every word"
        )
    if not isinstance(layers, str | int | np.integer | Mix):
        raise _no_layers(layers, n_layers)
    if layers == "mix":
        if not pretrained.mixes:
            raise UserError(
                f"{pretrained.origin} has no learnt mixture of layers; give one: --mix, or layers=Mix(weights, gamma)"
            )
        layers = pretrained.mixes[0]
    if isinstance(layers, Mix):
        # A mixture without weights has not learnt any: all are equal.
        layers = replace(layers, weights=layers.weights or (0.0,) * n_layers)
        if len(layers.weights) != n_layers:
            raise UserError(f"the mixture has {len(layers.weights)} weights: the model has {n_layers} layers")
        if layers.norm != "none":
            return Wanted(None, layers, *rest)
        weights = mix_weights(layers)
    elif layers == "all":
        return Wanted(None, None, *rest)
    elif layers == "average":
        weights = np.full(n_layers, 1 / n_layers)
    else:
        number = n_layers - 1 if layers == "top" else layers
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < n_layers:
            raise _no_layers(layers, n_layers)
        weights = np.eye(n_layers)[number]
    return Wanted(weights, None, *rest)


def _no_layers(layers: object, n_layers: int) -> UserError:
    return UserError(
        f"layers is {layers!r}: use 'all', 'top', 'average', 'mix', a Mix, or a layer from 0 (the token encodings) to "
        f"{n_layers - 1}"
    )


def mix_weights(mix: Mix) -> Array:
    """What each layer is weighed with: the softmax of the weights, times gamma; float64."""
    exponentials = np.exp(np.subtract(mix.weights, max(mix.weights)))
    return mix.gamma * exponentials / exponentials.sum()


def normalised_mix(layers_LTQ: Array, mix: Mix) -> Array:
    """A mixture of layers that are normalised first, each by one mean and one variance over a sentence (ELMO_SPEC 2.8).

    Args:
        layers_LTQ: all layers of a sentence, with its boundaries if these count.
        mix: with its kind of normalisation.

    Returns:
        ``[T, Q]``.
    """
    if not layers_LTQ.shape[1]:
        return layers_LTQ[0]
    centred = layers_LTQ - layers_LTQ.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    scale = np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True) + EPSILON[mix.norm])
    return np.tensordot(mix_weights(mix), centred / scale, axes=1).astype(layers_LTQ.dtype)


def pool(vectors: Array, pooling: Pooling, n_directions: int) -> Array:
    """One vector from those of all words, ``[..., T, D P] -> [..., D P]``; zeros where there is no word.

    ``"final"`` takes from each direction the word at which it has read the whole sentence: the forward half of the
    last word and the backward half of the first.
    """
    *leading, n_words, q = vectors.shape
    if n_words == 0:
        return np.zeros((*leading, q), vectors.dtype)
    if pooling == "mean":
        return vectors.mean(axis=-2, dtype=np.float64).astype(vectors.dtype)
    if pooling == "max":
        return vectors.max(axis=-2)
    first, last = vectors[..., 0, :], vectors[..., -1, :]
    if pooling == "final":
        half = q // n_directions
        return np.concatenate([last[..., :half], first[..., half:]], axis=-1)
    return (first if pooling == "first" else last).copy()
