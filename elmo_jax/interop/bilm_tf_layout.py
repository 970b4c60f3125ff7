"""Which leaf of the parameter tree is which dataset of bilm-tf's ``weights.hdf5``, and conversion both ways.

The parameter tree of docs/design.md was chosen so that it holds bilm-tf's numbers in bilm-tf's order: a dataset is one
leaf of the tree, or two of them one above the other (``W_0``), and conversion is reshaping, bit-exact both ways.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict

from elmo_jax.config import Config
from elmo_jax.errors import UserError

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

# Rows of the stored character table; inference adds a row of zeros for "no token" in front (ELMO_SPEC 2.1, 2.3).
N_CHARACTERS = 261
# A configuration that declares more, such as a million layers, is that of no file.
MOST_DATASETS = 10_000
# In a shape: the words of the vocabulary, which a configuration does not know.
N_WORDS = -1

_TRAINED_WITH = "export with the configuration that the model was trained with"
_OPTIONS_OF = "the options.json must be that of the weights"
# Of the softmax, in the file of the model or in its own.
SOFTMAX = ("softmax/W", "softmax/b")
# What every dataset of a model begins with.
_OF_A_MODEL = ("char_embed", "embedding", "CNN", "RNN_")


@dataclass(frozen=True)
class _Dataset:
    """One HDF5 dataset and the leaves of the parameter tree in it, one above the other.

    Attributes:
        name: its full name in the file.
        shape: its shape in the file.
        leaves: paths in the parameter tree.
        block: the shape that each leaf has in the dataset: ``stack(leaves).reshape(shape)`` is the dataset.
        direction: which of the parts of the leaves is meant, None for all of them.
        n_directions: how many parts the leaves have.
    """

    name: str
    shape: Shape
    leaves: tuple[str, ...]
    block: Shape
    direction: int | None = None
    n_directions: int = 1

    @property
    def leaf_shape(self) -> Shape:
        """The shape of each leaf in the parameter tree."""
        return self.block if self.direction is None else (self.n_directions, *self.block)


def shapes(config: Config) -> dict[str, Shape]:
    """Names and shapes of all datasets of ``weights.hdf5`` (ELMO_SPEC 2.9); -1 stands for the words of a vocabulary."""
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
        datasets: arrays by their full names; names outside of the model, such as ``softmax/W``, are left alone. All
            shapes are looked at before any values.
        config: a configuration of the same architecture.

    Raises:
        UserError: naming the dataset that is missing, has another shape, belongs to a larger model or holds numbers
            that are not finite.
    """
    layout = list(itertools.islice(_layout(config), MOST_DATASETS))
    surplus = sorted(n for n in set(datasets) - {dataset.name for dataset in layout} if n.startswith(_OF_A_MODEL))
    if surplus and len(layout) < MOST_DATASETS:
        raise UserError(f"dataset {surplus[0]} has no place in the configured model; {_OPTIONS_OF}")
    for dataset in layout:
        if not _fits(datasets.get(dataset.name), dataset.shape):
            raise UserError(
                f"dataset {dataset.name} is {_shown(datasets.get(dataset.name))}, the configured model needs "
                f"{_text(dataset.shape)}; {_OPTIONS_OF}"
            )
    leaves: dict[str, Array] = {}
    for dataset in layout:
        blocks = _finite(datasets, dataset.name).reshape(len(dataset.leaves), *dataset.block)
        for path, block in zip(dataset.leaves, blocks, strict=True):
            if dataset.direction is None:
                leaves[path] = block
            else:
                leaves.setdefault(path, np.empty(dataset.leaf_shape, np.float32))[dataset.direction] = block
    tree: dict[str, Any] = unflatten_dict(leaves, sep="/")
    return tree


def softmax_datasets(params: Mapping[str, Any]) -> dict[str, Array] | None:
    """The datasets of ``softmax_weights.hdf5``: ``softmax/W [V, P]`` and ``softmax/b [V]`` (ELMO_SPEC 2.9).

    W is that of the softmax or, when it has none of its own, the table of words that it shares. None for an adaptive
    softmax, whose clusters have no place in that file, and for a model without one.
    """
    softmax = params.get("softmax")
    if softmax is None or not set(softmax) <= {"kernel", "bias"}:
        return None
    kernel = softmax["kernel"] if "kernel" in softmax else params["encoder"]["embedding"]
    return {"softmax/W": np.asarray(kernel, np.float32), "softmax/b": np.asarray(softmax["bias"], np.float32)}


def softmax_parameters(
    datasets: Mapping[str, npt.ArrayLike], config: Config, table: Array | None = None
) -> dict[str, Array]:
    """The inverse of ``softmax_datasets``: the softmax that a file holds.

    Args:
        datasets: arrays by their full names, ``softmax/W`` and ``softmax/b`` among them.
        config: of the model.
        table: of the words, ``[V, P]``, where the model shares it with its softmax: then the file need not repeat it.

    Raises:
        UserError: naming the dataset that is missing, has another shape or other values than the table that is shared,
            or holds numbers that are not finite.
    """
    kernel, bias = (datasets.get(name) for name in SOFTMAX)
    p, n_words = config.model.lstm.projection_dim, N_WORDS if table is None else len(table)
    if not (_fits(kernel, (n_words, p)) or (kernel is None and table is not None)):
        raise UserError(f"dataset softmax/W is {_shown(kernel)}, the model needs {_text((n_words, p))}; {_OPTIONS_OF}")
    n_words = n_words if kernel is None else np.shape(kernel)[0]
    if not _fits(bias, (n_words,)):
        raise UserError(f"dataset softmax/b is {_shown(bias)}, the model needs {_text((n_words,))}; fetch it again")
    if table is None:
        return {"kernel": _finite(datasets, "softmax/W"), "bias": _finite(datasets, "softmax/b")}
    if kernel is not None and not np.array_equal(_finite(datasets, "softmax/W"), table):
        raise UserError(
            "dataset softmax/W differs from dataset embedding, and share_embedding_softmax says that they are one: "
            "correct that in the options.json"
        )
    return {"bias": _finite(datasets, "softmax/b")}


def _layout(config: Config) -> Iterator[_Dataset]:
    """The table of ELMO_SPEC 2.9. One layer, and one direction, is named like many (T6)."""
    if config.model.input == "words+characters":
        raise UserError(
            "bilm-tf's files have no place for what a model of ELMoForManyLangs reads (config.model.input is "
            "'words+characters'); keep it as a pretrained directory"
        )
    yield from _encoder(config) if config.model.input == "characters" else _words(config)
    lstm, n_directions = config.model.lstm, len(config.model.directions)
    p, c = lstm.projection_dim, lstm.dim
    for direction in range(n_directions):
        for l in range(lstm.n_layers):
            cell, which = f"RNN_{direction}/RNN/MultiRNNCell/Cell{l}/LSTMCell", (direction, n_directions)
            kernels = (f"lstm_{l}/input_kernel", f"lstm_{l}/recurrent_kernel")
            yield _Dataset(f"{cell}/W_0", (2 * p, 4 * c), kernels, (p, 4 * c), *which)
            yield _Dataset(f"{cell}/B", (4 * c,), (f"lstm_{l}/bias",), (4 * c,), *which)
            if p < c:
                yield _Dataset(f"{cell}/W_P_0", (c, p), (f"lstm_{l}/projection",), (c, p), *which)


def _encoder(config: Config) -> Iterator[_Dataset]:
    cnn, p = config.model.char_cnn, config.model.lstm.projection_dim
    n, e = cnn.n_filters, cnn.embedding.dim
    yield _one("char_embed", "char_embed", N_CHARACTERS, e)
    for i, (width, number) in enumerate(cnn.filters):
        yield _Dataset(f"CNN/W_cnn_{i}", (1, width, e, number), (f"encoder/cnn_{i}/kernel",), (width, e, number))
        yield _one(f"CNN/b_cnn_{i}", f"cnn_{i}/bias", number)
    for k in range(cnn.n_highway):
        for gate in ("carry", "transform"):
            yield _one(f"CNN_high_{k}/W_{gate}", f"highway_{k}/{gate}_kernel", n, n)
            yield _one(f"CNN_high_{k}/b_{gate}", f"highway_{k}/{gate}_bias", n)
    if n != p:
        yield _one("CNN_proj/W_proj", "projection/kernel", n, p)
        yield _one("CNN_proj/b_proj", "projection/bias", p)


def _words(config: Config) -> Iterator[_Dataset]:
    yield _one("embedding", "embedding", N_WORDS, config.model.lstm.projection_dim)


def _one(name: str, leaf: str, *shape: int) -> _Dataset:
    """A dataset that is one leaf of the encoder."""
    return _Dataset(name, shape, (f"encoder/{leaf}",), shape)


def _from_leaves(dataset: _Dataset, flat: Mapping[str, Any]) -> Array:
    """The array of one dataset, from the parameters by their paths."""
    blocks = []
    for path in dataset.leaves:
        if not _fits(flat.get(path), dataset.leaf_shape):
            raise UserError(
                f"parameter {path} is {_shown(flat.get(path))}, the configured model has {_text(dataset.leaf_shape)}; "
                f"{_TRAINED_WITH}"
            )
        leaf = np.asarray(flat[path], np.float32)
        blocks.append(leaf if dataset.direction is None else leaf[dataset.direction])
    return np.stack(blocks).reshape(dataset.shape)


def _finite(datasets: Mapping[str, npt.ArrayLike], name: str) -> Array:
    """The values of a dataset."""
    array = np.asarray(datasets[name], np.float32)
    if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
        raise UserError(
            f"dataset {name} has numbers that are not finite; fetch the file again, or export the model from before "
            "its training went wrong"
        )
    return array


def _fits(array: npt.ArrayLike | None, expected: Shape) -> bool:
    if array is None:
        return False
    found = np.shape(array)
    return len(found) == len(expected) and all(e in (f, N_WORDS) for f, e in zip(found, expected, strict=True))


def _shown(array: npt.ArrayLike | None) -> str:
    return "missing" if array is None else str(np.shape(array))


def _text(shape: Shape) -> str:
    return str(shape).replace(str(N_WORDS), "words")
