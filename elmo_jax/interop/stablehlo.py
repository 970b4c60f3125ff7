"""A trained model as a StableHLO program, for processes that have JAX and NumPy and nothing else of ours.

::

    layers.stablehlo      (weights, ids [b, t, C]) -> layers [b, L + 1, t, D P]; word input: ids [b, t]
    log_probs.stablehlo   (weights, ids, words [b, t]) -> log-probabilities [b, D, t]; only when asked for
    model.safetensors     the weights, beside the programs: a program is small, whatever the size of the model
    vocab.txt             the words, where ids of words go in
    README.md             what goes in and comes out, and code that runs it

b and t are any numbers, and the programs are compiled for the CPU, CUDA or TPU where they run. Ids are those that users
have, of bilm-tf's ``Batcher`` and AllenNLP's ``batch_to_ids`` (ELMO_SPEC 2.1, 2.2), with boundaries: from 1 on, and 0
for no token, so that a batch needs no mask. Ids of words are lines of ``vocab.txt`` from 1 on, as of ``TokenBatcher``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax import export as jax_export

from elmo_jax.data.characters import PAD
from elmo_jax.errors import UserError
from elmo_jax.interop import safetensors_files, stablehlo_readme
from elmo_jax.interop.outputs import complete_directory
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.model.bilm import BiLM, zero_carry
from elmo_jax.model.char_cnn import types_at_a_time
from elmo_jax.model.compact import compact

LAYERS_FILE = "layers.stablehlo"
LOG_PROBS_FILE = "log_probs.stablehlo"
VOCABULARY_FILE = "vocab.txt"
FILES = frozenset({LAYERS_FILE, LOG_PROBS_FILE, VOCABULARY_FILE, "README.md"}) | safetensors_files.FILES

PLATFORMS = ("cpu", "cuda", "tpu")
# Inputs that have ids which other programs make too.
INPUTS: tuple[str, ...] = ("characters", "words")

# Positions of which log-probabilities are computed at a time.
CHUNK = 256

Weights = Mapping[str, Any]


def export(directory: Path, model: Pretrained, *, log_probs: bool = False) -> None:
    """Write the programs and the weights into ``directory``: all files or, after an error, none.

    Args:
        directory: is made, with its parents. An earlier one in it is replaced.
        model: which model; products are float32 at the highest precision, whatever it was trained with.
        log_probs: write the program of log-probabilities too, and the softmax among the weights.

    Raises:
        UserError: when log-probabilities are asked of a model without softmax or vocabulary, when the model reads other
            things than characters or words, when ``directory`` holds anything else, or cannot be written.
    """
    if model.config.model.input not in INPUTS:
        raise UserError(f"{model.origin} reads {model.config.model.input}: programs are for {' or '.join(INPUTS)} only")
    if model.config.model.input == "words":
        model.words()
    if log_probs:
        model.require_softmax()
    params = model.params if log_probs else {name: leaf for name, leaf in model.params.items() if name != "softmax"}
    n_words = None if model.vocabulary is None else len(model.vocabulary)
    weights = safetensors_files.stored(params, model.config, n_words, "float32")
    files = {LAYERS_FILE: program(model, weights)}
    if log_probs:
        files[LOG_PROBS_FILE] = log_prob_program(model, weights)
    with complete_directory(directory, FILES) as folder:
        for name, exported in files.items():
            (folder / name).write_bytes(exported.serialize())
        safetensors_files.write(folder, weights, {"format": "np"})
        if model.vocabulary is not None and (log_probs or model.config.model.input == "words"):
            text = "".join(f"{word}\n" for word in model.vocabulary.words)
            (folder / VOCABULARY_FILE).write_text(text, encoding="utf-8", newline="\n")
        readme = stablehlo_readme.text(model.config.model, directory.resolve().name, log_probs=log_probs)
        (folder / "README.md").write_text(readme, encoding="utf-8", newline="\n")


def program(model: Pretrained, weights: Weights) -> Any:
    """The program of the layers, as ``jax.export`` has it.

    Args:
        model: which model.
        weights: its leaves by their paths, or their shapes and dtypes.
    """
    return _export(model, weights, _layers, n_words_inputs=0)


def log_prob_program(model: Pretrained, weights: Weights) -> Any:
    """The program of the log-probabilities; see ``program``."""
    return _export(model, weights, _log_probs, n_words_inputs=1)


def _export(model: Pretrained, weights: Weights, function: Any, n_words_inputs: int) -> Any:
    bilm = BiLM(model.model.config, model.model.clusters, jnp.float32, stepwise=False)
    b, t = jax_export.symbolic_shape("b, t")
    width = model.config.model.token_width
    ids = jax.ShapeDtypeStruct((b, t) if width is None else (b, t, width), jnp.int32)
    words = [jax.ShapeDtypeStruct((b, t), jnp.int32)] * n_words_inputs
    like = {name: jax.ShapeDtypeStruct(leaf.shape, jnp.float32) for name, leaf in weights.items()}
    # Accelerators would take products of fewer bits, and the vectors would be others than on a CPU.
    with jax.default_matmul_precision("highest"):
        jitted = jax.jit(lambda weights, *inputs: function(bilm, unflatten_dict(weights, sep="/"), *inputs))
        return jax_export.export(jitted, platforms=PLATFORMS)(like, ids, *words)


def _layers(bilm: BiLM, params: Any, ids: jax.Array) -> jax.Array:
    """All layers in the order of the text, ``[b, L + 1, t, D P]``; zeros where there is no token."""
    layers_LDTBP, keep_TB, reverse_TB = _run(bilm, params, ids)
    in_order = [layers_LDTBP[:, 0]]
    if len(bilm.config.directions) == 2:
        in_order.append(jax.vmap(_reversed, (0, None))(layers_LDTBP[:, 1], reverse_TB))
    vectors_LTBX = jnp.where(keep_TB[..., None], jnp.concatenate(in_order, axis=-1), 0)
    return vectors_LTBX.transpose(2, 0, 1, 3)


def _log_probs(bilm: BiLM, params: Any, ids: jax.Array, words: jax.Array) -> jax.Array:
    """The log-probability of each word from the words before it, and from those after it, ``[b, D, t]``.

    It is 0 where nothing is predicted: at the boundary that a direction starts with, and where there is no token.
    """
    layers_LDTBP, keep_TB, reverse_TB = _run(bilm, params, ids)
    n_directions, t, b, p = layers_LDTBP.shape[1:]
    words_TB = jnp.maximum(words.T - 1, 0)
    reading_DTB = jnp.stack([words_TB, _reversed(words_TB, reverse_TB)])[:n_directions]
    # What is read at a position predicts what is read at the next. After the last there is nothing, and nobody looks.
    n = n_directions * t * b
    rows = {
        "hidden": _with_room(layers_LDTBP[-1].reshape(n, p)),
        "target": _with_room(jnp.roll(reading_DTB, -1, axis=1).reshape(n)),
    }
    found_N = compact(_log_prob_of_rows(bilm), params, rows, jnp.asarray(n, jnp.int32), CHUNK)
    found_DTB = jnp.roll(found_N[:n].reshape(n_directions, t, b), 1, axis=1)
    found_DTB = jnp.where(keep_TB & (jnp.arange(t)[:, None] > 0), found_DTB, 0)
    in_order = [found_DTB[0], *(_reversed(found_TB, reverse_TB) for found_TB in found_DTB[1:])]
    return jnp.stack(in_order).transpose(2, 0, 1)


def _run(bilm: BiLM, params: Any, ids: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The layers in reading order ``[L + 1, D, T, B, P]``, which positions have a token, and where each is reversed."""
    b, t = ids.shape[:2]
    present_BT = ids > 0 if ids.ndim == 2 else (ids > 0).any(axis=-1)
    length_B = present_BT.sum(axis=1)
    time_T1 = jnp.arange(t)[:, None]
    keep_TB = time_T1 < length_B
    reverse_TB = jnp.where(keep_TB, length_B - 1 - time_T1, time_T1)
    row_B = jnp.arange(b) * t
    index_DTB = jnp.stack([row_B + time_T1, row_B + reverse_TB])[: len(bilm.config.directions)]
    flat = ids.reshape(b * t, *ids.shape[2:])
    types_U = _with_room(jnp.where(flat > 0, flat - 1, PAD if ids.ndim == 3 else 0))
    inputs = types_U, jnp.asarray(b * t, jnp.int32), index_DTB, jnp.zeros_like(keep_TB), keep_TB
    layers, _ = bilm.apply({"params": params}, *inputs, zero_carry(bilm.config, b))
    return jnp.stack(layers), keep_TB, reverse_TB


def _reversed(x_TBX: jax.Array, reverse_TB: jax.Array) -> jax.Array:
    """Each row of ``[T, B, ...]`` turned round within its length."""
    return jnp.take_along_axis(x_TBX, reverse_TB.reshape(*reverse_TB.shape, *(1,) * (x_TBX.ndim - 2)), axis=0)


def _with_room(rows: jax.Array) -> jax.Array:
    """Rows, whose number nobody knows yet, and a whole chunk more: then it is known that they fill one."""
    room = max(CHUNK, types_at_a_time())
    return jnp.pad(rows, ((0, room), *((0, 0),) * (rows.ndim - 1)))


def _log_prob_of_rows(bilm: BiLM) -> Any:
    def log_prob(params: Any, rows: dict[str, jax.Array]) -> jax.Array:
        top_DTBP, target_DTB = rows["hidden"][None, :, None], rows["target"][None, :, None]
        found: Any = bilm.apply({"params": params}, top_DTBP, target_DTB, method="log_prob")
        return found[0, :, 0]

    return log_prob
