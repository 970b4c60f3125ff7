"""The ELMos in a state dict of AllenNLP, and the parameter tree of one (ELMO_SPEC 2.9)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from elmo_jax.config import CharCNN, CharEmbedding, Model
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Mix
from elmo_jax.interop.torch_weights import ANY, Array, Weights, lstm_layers, lstm_shapes

# The array that every ELMo has, and no other module. What is before it is the name of a biLM.
_MARK = "_token_embedder._char_embedding_weights"
# `Elmo` holds its biLM by this name, and its mixtures beside it.
_BILM = "_elmo_lstm."
# A row of zeros for "no token", 256 bytes and five marks.
_N_CHARACTERS = 262
# AllenNLP cuts and pads every token to this, whatever the options say.
MAX_CHARACTERS = 50


def bilms(arrays: Mapping[str, Array]) -> list[str]:
    """The prefix of every biLM in a state dict: ``_elmo_lstm.`` of a bare `Elmo`, or a longer one that ends so."""
    return sorted(name.removesuffix(_MARK) for name in arrays if name.endswith(_MARK))


def same(arrays: Mapping[str, Array], prefixes: list[str]) -> bool:
    """Whether the biLMs with these prefixes have the same weights."""
    first, *others = [
        {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        for prefix in prefixes
    ]
    return all(
        first.keys() == other.keys() and all(np.array_equal(first[name], other[name]) for name in first)
        for other in others
    )


def architecture(weights: Weights) -> Model:
    """What the shapes tell of a biLM; activation, clips and skip connections are AllenNLP's published ones."""
    encoder, stack = weights.below("_token_embedder."), weights.below("_elmo_lstm.")
    kernels = [
        encoder.take(f"char_conv_{i}.weight", ANY, ANY, ANY) for i in range(encoder.count("char_conv_{}.weight"))
    ]
    dim = encoder.take("_char_embedding_weights", _N_CHARACTERS, ANY).shape[1]
    cnn = CharCNN(
        embedding=CharEmbedding(dim),
        filters=tuple((kernel.shape[2], kernel.shape[0]) for kernel in kernels),
        max_characters_per_token=MAX_CHARACTERS,
        n_highway=encoder.count("_highways._layers.{}.weight"),
    )
    return Model(char_cnn=cnn, lstm=lstm_shapes(stack))


def parameters(weights: Weights, model: Model) -> dict[str, Any]:
    """The parameter tree of docs/design.md, without a softmax, of the biLM that ``weights`` are of.

    Raises:
        UserError: naming what is missing or mis-shaped.
    """
    encoder, cnn, p = weights.below("_token_embedder."), model.char_cnn, model.lstm.projection_dim
    dim, f = cnn.embedding.dim, cnn.n_filters
    if f == p:
        raise UserError(f"the biLM {weights.prefix} projects {f} filters to as many, which has no place in our layout")
    tree: dict[str, Any] = {
        "char_embed": encoder.take("_char_embedding_weights", _N_CHARACTERS, dim)[1:].copy(),
        **{f"cnn_{i}": encoder.convolution(f"char_conv_{i}", dim) for i in range(len(cnn.filters))},
        **{f"highway_{k}": encoder.highway(f"_highways._layers.{k}", f) for k in range(cnn.n_highway)},
        "projection": encoder.linear("_projection", f, p),
    }
    return {"encoder": tree, **lstm_layers(weights.below("_elmo_lstm."), model.lstm)}


def mixes(weights: Weights, model: Model, *, do_layer_norm: bool) -> tuple[Mix, ...]:
    """The mixtures beside the biLM that ``weights`` are of: ``scalar_mix_0``, ``scalar_mix_1``, ..."""
    if not weights.prefix.endswith(_BILM):
        return ()
    elmo = Weights(weights.arrays, weights.prefix.removesuffix(_BILM), weights.origin)
    n_layers = model.lstm.n_layers + 1
    return tuple(
        Mix(
            tuple(float(elmo.take(f"scalar_mix_{r}.scalar_parameters.{j}", 1)[0]) for j in range(n_layers)),
            float(elmo.take(f"scalar_mix_{r}.gamma", 1)[0]),
            "tokens+boundaries" if do_layer_norm else "none",
        )
        for r in range(elmo.count("scalar_mix_{}.gamma"))
    )
