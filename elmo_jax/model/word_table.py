"""Token encoder without characters: one row of a table for each word of the vocabulary (ELMO_SPEC 2.9)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from elmo_jax.model.initializers import glorot


class WordEncoder(nn.Module):
    """Looks up each distinct word of a batch once, so that the gradient is added to as many rows and no more.

    The table starts with Glorot's uniform values, as that of bilm-tf, which names no initialiser, does by TensorFlow's
    default.

    Attributes:
        n_words: rows of the table, V.
        projection_dim: width P of the result.
        dtype: of the result.
    """

    n_words: int
    projection_dim: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        v, p = self.n_words, self.projection_dim
        self.embedding = self.param("embedding", glorot(v, p), (v, p))

    def __call__(self, words_U: jax.Array, n_types: jax.Array) -> jax.Array:
        """Look up the first ``n_types`` words.

        Args:
            words_U: int32 ``[U]`` word ids.
            n_types: int32 scalar, words in use.

        Returns:
            ``[U, P]`` in the compute dtype; zeros past ``n_types``.
        """
        used_U1 = jnp.arange(words_U.shape[0])[:, None] < n_types
        return jnp.where(used_U1, self.embedding[words_U], 0).astype(self.dtype)
