"""Trained models as the files of bilm-tf, which AllenNLP and most later ELMo programs read too.

What is in ``weights.hdf5``, and how it comes from the parameters, is in ``bilm_tf_layout``.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from elmo_jax.config import CharCNN, Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop.bilm_tf_layout import N_CHARACTERS, Array, datasets, parameters, shapes, softmax_datasets
from elmo_jax.interop.outputs import complete_directory

__all__ = ["datasets", "export", "options", "parameters", "readers", "shapes", "softmax_datasets"]

WEIGHTS_FILE = "weights.hdf5"
OPTIONS_FILE = "options.json"
VOCABULARY_FILE = "vocab.txt"
SOFTMAX_FILE = "softmax_weights.hdf5"
FILES = frozenset({WEIGHTS_FILE, OPTIONS_FILE, VOCABULARY_FILE, SOFTMAX_FILE})

# AllenNLP's character indexer pads and cuts every token to this, whatever options.json says.
ALLENNLP_CHARACTERS = 50
# bilm-tf's loader has names for this many layers.
BILM_TF_LAYERS = 8


def options(config: Config, vocabulary_size: int | None) -> dict[str, Any]:
    """The content of ``options.json``: what inference needs, and training values of bilm-tf (ELMO_SPEC 2.10).

    A clip that is None has no key, and word input no ``char_cnn``: so bilm-tf tells it. ``batch_size`` is that of the
    whole run; bilm-tf has it per GPU. A vocabulary whose size is not known has no key either.
    """
    lstm, train = config.model.lstm, config.train
    clips = {"cell_clip": lstm.cell_clip, "proj_clip": lstm.proj_clip}
    training = {
        "bidirectional": config.model.bidirectional,
        "dropout": config.model.dropout,
        "all_clip_norm_val": config.optimizer.all_clip_norm_val,
        "n_epochs": train.n_epochs,
        "batch_size": train.batch_size,
        **({} if vocabulary_size is None else {"n_tokens_vocab": vocabulary_size}),
        "unroll_steps": train.unroll_steps,
    }
    if config.model.softmax.kind == "sampled":
        training["n_negative_samples_batch"] = config.model.softmax.n_negative_samples_batch
    if config.model.input == "words":
        training["share_embedding_softmax"] = config.model.share_embedding_softmax
    return {
        "lstm": {
            "use_skip_connections": lstm.use_skip_connections,
            "projection_dim": lstm.projection_dim,
            **{name: clip for name, clip in clips.items() if clip is not None},
            "dim": lstm.dim,
            "n_layers": lstm.n_layers,
        },
        **({"char_cnn": _char_cnn_options(config.model.char_cnn)} if config.model.input == "characters" else {}),
        **training,
    }


def _char_cnn_options(cnn: CharCNN) -> dict[str, Any]:
    return {
        "activation": cnn.activation,
        "filters": [list(pair) for pair in cnn.filters],
        "n_highway": cnn.n_highway,
        "embedding": {"dim": cnn.embedding.dim},
        "n_characters": N_CHARACTERS + 1,
        "max_characters_per_token": cnn.max_characters_per_token,
    }


def readers(config: Config) -> dict[str, list[str]]:
    """For each known reader of these files, why it cannot read this model; no reason: it can (ELMO_SPEC 2.10, T6)."""
    cnn, lstm = config.model.char_cnn, config.model.lstm
    n, p = cnn.n_filters, lstm.projection_dim
    both = (config.model.bidirectional, "model.bidirectional is false, and it wants both directions")
    bilm_tf = [
        both,
        (lstm.n_layers <= BILM_TF_LAYERS, f"model.lstm.n_layers is {lstm.n_layers}, above {BILM_TF_LAYERS}"),
    ]
    allennlp = [
        both,
        (lstm.use_skip_connections, "model.lstm.use_skip_connections is false"),
        (p < lstm.dim, f"model.lstm.projection_dim equals model.lstm.dim ({p}), so there is no W_P_0"),
        (lstm.cell_clip is not None, "model.lstm.cell_clip is none"),
        (lstm.proj_clip is not None, "model.lstm.proj_clip is none"),
    ]
    if config.model.input == "words":
        allennlp.append((False, "model.input is words, and it reads characters only"))
    else:
        length = cnn.max_characters_per_token
        few_filters = f"the {n} filters of model.char_cnn.filters are fewer than model.lstm.projection_dim ({p})"
        bilm_tf.append((n >= p, few_filters))
        allennlp += [
            (n != p, f"model.lstm.projection_dim equals the number of filters ({n}), so there is no CNN_proj"),
            (
                length == ALLENNLP_CHARACTERS,
                f"model.char_cnn.max_characters_per_token is {length}, not {ALLENNLP_CHARACTERS}",
            ),
        ]
    rules = {"bilm-tf": bilm_tf, "AllenNLP 2.10": allennlp}
    return {reader: [reason for ok, reason in checks if not ok] for reader, checks in rules.items()}


def export(directory: Path, params: Mapping[str, Any], config: Config, vocabulary: Vocabulary | None) -> list[str]:
    """Write a trained model into ``directory`` as bilm-tf files: all of them or, after an error, none.

    Args:
        directory: is made, with its parents. An earlier export in it is replaced as a whole.
        params: the parameter tree of docs/design.md, NumPy or jax arrays.
        config: the configuration that the tree was made with.
        vocabulary: the words in the order of their ids; None where they are not known: then there is no vocab.txt.

    Returns:
        Sentences for the user: who can read the files, who cannot and why, and what the files do not hold.

    Raises:
        UserError: when params, configuration and vocabulary do not fit each other, when ``directory`` holds anything
            but an export, and when the files cannot be written.
    """
    softmax, weights = softmax_datasets(params), datasets(params, config)
    words = None if vocabulary is None else vocabulary.words
    tables = {"the softmax": (softmax or {}).get("softmax/b"), "the input": weights.get("embedding")}
    for name, table in tables.items():
        if table is not None and len(table) != len(words or ()):
            raise UserError(
                f"the vocabulary has {len(words or ())} words and {name} {len(table)}; "
                "export with the vocabulary that the model was trained with"
            )
    with complete_directory(directory, FILES) as folder:
        _write_hdf5(folder / WEIGHTS_FILE, weights)
        text = json.dumps(options(config, None if words is None else len(words)), indent=2) + "\n"
        (folder / OPTIONS_FILE).write_text(text, encoding="utf-8")
        if words is not None:
            (folder / VOCABULARY_FILE).write_text("".join(f"{w}\n" for w in words), encoding="utf-8", newline="\n")
        if softmax is not None:
            _write_hdf5(folder / SOFTMAX_FILE, softmax)
    return _notes(config, adaptive="softmax" in params and softmax is None)


def _write_hdf5(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write datasets into a new file. On a full disk the HDF5 library ends the process, so Python does the writing."""
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def _notes(config: Config, *, adaptive: bool) -> list[str]:
    notes = [
        f"{reader} cannot read this model: {'; '.join(reasons)}." if reasons else f"{reader} can read this model."
        for reader, reasons in readers(config).items()
    ]
    if config.model.input == "words" and not readers(config)["bilm-tf"]:
        notes.append(
            f"bilm-tf reads word input with use_character_inputs=False and {WEIGHTS_FILE} as embedding_weight_file too."
        )
    if adaptive:
        notes.append(
            "The adaptive softmax has no bilm-tf layout: it is not exported, and goes along in the other formats."
        )
    return notes
