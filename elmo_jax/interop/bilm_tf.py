"""Trained models as the files of bilm-tf, which AllenNLP and most later ELMo programs read too.

The parameter tree of docs/design.md was chosen so that it holds bilm-tf's numbers in bilm-tf's order: a dataset is one
leaf of the tree, or two of them one above the other (``W_0``), and conversion is reshaping, bit-exact both ways.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict

from elmo_jax.config import Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop.directory import complete_directory

Array = npt.NDArray[np.float32]

WEIGHTS_FILE = "weights.hdf5"
OPTIONS_FILE = "options.json"
VOCABULARY_FILE = "vocab.txt"
SOFTMAX_FILE = "softmax_weights.hdf5"
FILES = frozenset({WEIGHTS_FILE, OPTIONS_FILE, VOCABULARY_FILE, SOFTMAX_FILE})

# Rows of the stored character table; inference adds a row of zeros for "no token" in front (ELMO_SPEC 2.1, 2.3).
N_CHARACTERS = 261
# AllenNLP's character indexer pads and cuts every token to this, whatever options.json says.
ALLENNLP_CHARACTERS = 50
# bilm-tf's loader has names for this many layers.
BILM_TF_LAYERS = 8

_TRAINED_WITH = "export with the configuration that the model was trained with"
_OPTIONS_OF = "set config.model to the architecture in the options.json beside the weights"


@dataclass(frozen=True)
class _Dataset:
    """One HDF5 dataset and the leaves of the parameter tree in it, one above the other.

    Attributes:
        name: its full name in the file.
        shape: its shape in the file.
        leaves: paths in the parameter tree.
        block: the shape that each leaf has in the dataset: ``stack(leaves).reshape(shape)`` is the dataset.
        direction: 0 or 1 for the part of the leaves that is meant, None for all of them.
    """

    name: str
    shape: tuple[int, ...]
    leaves: tuple[str, ...]
    block: tuple[int, ...]
    direction: int | None = None


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all datasets of ``weights.hdf5`` (ELMO_SPEC 2.9)."""
    return {dataset.name: dataset.shape for dataset in _layout(config)}


def datasets(params: Mapping[str, Any], config: Config) -> dict[str, Array]:
    """The datasets of ``weights.hdf5``, float32, by their full names (ELMO_SPEC 2.9).

    Args:
        params: the parameter tree of docs/design.md, nested dicts of float32 arrays; its softmax is not looked at.
        config: the configuration that the tree was made with.

    Raises:
        UserError: when the tree has a leaf less, a leaf more or another shape than the configuration says.
    """
    layout, flat = list(_layout(config)), flatten_dict(params, sep="/")
    surplus = sorted(set(flat) - {leaf for dataset in layout for leaf in dataset.leaves})
    surplus = [leaf for leaf in surplus if not leaf.startswith("softmax/")]
    if surplus:
        raise UserError(f"parameter {surplus[0]} has no place in the configured model; {_TRAINED_WITH}")
    return {dataset.name: _from_leaves(dataset, flat) for dataset in layout}


def parameters(datasets: Mapping[str, npt.ArrayLike], config: Config) -> dict[str, Any]:
    """The inverse of ``datasets``: the parameter tree, without its softmax, that a ``weights.hdf5`` holds.

    Args:
        datasets: arrays by their full names; names outside of the model, such as ``softmax/W``, are left alone.
        config: a configuration of the same architecture.

    Raises:
        UserError: naming the dataset that is missing, has another shape, or belongs to a larger model.
    """
    layout = list(_layout(config))
    surplus = sorted(n for n in set(datasets) - {dataset.name for dataset in layout} if n.startswith(("CNN", "RNN_")))
    if surplus:
        raise UserError(f"dataset {surplus[0]} has no place in the configured model; {_OPTIONS_OF}")
    leaves: dict[str, Array] = {}
    for dataset in layout:
        found = np.shape(datasets[dataset.name]) if dataset.name in datasets else "missing"
        if found != dataset.shape:
            raise UserError(
                f"dataset {dataset.name} is {found}, the configured model needs {dataset.shape}; {_OPTIONS_OF}"
            )
        array = np.asarray(datasets[dataset.name], np.float32)
        blocks = array.reshape(len(dataset.leaves), *dataset.block)
        for path, block in zip(dataset.leaves, blocks, strict=True):
            if dataset.direction is None:
                leaves[path] = block
            else:
                leaves.setdefault(path, np.empty((2, *dataset.block), np.float32))[dataset.direction] = block
    tree: dict[str, Any] = unflatten_dict(leaves, sep="/")
    return tree


def softmax_datasets(params: Mapping[str, Any]) -> dict[str, Array] | None:
    """The datasets of ``softmax_weights.hdf5``: ``softmax/W [V, P]`` and ``softmax/b [V]`` (ELMO_SPEC 2.9).

    None for an adaptive softmax, whose clusters have no place in that file.
    """
    softmax = params["softmax"]
    if set(softmax) != {"kernel", "bias"}:
        return None
    return {
        "softmax/W": np.asarray(softmax["kernel"], np.float32),
        "softmax/b": np.asarray(softmax["bias"], np.float32),
    }


def options(config: Config, vocabulary_size: int) -> dict[str, Any]:
    """The content of ``options.json``: what inference needs, and training values of bilm-tf (ELMO_SPEC 2.10).

    A clip that is None has no key. ``batch_size`` is that of the whole run; bilm-tf has it per GPU.
    """
    cnn, lstm, train = config.model.char_cnn, config.model.lstm, config.train
    clips = {"cell_clip": lstm.cell_clip, "proj_clip": lstm.proj_clip}
    training = {
        "bidirectional": True,
        "dropout": config.model.dropout,
        "all_clip_norm_val": config.optimizer.all_clip_norm_val,
        "n_epochs": train.n_epochs,
        "batch_size": train.batch_size,
        "n_tokens_vocab": vocabulary_size,
        "unroll_steps": train.unroll_steps,
    }
    if config.model.softmax.kind == "sampled":
        training["n_negative_samples_batch"] = config.model.softmax.n_negative_samples_batch
    return {
        "lstm": {
            "use_skip_connections": lstm.use_skip_connections,
            "projection_dim": lstm.projection_dim,
            **{name: clip for name, clip in clips.items() if clip is not None},
            "dim": lstm.dim,
            "n_layers": lstm.n_layers,
        },
        "char_cnn": {
            "activation": cnn.activation,
            "filters": [list(pair) for pair in cnn.filters],
            "n_highway": cnn.n_highway,
            "embedding": {"dim": cnn.embedding.dim},
            "n_characters": N_CHARACTERS + 1,
            "max_characters_per_token": cnn.max_characters_per_token,
        },
        **training,
    }


def readers(config: Config) -> dict[str, list[str]]:
    """For each known reader of these files, why it cannot read this model; no reason: it can (ELMO_SPEC 2.10, T6)."""
    cnn, lstm = config.model.char_cnn, config.model.lstm
    n, p = cnn.n_filters, lstm.projection_dim
    few_filters = f"the {n} filters of model.char_cnn.filters are fewer than model.lstm.projection_dim ({p})"
    rules = {
        "bilm-tf": [
            (n >= p, few_filters),
            (lstm.n_layers <= BILM_TF_LAYERS, f"model.lstm.n_layers is {lstm.n_layers}, above {BILM_TF_LAYERS}"),
        ],
        "AllenNLP 2.10": [
            (lstm.use_skip_connections, "model.lstm.use_skip_connections is false"),
            (n != p, f"model.lstm.projection_dim equals the number of filters ({n}), so there is no CNN_proj"),
            (p < lstm.dim, f"model.lstm.projection_dim equals model.lstm.dim ({p}), so there is no W_P_0"),
            (lstm.cell_clip is not None, "model.lstm.cell_clip is none"),
            (lstm.proj_clip is not None, "model.lstm.proj_clip is none"),
            (
                cnn.max_characters_per_token == ALLENNLP_CHARACTERS,
                f"model.char_cnn.max_characters_per_token is {cnn.max_characters_per_token}, not {ALLENNLP_CHARACTERS}",
            ),
        ],
    }
    return {reader: [reason for ok, reason in checks if not ok] for reader, checks in rules.items()}


def export(directory: Path, params: Mapping[str, Any], config: Config, vocabulary: Vocabulary) -> list[str]:
    """Write a trained model into ``directory`` as bilm-tf files: all of them or, after an error, none.

    Args:
        directory: is made, with its parents. An earlier export in it is replaced as a whole.
        params: the parameter tree of docs/design.md, NumPy or jax arrays.
        config: the configuration that the tree was made with.
        vocabulary: the words in the order of their ids.

    Returns:
        Sentences for the user: who can read the files, who cannot and why, and what the files do not hold.

    Raises:
        UserError: when params, configuration and vocabulary do not fit each other, when ``directory`` holds anything
            but an export, and when the files cannot be written.
    """
    words, softmax = vocabulary.words, softmax_datasets(params)
    if softmax is not None and len(softmax["softmax/b"]) != len(words):
        raise UserError(
            f"the vocabulary has {len(words)} words and the softmax {len(softmax['softmax/b'])}; "
            "export with the vocabulary that the model was trained with"
        )
    weights = datasets(params, config)
    with complete_directory(directory, FILES) as folder:
        _write_hdf5(folder / WEIGHTS_FILE, weights)
        text = json.dumps(options(config, len(words)), indent=2) + "\n"
        (folder / OPTIONS_FILE).write_text(text, encoding="utf-8")
        (folder / VOCABULARY_FILE).write_text("".join(f"{w}\n" for w in words), encoding="utf-8", newline="\n")
        if softmax is not None:
            _write_hdf5(folder / SOFTMAX_FILE, softmax)
    return _notes(config, exports_softmax=softmax is not None)


def _layout(config: Config) -> Iterator[_Dataset]:
    """The table of ELMO_SPEC 2.9. One layer is named like many (T6)."""
    cnn, lstm = config.model.char_cnn, config.model.lstm
    n, e, p, c = cnn.n_filters, cnn.embedding.dim, lstm.projection_dim, lstm.dim

    def one(name: str, leaf: str, *shape: int) -> _Dataset:
        return _Dataset(name, shape, (f"encoder/{leaf}",), shape)

    yield one("char_embed", "char_embed", N_CHARACTERS, e)
    for i, (width, number) in enumerate(cnn.filters):
        yield _Dataset(f"CNN/W_cnn_{i}", (1, width, e, number), (f"encoder/cnn_{i}/kernel",), (width, e, number))
        yield one(f"CNN/b_cnn_{i}", f"cnn_{i}/bias", number)
    for k in range(cnn.n_highway):
        for gate in ("carry", "transform"):
            yield one(f"CNN_high_{k}/W_{gate}", f"highway_{k}/{gate}_kernel", n, n)
            yield one(f"CNN_high_{k}/b_{gate}", f"highway_{k}/{gate}_bias", n)
    if n != p:
        yield one("CNN_proj/W_proj", "projection/kernel", n, p)
        yield one("CNN_proj/b_proj", "projection/bias", p)
    for direction in range(2):
        for l in range(lstm.n_layers):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{l}/LSTMCell"
            kernels = (f"lstm_{l}/input_kernel", f"lstm_{l}/recurrent_kernel")
            yield _Dataset(f"{cell}/W_0", (2 * p, 4 * c), kernels, (p, 4 * c), direction)
            yield _Dataset(f"{cell}/B", (4 * c,), (f"lstm_{l}/bias",), (4 * c,), direction)
            if p < c:
                yield _Dataset(f"{cell}/W_P_0", (c, p), (f"lstm_{l}/projection",), (c, p), direction)


def _from_leaves(dataset: _Dataset, flat: Mapping[str, Any]) -> Array:
    """The array of one dataset, from the parameters by their paths."""
    expected = dataset.block if dataset.direction is None else (2, *dataset.block)
    blocks = []
    for path in dataset.leaves:
        found = flat[path].shape if path in flat else "missing"
        if found != expected:
            raise UserError(f"parameter {path} is {found}, the configured model has {expected}; {_TRAINED_WITH}")
        leaf = np.asarray(flat[path], np.float32)
        blocks.append(leaf if dataset.direction is None else leaf[dataset.direction])
    return np.stack(blocks).reshape(dataset.shape)


def _write_hdf5(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write datasets into a new file. On a full disk the HDF5 library ends the process, so Python does the writing."""
    with h5py.File(path.name, "w", driver="core", backing_store=False) as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def _notes(config: Config, *, exports_softmax: bool) -> list[str]:
    notes = [
        f"{reader} cannot read this model: {'; '.join(reasons)}." if reasons else f"{reader} can read this model."
        for reader, reasons in readers(config).items()
    ]
    if not exports_softmax:
        notes.append(
            "The adaptive softmax has no bilm-tf layout: it is not exported and stays with the run's checkpoints."
        )
    return notes
