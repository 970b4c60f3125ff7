"""Token encoder: characters -> convolutions -> max over positions -> highway layers -> projection (ELMO_SPEC 2.3)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from elmo_jax.config import CharCNN
from elmo_jax.model.compact import compact
from elmo_jax.model.convolution import largest_responses
from elmo_jax.model.highway import highway
from elmo_jax.model.initializers import Shapes, normal, symmetric_uniform, zeros
from elmo_jax.model.keeping import keeping
from elmo_jax.model.products import product

# 256 bytes and five marks: begin / end of sentence, begin / end of word, padding inside the token (ELMO_SPEC 2.1).
N_CHARACTERS = 261
PADDING = 260


class CharEncoder(nn.Module):
    """Encodes each distinct type of a batch once.

    Attributes:
        config: filters, activation, highway layers.
        projection_dim: width P of the result. The projection is left out when the filters number P.
        dtype: of the products.
    """

    config: CharCNN
    projection_dim: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        f, p = self.config.n_filters, self.projection_dim
        shapes = {**feature_shapes(self.config), **({"projection": projection_shapes(f, p)} if f != p else {})}
        self.char_embed = self.param("char_embed", symmetric_uniform(1.0), (N_CHARACTERS, self.config.embedding.dim))
        self.groups = {name: self.param(name, init_group, group) for name, group in shapes.items()}

    def __call__(self, chars_UC: jax.Array, n_types: jax.Array) -> jax.Array:
        """Encode the first ``n_types`` rows.

        Args:
            chars_UC: uint16 ``[U, C]`` character ids in 0..260.
            n_types: int32 scalar, rows in use.

        Returns:
            ``[U, P]`` in the compute dtype; zeros past ``n_types``.
        """
        params = {"char_embed": self.char_embed, **self.groups}
        return keeping(self._encode, params, chars_UC, n_types, types_at_a_time())

    def embed(self, chars_UC: jax.Array) -> jax.Array:
        """The embeddings of characters, ``[U, C, E]``: what ``encode_embedded`` goes on from."""
        return self.char_embed[chars_UC]

    def encode_embedded(self, x_UCE: jax.Array, n_types: jax.Array) -> jax.Array:
        """As ``__call__`` of the characters that have these embeddings: for gradients with respect to each of them."""

        def encode(params: Any, x_UCE: jax.Array) -> jax.Array:
            u, c, e = x_UCE.shape
            # Every character has a row of its own.
            table, row_UC = x_UCE.reshape(u * c, e), jnp.arange(u * c).reshape(u, c)
            return self._encode({**params, "char_embed": table}, row_UC, padding=None)

        return compact(encode, self.groups, x_UCE, n_types, types_at_a_time())

    def _encode(self, params: Any, chars_UC: jax.Array, padding: int | None = PADDING) -> jax.Array:
        x_UF = features(params, chars_UC, self.config, self.dtype, padding)
        if "projection" in params:
            x_UF = linear(x_UF, params["projection"]["kernel"], params["projection"]["bias"], self.dtype)
        return x_UF.astype(self.dtype)


def features(params: Any, chars_UC: jax.Array, config: CharCNN, dtype: Any, padding: int | None = None) -> jax.Array:
    """What filters and highway layers make of characters: float32 ``[U, F]``.

    Args:
        params: ``char_embed`` and the leaves of ``feature_shapes``.
        chars_UC: whole numbers ``[U, C]``, rows of ``char_embed``.
        config: filters, activation, highway layers.
        dtype: of the products.
        padding: the id that fills a row past the end of its token, if it is known: then short tokens take less work.
    """
    act = {"relu": jax.nn.relu, "tanh": jnp.tanh}[config.activation]
    cnn = [params[f"cnn_{i}"] for i in range(len(config.filters))]
    kernels, bias_F = [c["kernel"] for c in cnn], jnp.concatenate([c["bias"] for c in cnn])
    x_UF = act(largest_responses(kernels, params["char_embed"], chars_UC, padding, dtype) + bias_F)
    for k in range(config.n_highway):
        x_UF = highway(dtype, dict(params[f"highway_{k}"]), x_UF)
    return x_UF


def types_at_a_time() -> int:
    """Types encoded together: few on CPU, as the last ones are computed whether there are any or not."""
    # Measured on CPU, reckoned elsewhere (docs/performance.md).
    return 128 if jax.default_backend() == "cpu" else 1024


def feature_shapes(config: CharCNN) -> dict[str, Shapes]:
    """Initial values and shapes of the parameters of ``features`` but for ``char_embed``."""
    e, f = config.embedding.dim, config.n_filters
    return {
        **{f"cnn_{i}": _cnn_shapes(w, e, n, config.activation) for i, (w, n) in enumerate(config.filters)},
        **{f"highway_{k}": _highway_shapes(f) for k in range(config.n_highway)},
    }


def projection_shapes(n_in: int, n_out: int) -> Shapes:
    """Initial values and shapes of a projection."""
    return {"kernel": (normal(n_in), (n_in, n_out)), "bias": (zeros, (n_out,))}


def init_group(key: jax.Array, shapes: Shapes) -> dict[str, jax.Array]:
    """Initial values of several parameters."""
    keys = jax.random.split(key, len(shapes))
    return {name: init(k, shape) for k, (name, (init, shape)) in zip(keys, shapes.items(), strict=True)}


def _cnn_shapes(width: int, e: int, n: int, activation: str) -> Shapes:
    init = symmetric_uniform(0.05) if activation == "relu" else normal(width * e)
    return {"kernel": (init, (width, e, n)), "bias": (zeros, (n,))}


def _highway_shapes(f: int) -> Shapes:
    # The bias of -2 lets most of the input through at first (Srivastava et al. 2015).
    return {
        "carry_kernel": (normal(f), (f, f)),
        "carry_bias": (nn.initializers.constant(-2.0), (f,)),
        "transform_kernel": (normal(f), (f, f)),
        "transform_bias": (zeros, (f,)),
    }


def linear(x: jax.Array, kernel: jax.Array, bias: jax.Array, dtype: Any) -> jax.Array:
    """``x @ kernel + bias``: product in ``dtype``, sum in float32 or better."""
    return product(x.astype(dtype), kernel.astype(dtype)) + bias
