"""Parameters as safetensors files: one or, when that grows too large, several with an index, as on Hugging Face's hub.

A tensor is a leaf of the parameter tree of docs/design.md, by its path. Nothing in such a file can run code.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from elmo_jax.config import Config
from elmo_jax.errors import UserError
from elmo_jax.interop.leaf_shapes import Shape, check_shapes

Array = npt.NDArray[Any]

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
SHARD_FILE = "model-{number:05d}-of-{shards:05d}.safetensors"
# Names that weights may have, as shell patterns.
FILES = frozenset({WEIGHTS_FILE, INDEX_FILE, "model-?????-of-?????.safetensors"})

# The hub's own limit of a file that it shows and loads well.
MAX_FILE_BYTES = 5_000_000_000

# In which numbers may be stored; they are read as float32.
DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": jnp.bfloat16, "float16": np.float16}
_STORED = {"F32", "BF16", "F16"}


def stored(params: Mapping[str, Any], config: Config, n_words: int | None, dtype: str) -> dict[str, Array]:
    """The leaves by their paths, as they are stored.

    Args:
        params: the parameter tree; it may lack ``softmax``.
        config: the configuration that it was made with.
        n_words: of the vocabulary; None where there is none.
        dtype: one of ``DTYPES``.

    Raises:
        UserError: when tree, configuration and vocabulary do not fit each other, and for a number that is not finite,
            or would not be in ``dtype``.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype is {dtype!r}: it must be one of {', '.join(DTYPES)}")
    leaves = {name: np.asarray(leaf, np.float32) for name, leaf in flatten_dict(params, sep="/").items()}
    n_words = n_words or words_of(leaves)
    found = {name: leaf.shape for name, leaf in leaves.items()}
    check_shapes(found, config, n_words, "the parameters", "save them with what they were trained with")
    with np.errstate(over="ignore"):
        leaves = {name: np.ascontiguousarray(leaf.astype(DTYPES[dtype])) for name, leaf in leaves.items()}
    for name, leaf in leaves.items():
        if not np.isfinite(leaf).all():
            raise UserError(f"parameter {name} has numbers that are not finite in {dtype}; use float32, or mend it")
    return leaves


def words_of(leaves: Mapping[str, Array]) -> int | None:
    """How many words the softmax, or a table of words, of a model has; None when it has neither."""
    biases = [leaf for name, leaf in leaves.items() if name.startswith("softmax/tail_") and name.endswith("_bias")]
    if "softmax/head_bias" in leaves:
        return len(leaves["softmax/head_bias"]) - len(biases) + sum(map(len, biases))
    table = leaves.get("softmax/bias", leaves.get("encoder/embedding"))
    return None if table is None else len(table)


def write(folder: Path, leaves: Mapping[str, Array], metadata: Mapping[str, str], limit: int | None = None) -> None:
    """Write leaves into a folder as ``model.safetensors``, or as shards and an index.

    Args:
        folder: has no weights yet.
        leaves: as from ``stored``.
        metadata: kept in the header of each file.
        limit: bytes of a file, which only a single leaf may exceed; None for ``MAX_FILE_BYTES``.

    Raises:
        OSError: when they cannot be written.
    """
    shards = _shards(leaves, MAX_FILE_BYTES if limit is None else limit)
    if len(shards) == 1:
        write_file(folder / WEIGHTS_FILE, leaves, metadata)
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = SHARD_FILE.format(number=number, shards=len(shards))
        write_file(folder / name, shard, metadata)
        weight_map |= dict.fromkeys(shard, name)
    total = sum(leaf.nbytes for leaf in leaves.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(leaves: Mapping[str, Array], limit: int) -> list[dict[str, Array]]:
    shards: list[dict[str, Array]] = [{}]
    room = limit
    for name, leaf in leaves.items():
        if shards[-1] and leaf.nbytes > room:
            shards.append({})
            room = limit
        shards[-1][name] = leaf
        room -= leaf.nbytes
    return shards


def write_file(path: Path, leaves: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    """Write one file.

    Raises:
        OSError: when it cannot be written.
    """
    path.touch()
    # The library lets nobody else read what it writes.
    mode = path.stat().st_mode
    try:
        save_file(dict(leaves), path, metadata=dict(metadata))
        path.chmod(mode)
    except SafetensorError as error:
        raise OSError(str(error).removeprefix("Error while serializing: ")) from error


class Weights:
    """Safetensors files whose headers have been read: what is in them is known before any of it is loaded.

    Args:
        path: of a file, or of a folder with ``model.safetensors`` or its shards.

    Attributes:
        shapes: of every tensor, by its name.
        metadata: of the header (of the first file).

    Raises:
        UserError: naming the file that is missing or damaged, and for tensors in another dtype than ``DTYPES``.
    """

    def __init__(self, path: Path) -> None:
        self._place: dict[str, Path] = {}
        self.shapes: dict[str, Shape] = {}
        self.metadata: dict[str, str] = {}
        for file in _files(path):
            with _opened(file) as tensors:
                self.metadata = self.metadata or tensors.metadata() or {}
                for name in tensors.keys():  # noqa: SIM118 - it is no dictionary
                    self._add(name, file, tensors.get_slice(name))

    def _add(self, name: str, file: Path, tensor: Any) -> None:
        if name in self._place:
            raise UserError(f"tensor {name} is in {self._place[name]} and in {file}; fetch or export them again")
        if tensor.get_dtype() not in _STORED:
            raise UserError(f"tensor {name} in {file} is {tensor.get_dtype()}: it must be {', '.join(sorted(_STORED))}")
        self._place[name], self.shapes[name] = file, tuple(tensor.get_shape())

    def load(self) -> dict[str, Any]:
        """The parameter tree, float32.

        Raises:
            UserError: naming the tensor that has numbers which are not finite, or the file that cannot be read.
        """
        leaves: dict[str, npt.NDArray[np.float32]] = {}
        for file in dict.fromkeys(self._place.values()):
            with _opened(file) as tensors:
                for name in (name for name, place in self._place.items() if place == file):
                    leaves[name] = tensors.get_tensor(name).astype(np.float32, copy=False)
                    if not np.isfinite(leaves[name]).all():
                        raise UserError(
                            f"tensor {name} in {file} has numbers that are not finite; fetch or export it again"
                        )
        tree: dict[str, Any] = unflatten_dict(leaves, sep="/")
        return tree


def _files(path: Path) -> list[Path]:
    """The files that the weights are in."""
    if not path.is_dir():
        return [path]
    index = path / INDEX_FILE
    if (path / WEIGHTS_FILE).exists() or not index.exists():
        return [path / WEIGHTS_FILE]
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {index}: {type(error).__name__}: {error}; fetch or export it again") from error
    strangers = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if strangers:
        raise UserError(f"{index} names {strangers[0]!r}: weights must be files beside it; fetch or export it again")
    return [path / name for name in sorted(names)]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="numpy") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {file}: {' '.join(str(error).split())}; fetch or export it again") from error
