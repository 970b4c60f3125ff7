"""ELMo as a layer of one's own Flax model: ids of sentences in, mixed vectors out, frozen or trained along."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from elmo_jax import config as configuration
from elmo_jax.data.characters import PAD
from elmo_jax.data.spelling import Characters
from elmo_jax.data.text import BOS, EOS
from elmo_jax.embed.scalar_mix import ScalarMix
from elmo_jax.embed.sentence_rows import Rows, counted, gathered, numbered, reading_order, text_order, with_boundaries
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Mix, Pretrained
from elmo_jax.model.bilm import BiLM, zero_carry
from elmo_jax.model.clusters import Clusters
from elmo_jax.model.lstm import Carry
from elmo_jax.train import trained


class ElmoOutput(NamedTuple):
    """What ``Elmo`` gives. T counts the boundaries too when they are kept; all vectors are zeros past each sentence.

    Attributes:
        representations: ``[..., T, F]`` for each mix: F = D P (both directions side by side), or ``projection_dim``.
        mask: bool ``[..., T]``, where there is a token.
        layers: the unmixed layers ``[L, ..., T, D P]``, the token encodings first.
        carry: the LSTM states after the last token of each row, ``[..., L, D, C]`` and ``[..., L, D, P]``.
    """

    representations: tuple[jax.Array, ...]
    mask: jax.Array
    layers: jax.Array
    carry: Carry


class Elmo(nn.Module):
    """A biLM and one or more learnt mixes of its layers (Peters et al. 2018).

    Each row is a sentence. ``<S>`` and ``</S>`` are put around it inside, each direction reads it within its own
    length, and no state stays behind: its vectors depend on nothing else unless layers are normalised.

    **Input** is one of three, all padded with zeros; dimensions before T are free, so ``[B, K, T, C]`` is K sentences
    for each of B.

    * ``ids [..., T, C]``, or ``[..., T]`` for a model of words: what ``batch_to_ids`` makes.
    * ``ids [..., T]`` and ``types``: each distinct word spelt once, which is faster; ``DistinctIds`` makes both.
    * ``ids [..., T]`` and ``table``: token encodings computed once, by ``encode``, of a vocabulary; words that it lacks
      are in ``types``. The vectors are those of the characters. A table is a constant: training the encoder makes it
      stale, and only what is spelt trains it. A table made inside the loss passes gradients on to the encoder.

    **Training.** All parameters are in "params": the biLM under ``bilm``, as docs/design.md has it, the mixes under
    ``mix_0``, ... No gradient reaches what ``train_bilm`` does not name; weight decay would change it all the same, so
    leave it out of the optimiser (docs/migration.md).

    **Saliency.** What the collection "perturbations" has is added to the embedding of every character,
    ``characters [..., T, C, E]`` (``[U, C, E]`` of ``types``), and to the encoding of every token and boundary,
    ``encodings [..., T + 2, P]``. ``apply`` with ``mutable=["perturbations"]`` makes the zeros to take gradients by.

    Attributes:
        config: the architecture, such as ``Pretrained.config.model``.
        n_words: of a model of words: rows of its table.
        boundaries: what the encoder reads of ``<S>`` and ``</S>``; None is right for characters alone.
        mixes: initial values and normalisation of each mix; ``Mix()`` starts as the average.
        train_mixes: False keeps the mixes as they are.
        train_bilm: "nothing"; "lstm", the LSTMs without the encoder, so that a table stays exact; or "all".
        use_top_only: each mix is ``gamma`` times the top layer.
        l2_coefficient: of the weights of the mixes; see ``ScalarMix``.
        dropout: of the mixed vectors, when not deterministic. Within the biLM there is none.
        projection_dim: width of a dense layer behind each mix, ``projection_0``, ...; None has none.
        keep_sentence_boundaries: the vectors of ``<S>`` and ``</S>`` stay, so that T is two more.
        dtype: of the products of the biLM; bfloat16 is faster on accelerators and good to about two digits.

    Example:
        >>> elmo, params = Elmo.from_pretrained("runs/quickstart")
        >>> ids = batch_to_ids([["A", "sentence", "."], ["Another"]])
        >>> output = jax.jit(elmo.apply)({"params": params}, ids)
        >>> output.representations[0].shape, output.mask.sum()
        ((2, 3, 128), 4)
    """

    config: configuration.Model
    n_words: int = 1
    boundaries: tuple[Any, Any] | None = None
    mixes: tuple[Mix, ...] = (Mix(),)
    train_mixes: bool = True
    train_bilm: Literal["nothing", "lstm", "all"] = "nothing"
    use_top_only: bool = False
    l2_coefficient: float = 0.0
    dropout: float = 0.0
    projection_dim: int | None = None
    keep_sentence_boundaries: bool = False
    dtype: Any = jnp.float32

    @classmethod
    def from_pretrained(
        cls, source: Pretrained | str | Path, *, seed: int = 0, **attributes: Any
    ) -> tuple["Elmo", dict[str, Any]]:
        """The layer with the weights of a model, and its parameters.

        Args:
            source: the model, or its path.
            seed: of the initial values of the projections.
            **attributes: of ``Elmo``. Left out, ``mixes`` are those that were learnt with the model, or one average.

        Raises:
            UserError: when there is no model at the path, or it is damaged.
        """
        model = source if isinstance(source, Pretrained) else trained.load(Path(source))
        attributes = {"mixes": model.mixes or (Mix(),), **attributes}
        if model.config.model.input != "characters":
            marks = [tuple(mark) if mark.ndim else int(mark) for mark in model.spelling([BOS, EOS])]
            attributes = {"n_words": model.n_words, "boundaries": tuple(marks), **attributes}
        elmo = cls(model.config.model, **attributes)
        lstm, mask = elmo.config.lstm, jnp.ones(1, bool)
        layers = jnp.zeros((lstm.n_layers + 1, 1, len(elmo.config.directions) * lstm.projection_dim))
        # The biLM is there: only what stands behind it is made.
        own = jax.jit(partial(elmo.init, method="represent"))(jax.random.key(seed), layers, mask, ~mask)
        bilm = {name: part for name, part in model.params.items() if name != "softmax"}
        return elmo, {"bilm": jax.tree.map(jnp.asarray, bilm), **own.get("params", {})}

    def to_pretrained(self, params: Mapping[str, Any], source: Pretrained) -> Pretrained:
        """The model with weights and mixes as they have become, for every export.

        Args:
            params: the parameters of this layer.
            source: the model that it was made from. Its softmax is kept unless the biLM was trained: it no longer fits.
        """
        bilm = jax.tree.map(np.asarray, dict(params["bilm"]))
        if self.train_bilm == "nothing" and "softmax" in source.params:
            bilm["softmax"] = source.params["softmax"]
        mixes = [ScalarMix(initial, self.use_top_only, parent=None) for initial in self.mixes]
        n_layers = self.config.lstm.n_layers + 1
        learnt = [mix.learnt(params.get(f"mix_{r}", {}), n_layers) for r, mix in enumerate(mixes)]
        return dataclasses.replace(source, params=bilm, mixes=tuple(learnt))

    def setup(self) -> None:
        """The biLM, its mixes and, where they are asked for, a projection behind each."""
        if self.train_bilm not in ("nothing", "lstm", "all"):
            raise UserError(f"train_bilm is {self.train_bilm!r}: use 'nothing', 'lstm' or 'all'")
        self.bilm = BiLM(self.config, Clusters(self.n_words), self.dtype)
        options = (self.use_top_only, self.train_mixes, self.dropout, self.l2_coefficient)
        self.mix = [ScalarMix(initial, *options) for initial in self.mixes]
        if self.projection_dim is not None:
            self.projection = [nn.Dense(self.projection_dim) for _ in self.mixes]

    def __call__(
        self,
        ids: jax.Array,
        *,
        types: jax.Array | None = None,
        n_types: jax.Array | int | None = None,
        table: jax.Array | None = None,
        carry: Carry | None = None,
        deterministic: bool = True,
    ) -> ElmoOutput:
        """The vectors of sentences.

        Args:
            ids: whole numbers, 0 for no token behind the others: ``[..., T, C]`` characters or ``[..., T]`` words, each
                plus one. With ``table`` of V words and ``types``: 1 to V, and V + 1 + u for row u of ``types``.
            types: ``[U, C]`` characters 0 to 260, or ``[U]`` words: as ``Spelling`` spells them.
            n_types: rows of ``types`` in use; None is all of them. No work is done for the rest.
            table: ``[V + 2, P]`` from ``encode``.
            carry: LSTM states to start from, as a call gives them; None is zeros (ELMO_SPEC 2.6).
            deterministic: False applies dropout, which needs an rng ``dropout``.

        Raises:
            UserError: for ids of another width than the model's characters.
        """
        ids = jnp.asarray(ids)
        if types is None and table is None:
            number, table = self._encode_each(ids)
        else:
            number, table = ids, self._joined(table, types, n_types)
        *lead, length = number.shape
        rows = with_boundaries(number.reshape(math.prod(lead), length))
        # An id that the table does not have must not pass for another word.
        x_BTP = table.at[rows.row_BT].get(mode="fill", fill_value=jnp.nan)
        layers, carry = self._stack(self._shifted("encodings", x_BTP.reshape(*lead, *x_BTP.shape[1:])), rows, carry)
        mask, words = rows.mask_BT.reshape(*lead, length + 2), number > 0
        boundaries = mask & ~jnp.pad(words, [*[(0, 0)] * len(lead), (1, 1)])
        mixed = self.represent(layers, mask, boundaries, deterministic=deterministic)
        if not self.keep_sentence_boundaries:
            mask = words
            mixed, layers = jax.tree.map(lambda x: jnp.where(words[..., None], x[..., 1:-1, :], 0), (mixed, layers))
        return ElmoOutput(mixed, mask, layers, carry)

    def encode(self, types: jax.Array, n_types: jax.Array | int | None = None) -> jax.Array:
        """A table for ``__call__``: the encodings of ``<S>``, ``</S>`` and U types, without any context.

        Args:
            types: ``[U, C]`` characters 0 to 260, or ``[U]`` words: as ``Spelling`` spells them.
            n_types: types in use, None for all.

        Returns:
            ``[U + 2, P]`` in ``dtype``; zeros past the types in use.

        Example:
            >>> table = elmo.apply({"params": params}, spelling(["the", "cat", "sat"]), method="encode")
            >>> batch = DistinctIds(spelling, known=["the", "cat", "sat"])([["the", "dog", "sat"]])
            >>> elmo.apply({"params": params}, **batch._asdict(), table=table).representations[0].shape
            (1, 3, 128)
        """
        types = jnp.asarray(types)
        n_used = jnp.int32((len(types) if n_types is None else n_types) + 2)
        if self._watched("characters"):
            x = self._shifted("characters", self._with_bilm(lambda bilm: bilm.encoder.embed(types)))
            return self._encode_embedded(x, n_used)
        types = jnp.concatenate([self._marks().astype(types.dtype), types])
        return self._with_bilm(lambda bilm: bilm.encode(types, n_used))

    def represent(
        self, layers: jax.Array, mask: jax.Array, boundaries: jax.Array | None = None, *, deterministic: bool = True
    ) -> tuple[jax.Array, ...]:
        """The representations of layers ``[L, ..., T, D P]`` that are there already; see ``ScalarMix``."""
        mixed = [mix(layers, mask, boundaries, deterministic=deterministic) for mix in self.mix]
        if self.projection_dim is not None:
            pairs = zip(self.projection, mixed, strict=True)
            mixed = [jnp.where(mask[..., None], projection(x), 0) for projection, x in pairs]
        return tuple(mixed)

    def _encode_each(self, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The numbers of the tokens and the table of their encodings, each by itself."""
        width = self.config.token_width
        if width is None:
            return counted(ids > 0), self.encode(jnp.maximum(ids.reshape(-1) - 1, 0))
        if ids.shape[-1] != width:
            raise UserError(
                f"ids of shape {ids.shape} have {ids.shape[-1]} characters a token and the model reads {width}; give "
                "batch_to_ids the spelling of the model, or say with types or a table what ids are of words"
            )
        there, spelt = (ids > 0).any(-1), jnp.where(ids > 0, ids - 1, PAD)
        if self._watched("characters"):
            x = self._shifted("characters", self._with_bilm(lambda bilm: bilm.encoder.embed(spelt)))
            return counted(there), self._encode_embedded(x.reshape(-1, *x.shape[-2:]), jnp.int32(there.size + 2))
        number = numbered(there)
        return number, self.encode(gathered(spelt, number, PAD), number.max(initial=0))

    def _encode_embedded(self, x_UCE: jax.Array, n_used: jax.Array) -> jax.Array:
        """The table of tokens by the embeddings of their characters."""

        def encode(bilm: BiLM, x_UCE: jax.Array) -> jax.Array:
            marks_UCE = bilm.encoder.embed(self._marks())
            return bilm.encoder.encode_embedded(jnp.concatenate([marks_UCE, x_UCE]), n_used)

        return self._with_bilm(encode, x_UCE)

    def _joined(self, table: Any, types: Any, n_types: Any) -> jax.Array:
        """The table, and behind it the encodings of types."""
        if types is None:
            return jnp.asarray(table)
        fresh = self.encode(types, n_types)
        return fresh if table is None else jnp.concatenate([table, fresh[2:]])

    def _stack(self, x: jax.Array, rows: Rows, carry: Carry | None) -> tuple[jax.Array, Carry]:
        """The layers ``[L, ..., T, D P]`` over encodings ``[..., T, P]``, boundaries included, and the states after."""
        lead, keep_TB = x.shape[:-2], rows.mask_BT.T
        start = zero_carry(self.config, len(rows.mask_BT))
        if carry is not None:
            start = {name: carry[name].reshape(zeros.shape) for name, zeros in start.items()}
        x_DTBP = reading_order(x.reshape(*rows.mask_BT.shape, x.shape[-1]), rows, len(self.config.directions))
        never_TB = jnp.zeros_like(keep_TB)
        layers, carry = self._with_bilm(lambda bilm, x_DTBP: bilm.stack(x_DTBP, never_TB, keep_TB, start), x_DTBP)
        stacked = jnp.stack([text_order(layer, rows) for layer in layers])
        stacked = stacked.reshape(len(layers), *x.shape[:-1], stacked.shape[-1])
        return stacked, {name: value.reshape(*lead, *value.shape[1:]) for name, value in carry.items()}

    def _marks(self) -> jax.Array:
        """What the encoder reads of ``<S>`` and ``</S>``."""
        marks = self.boundaries or Characters(self.config.char_cnn.max_characters_per_token)([BOS, EOS])
        return jnp.asarray(np.array(marks))

    def _with_bilm(self, function: Callable[..., Any], *inputs: Any) -> Any:
        """``function(bilm, *inputs)``, in which no gradient reaches parameters that are not to be trained."""
        if self.is_initializing() or self.train_bilm == "all":
            return function(self.bilm, *inputs)

        def stopped(variables: Any) -> Any:
            params = variables["params"]
            fixed = params if self.train_bilm == "nothing" else {"encoder": params["encoder"]}
            return {"params": {**params, **jax.lax.stop_gradient(fixed)}}

        return nn.map_variables(function, "params", stopped)(self.bilm, *inputs)

    def _watched(self, name: str) -> bool:
        """Whether perturbations of this name are given or asked for."""
        never = self.is_initializing() or (name == "characters" and self.config.input != "characters")
        return not never and (self.has_variable("perturbations", name) or self.is_mutable_collection("perturbations"))

    def _shifted(self, name: str, value: jax.Array) -> jax.Array:
        return self.perturb(name, value) if self._watched(name) else value
