"""The weighted sum of the layers of a biLM, as a layer of a Flax model (Peters et al. 2018; ELMO_SPEC 2.8)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import EPSILON, Mix

# The collection that the L2 terms are sown in.
LOSSES = "losses"

# Before a softmax: no part in the sum, to the last bit.
NEVER = -1e4


class ScalarMix(nn.Module):
    """``gamma * sum_j softmax(weights)_j h_j`` over the layers ``h_j``, with ``weights`` and ``gamma`` to be learnt.

    bilm-tf takes the softmax of ``weights + 1 / n_layers``, which is the same. The layers may be normalised first: each
    by one mean and one variance over all features of all tokens that count, ``(h - mean) / sqrt(variance + epsilon)``,
    without scale and shift. What counts differs: in bilm-tf the words, in AllenNLP the boundaries of sentences too. So
    a normalised vector depends on what else is in the batch.

    Parameters: ``weights`` float32 ``[L]`` (not with ``use_top_only``) and ``gamma`` float32 scalar.

    Attributes:
        initial: values to start from, and how layers are normalised.
        use_top_only: ``gamma * h_top``, without weights, normalisation and L2 term.
        trainable: False keeps the values of ``initial`` and makes no parameters: AllenNLP's ``scalar_mix_parameters``.
        dropout: of the result; its mask is drawn from the rng ``dropout`` unless the call is deterministic.
        l2_coefficient: bilm-tf's ``l2_coef``. Above 0, ``l2_coefficient * sum(weights ** 2)`` is sown as ``l2`` in the
            collection ``losses``, for the loss of whoever trains.

    Example:
        >>> mix = ScalarMix(l2_coefficient=0.001)
        >>> params = mix.init(jax.random.key(0), layers)["params"]
        >>> mixed, state = mix.apply({"params": params}, layers, mutable=["losses"])
        >>> loss = task_loss(mixed) + sum(jax.tree.leaves(state["losses"]))
    """

    initial: Mix = Mix()
    use_top_only: bool = False
    trainable: bool = True
    dropout: float = 0.0
    l2_coefficient: float = 0.0

    @nn.compact
    def __call__(
        self,
        layers: Sequence[jax.Array] | jax.Array,
        mask: jax.Array | None = None,
        boundaries: jax.Array | None = None,
        *,
        deterministic: bool = True,
    ) -> jax.Array:
        """Mix.

        Args:
            layers: L arrays ``[..., T, F]``, or one ``[L, ..., T, F]``, the token encodings first.
            mask: bool ``[..., T]``, real positions; None is all of them.
            boundaries: bool ``[..., T]``, which positions are ``<S>`` and ``</S>``; None is none of them.
            deterministic: False applies dropout.

        Returns:
            ``[..., T, F]``, at least float32; zeros where ``mask`` is False.

        Raises:
            UserError: when ``initial`` has not as many weights as there are layers, a setting has no effect beside
                ``use_top_only``, or the normalisation is over boundaries and there are none.
        """
        self._check(len(layers), boundaries)
        mask = jnp.ones(layers[0].shape[:-1], bool) if mask is None else mask
        wide = [layer.astype(jnp.promote_types(layer.dtype, jnp.float32)) for layer in layers]
        gamma = self._value("gamma", self.initial.gamma)
        if self.use_top_only:
            mixed = gamma * wide[-1]
        else:
            weights = self._value("weights", self.initial.weights or (0.0,) * len(wide))
            self._sow_l2(weights)
            if self.initial.norm != "none":
                inner = mask if boundaries is None else mask & ~boundaries
                counted = inner if self.initial.norm == "tokens" else mask
                wide = [normalised(layer, counted, EPSILON[self.initial.norm]) for layer in wide]
            shares = jax.nn.softmax(weights)
            mixed = gamma * sum(share * layer for share, layer in zip(shares, wide, strict=True))
        mixed = nn.Dropout(self.dropout)(mixed, deterministic=deterministic)
        return jnp.where(mask[..., None], mixed, 0)

    def learnt(self, params: dict[str, jax.Array], n_layers: int) -> Mix:
        """What the parameters have become, as a ``Mix``: for ``Pretrained.mixes``."""
        gamma = float(params.get("gamma", self.initial.gamma))
        top = (*(NEVER,) * (n_layers - 1), 0.0)
        weights = top if self.use_top_only else params.get("weights", self.initial.weights or (0.0,) * n_layers)
        return Mix(tuple(map(float, weights)), gamma, self.initial.norm)

    def _value(self, name: str, start: float | tuple[float, ...]) -> jax.Array:
        value = jnp.asarray(start, jnp.float32)
        return self.param(name, lambda key: value) if self.trainable else value

    def _sow_l2(self, weights: jax.Array) -> None:
        if self.l2_coefficient and not self.is_initializing():
            # A mix that is applied twice in a model is regularised once.
            term = self.l2_coefficient * jnp.sum(weights**2)
            self.sow(LOSSES, "l2", term, reduce_fn=lambda earlier, now: now, init_fn=lambda: 0.0)

    def _check(self, n_layers: int, boundaries: jax.Array | None) -> None:
        mix = self.initial
        if mix.weights and len(mix.weights) != n_layers:
            raise UserError(f"the mix has {len(mix.weights)} weights for {n_layers} layers; give one a layer, or none")
        if self.use_top_only and (mix.weights or mix.norm != "none" or self.l2_coefficient):
            raise UserError("use_top_only has no weights, norm or L2 term; leave them out, or use_top_only")
        if mix.norm == "tokens+boundaries" and boundaries is None:
            raise UserError(
                'norm "tokens+boundaries" is over the vectors of <S> and </S> too, and they are not among the layers; '
                'keep them and say where they are, or take norm "tokens"'
            )


def normalised(layer: jax.Array, counted: jax.Array, epsilon: float) -> jax.Array:
    """``(h - mean) / sqrt(variance + epsilon)``: one mean and one variance of all features where ``counted``.

    Args:
        layer: float ``[..., F]``.
        counted: bool ``[...]``.
        epsilon: keeps the root away from 0.
    """
    n = jnp.maximum(counted.sum(dtype=layer.dtype), 1) * layer.shape[-1]
    mean = jnp.where(counted[..., None], layer, 0).sum() / n
    variance = jnp.where(counted[..., None], (layer - mean) ** 2, 0).sum() / n
    return (layer - mean) / jnp.sqrt(variance + epsilon)
