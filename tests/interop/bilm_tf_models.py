"""Models of bilm-tf as files, as tests of reading them need them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from elmo_jax.config import Config
from elmo_jax.interop import bilm_tf
from tests.interop.test_bilm_tf import VOCABULARY, parameter_tree


def write(directory: Path, config: Config, *, vocabulary: bool = True, softmax: bool = True, seed: int = 0) -> Path:
    """The files of an exported model of random weights; without vocabulary or softmax where these are not wanted."""
    params = parameter_tree(config, seed)
    if not softmax:
        del params["softmax"]
    bilm_tf.export(directory, params, config, VOCABULARY if vocabulary else None)
    return directory


def change(file: Path, values: Mapping[str, Any]) -> None:
    """Change keys of a JSON file by dotted paths; ``...`` removes one."""
    tree = json.loads(file.read_text(encoding="utf-8"))
    for path, value in values.items():
        *groups, name = path.split(".")
        node = tree
        for group in groups:
            node = node[group]
        if value is ...:
            del node[name]
        else:
            node[name] = value
    file.write_text(json.dumps(tree), encoding="utf-8")


def put(file: Path, **arrays: Any) -> None:
    """Put arrays into an HDF5 file in place of those of these names (``__`` stands for ``/``); None removes one."""
    with h5py.File(file, "a") as opened:
        for name, array in ((name.replace("__", "/"), array) for name, array in arrays.items()):
            if name in opened:
                del opened[name]
            if array is not None:
                opened[name] = np.asarray(array)


def rename(file: Path, names: Mapping[str, str]) -> None:
    """Rename datasets of an HDF5 file."""
    with h5py.File(file, "a") as opened:
        for old, new in names.items():
            opened.move(old, new)
