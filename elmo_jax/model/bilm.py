"""The language model: token encoder, a stack of LSTM layers for each direction, one softmax (ELMO_SPEC 2.5)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from elmo_jax import config as configuration
from elmo_jax.model.char_cnn import CharEncoder
from elmo_jax.model.clusters import Clusters
from elmo_jax.model.dictionary_encoder import DictionaryEncoder
from elmo_jax.model.lstm import Carry, ProjectedLSTM
from elmo_jax.model.softmax import make_softmax
from elmo_jax.model.word_table import WordEncoder


def compute_dtype(config: configuration.Model) -> Any:
    """The dtype of the products: as configured, where "auto" is bfloat16 on accelerators and float32 on CPU."""
    if config.compute_dtype == "auto":
        return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    return jnp.dtype(config.compute_dtype)


def zero_carry(config: configuration.Model, n_rows: int) -> Carry:
    """The state before any text: ``{"cell": [B, L, D, C], "hidden": [B, L, D, P]}``, float32 zeros."""
    lstm = config.lstm
    shape = (n_rows, lstm.n_layers, len(config.directions))
    return {"cell": jnp.zeros((*shape, lstm.dim)), "hidden": jnp.zeros((*shape, lstm.projection_dim))}


def smallest_inputs(config: configuration.Model) -> tuple[Any, ...]:
    """Inputs of ``BiLM`` of one type, one position and one row: what ``init`` needs to know about shapes."""
    types_U = jnp.zeros(1, jnp.int32) if config.token_width is None else jnp.zeros((1, config.token_width), jnp.uint16)
    mask_TB = jnp.zeros((1, 1), bool)
    index_DTB = jnp.zeros((len(config.directions), 1, 1), jnp.int32)
    return types_U, jnp.int32(1), index_DTB, mask_TB, mask_TB, zero_carry(config, 1)


class BiLM(nn.Module):
    """A language model in two directions or one, over characters or words.

    Attributes:
        config: architecture.
        clusters: vocabulary size and, for the adaptive softmax, where its clusters end.
        dtype: of the products; state, softmax and loss are float32.
        stepwise: how the LSTM layers run, see ``lstm``.
        recompute_gates: what their gradients keep, see ``lstm``.

    Example:
        >>> model = BiLM(config.model, Clusters(1000, ()))
        >>> params = model.init(key, *smallest_inputs(config.model), method="everything")["params"]
        >>> layers, carry = model.apply({"params": params}, types, n_types, index, reset, keep, carry)
    """

    config: configuration.Model
    clusters: Clusters
    dtype: Any = jnp.float32
    stepwise: bool | None = None
    recompute_gates: bool = False

    def setup(self) -> None:
        config, lstm, p = self.config, self.config.lstm, self.config.lstm.projection_dim
        words = WordEncoder(self.clusters.n_words, p, self.dtype) if config.input == "words" else None
        self.encoder = words or (
            CharEncoder(config.char_cnn, p, self.dtype)
            if config.input == "characters"
            else DictionaryEncoder(config.dictionaries, config.char_cnn, p, self.dtype)
        )
        layer = lstm, len(config.directions), self.dtype, self.stepwise, self.recompute_gates
        self.lstm = [ProjectedLSTM(*layer) for _ in range(lstm.n_layers)]
        shared = words if config.share_embedding_softmax else None
        self.softmax = make_softmax(config.softmax, self.clusters, p, self.dtype, shared)

    def __call__(
        self,
        types_U: jax.Array,
        n_types: jax.Array,
        index_DTB: jax.Array,
        reset_TB: jax.Array,
        keep_TB: jax.Array,
        carry: Carry,
        dropout_keys_B: jax.Array | None = None,
    ) -> tuple[list[jax.Array], Carry]:
        """All layers of a window.

        Args:
            types_U: the distinct types, as the encoder reads them: uint16 ``[U, C]`` characters, int32 ``[U]`` words,
                or int32 ``[U, 1 + C]`` both.
            n_types: int32 scalar, types in use.
            index_DTB: int32, the type of every position, each direction in its own reading order.
            reset_TB: bool, start from the zero state here.
            keep_TB: bool, a real position.
            carry: state before the window, ``[B, L, D, ...]`` (see ``zero_carry``).
            dropout_keys_B: one random key a row; None switches dropout off.

        Returns:
            ``n_layers + 1`` arrays ``[D, T, B, P]``, the token encodings first, and the state after the window. With
            dropout the last one is what the softmax should see.
        """
        x_DTBP = self.encode(types_U, n_types)[index_DTB]
        return self.stack(x_DTBP, reset_TB, keep_TB, carry, dropout_keys_B)

    def encode(self, types_U: jax.Array, n_types: jax.Array) -> jax.Array:
        """The encodings of distinct types, ``[U, P]`` in the dtype of the products; zeros past ``n_types``."""
        return self.encoder(types_U, n_types)

    def stack(
        self,
        x_DTBP: jax.Array,
        reset_TB: jax.Array,
        keep_TB: jax.Array,
        carry: Carry,
        dropout_keys_B: jax.Array | None = None,
    ) -> tuple[list[jax.Array], Carry]:
        """All layers of a window whose token encodings are given; see ``__call__``, whose first layer they are."""
        layers, states = [x_DTBP], []
        for number, layer in enumerate(self.lstm):
            x_DTBP = self._dropout(x_DTBP, dropout_keys_B, number)
            state = {name: value[:, number].swapaxes(0, 1) for name, value in carry.items()}
            y_DTBP, state = layer(x_DTBP, state, reset_TB, keep_TB)
            # The skip is added after the projection clip and is not fed back into the recurrence.
            skip = number > 0 and self.config.lstm.use_skip_connections
            x_DTBP = y_DTBP + x_DTBP if skip else y_DTBP
            layers.append(x_DTBP)
            states.append({name: value.swapaxes(0, 1) for name, value in state.items()})
        layers[-1] = self._dropout(x_DTBP, dropout_keys_B, len(self.lstm))
        return layers, jax.tree.map(lambda *s: jnp.stack(s, axis=1), *states)

    def loss(
        self, top_DTBP: jax.Array, targets_DTB: jax.Array, weight_DTB: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The weighted sum of the training losses of all predictions, and these: float32, ``[D, T, B]``, in nats.

        The sum alone has gradients, and none with respect to the weights, which it needs to know for that; ``key``
        draws a sampled softmax's words.
        """
        top_DNP, targets_DN = self._flat(top_DTBP.astype(self.dtype)), self._flat(targets_DTB)
        total, nll_DN = self.softmax.loss(top_DNP, targets_DN, self._flat(weight_DTB), key)
        return total, nll_DN.reshape(targets_DTB.shape)

    def log_prob(self, top_DTBP: jax.Array, targets_DTB: jax.Array) -> jax.Array:
        """Exact log-probability of every target, float32 ``[D, T, B]``; it has no gradient."""
        log_prob_DN = self.softmax.log_prob(self._flat(top_DTBP.astype(self.dtype)), self._flat(targets_DTB))
        return log_prob_DN.reshape(targets_DTB.shape)

    def log_probs(self, top_NP: jax.Array) -> jax.Array:
        """Exact log-probability of every word at every position, float32 ``[N, V]``: for few positions."""
        return self.softmax.log_probs(top_NP.astype(self.dtype))

    def everything(self, *inputs: Any) -> jax.Array:
        """Run every part once: what ``init`` needs to make all parameters."""
        layers, _ = self(*inputs)
        return self.log_prob(layers[-1], jnp.zeros(layers[-1].shape[:-1], jnp.int32))

    @staticmethod
    def _flat(x_DTB: jax.Array) -> jax.Array:
        d, t, b, *rest = x_DTB.shape
        return x_DTB.reshape(d, t * b, *rest)

    def _dropout(self, x_DTBP: jax.Array, keys_B: jax.Array | None, site: int) -> jax.Array:
        """Inverted dropout of the input of layer ``site``, where the softmax counts as the last layer.

        The mask is a function of the row's key and the site alone. It is fresh at every position, or one for all
        positions of the window (Gal and Ghahramani 2016; Merity et al. 2018), each direction with its own.
        """
        rate = self.config.dropout
        place = {0: "input", self.config.lstm.n_layers: "output"}.get(site, "between")
        if keys_B is None or rate == 0.0 or place not in self.config.dropout_places:
            return x_DTBP
        d, t, _, p = x_DTBP.shape
        shape = (d, 1 if self.config.dropout_mask == "window" else t, p)

        def row_mask(key: jax.Array) -> jax.Array:
            return jax.random.bernoulli(jax.random.fold_in(key, site), 1.0 - rate, shape)

        keep_DTBP = jax.vmap(row_mask, out_axes=2)(keys_B)
        return jnp.where(keep_DTBP, x_DTBP / (1.0 - rate), 0.0)
