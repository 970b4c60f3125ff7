"""Token encoder of ELMoForManyLangs: the vector of the word beside the features of its characters (ELMO_SPEC 2.14)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from elmo_jax.config import CharCNN, Dictionaries
from elmo_jax.model.char_cnn import feature_shapes, features, init_group, linear, projection_shapes, types_at_a_time
from elmo_jax.model.initializers import symmetric_uniform
from elmo_jax.model.keeping import keeping


class DictionaryEncoder(nn.Module):
    """Encodes each distinct type of a batch once: word and characters side by side, projected together.

    Attributes:
        sizes: of the dictionaries; a model may have words alone, or characters alone.
        config: filters, activation, highway layers.
        projection_dim: width P of the result.
        dtype: of the products.
    """

    sizes: Dictionaries
    config: CharCNN
    projection_dim: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        sizes, config, init = self.sizes, self.config, symmetric_uniform(0.25)
        tables, shapes, width = {}, {}, sizes.word_dim
        if sizes.n_words:
            tables["word_embed"] = (sizes.n_words, sizes.word_dim)
        if sizes.n_characters:
            tables["char_embed"] = (sizes.n_characters, config.embedding.dim)
            shapes, width = feature_shapes(config), width + config.n_filters
        shapes["projection"] = projection_shapes(width, self.projection_dim)
        self.leaves = {
            **{name: self.param(name, init, shape) for name, shape in tables.items()},
            **{name: self.param(name, init_group, group) for name, group in shapes.items()},
        }

    def __call__(self, ids_UC: jax.Array, n_types: jax.Array) -> jax.Array:
        """Encode the first ``n_types`` rows.

        Args:
            ids_UC: int32 ``[U, 1 + C]``: the word, then its characters, each where the model has them.
            n_types: int32 scalar, rows in use.

        Returns:
            ``[U, P]`` in the compute dtype; zeros past ``n_types``.
        """
        return keeping(self._encode, self.leaves, ids_UC, n_types, types_at_a_time())

    def _encode(self, params: Any, ids_UC: jax.Array) -> jax.Array:
        parts = []
        if self.sizes.n_words:
            parts.append(params["word_embed"][ids_UC[:, 0]])
        if self.sizes.n_characters:
            chars_UC = ids_UC[:, 1 if self.sizes.n_words else 0 :]
            parts.append(features(params, chars_UC, self.config, self.dtype))
        kernel, bias = params["projection"]["kernel"], params["projection"]["bias"]
        return linear(jnp.concatenate(parts, axis=-1), kernel, bias, self.dtype).astype(self.dtype)
