"""TensorFlow checkpoints of bilm-tf's training: weights and softmax, without the slots of the optimiser.

Both formats of TensorFlow's ``Saver``: one file ``model.ckpt-1250`` (V1), or an index beside its data (V2). What is in
them is ELMO_SPEC 2.9; ``options.json`` lies beside them, the vocabulary where the user has it.
"""

import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf_files, bilm_tf_options
from elmo_jax.interop.bilm_tf_names import by_dataset_name
from elmo_jax.interop.bilm_tf_reading import assemble
from elmo_jax.interop.pretrained import Pretrained

# TensorFlow's list of the checkpoints in a folder.
LIST_FILE = "checkpoint"
# The files of one checkpoint: those of V2, or the single one of V1, perhaps in shards; beside either the graph.
_ENDING = re.compile(r"(\.index|\.meta|\.data-\d{5}-of-\d{5}|-\d{5}-of-\d{5})$")
# What optimisers keep of each variable.
_SLOTS = re.compile(r"/(Adagrad|Adam(_1)?|Momentum|RMSProp(_1)?|ExponentialMovingAverage)$")


def recognises(path: Path) -> bool:
    """Whether there is a checkpoint at ``path``: a folder of them, a file of one, or their common beginning."""
    try:
        return _prefix(path) is not None
    except OSError:
        return False


def load(path: Path, *, options: Path | None = None, vocabulary: Path | None = None) -> Pretrained:
    """The model of a checkpoint.

    Args:
        path: of the checkpoint without its ending, of one of its files, or of the folder, which stands for the newest.
        options: the file of options, when it does not lie beside the checkpoint.
        vocabulary: the file of words, when it does not lie there.

    Raises:
        UserError: when TensorFlow is missing, or the checkpoint, its options and the vocabulary do not fit each other.
    """
    prefix = _prefix(path)
    if prefix is None:
        raise UserError(f"{path} is no TensorFlow checkpoint; give its folder")
    options = options or bilm_tf_files.find_options(prefix.parent, prefix)
    tree = bilm_tf_options.read(options)
    config = bilm_tf_options.config_of(tree, str(options))
    variables = _variables(prefix)
    arrays = by_dataset_name({name: variables[name] for name in of_model(variables)}, str(prefix))
    return assemble(
        config,
        arrays,
        arrays,
        vocabulary or bilm_tf_files.find_vocabulary(prefix.parent, prefix),
        words_are_wanted=vocabulary is not None,
        origin=str(prefix),
        weights=str(prefix),
        about=bilm_tf_options.about(tree),
    )


def of_model(names: Iterable[str]) -> list[str]:
    """Those variables of bilm-tf's training graph that are weights: the others count steps or belong to the optimiser.

    Example:
        >>> of_model(["global_step", "lm/char_embed", "lm/char_embed/Adagrad", "train_perplexity"])
        ['lm/char_embed']
    """
    return [name for name in names if name.startswith("lm/") and not _SLOTS.search(name)]


class _Variable:
    """A variable of a checkpoint: its shape is known, its values are read by ``np.asarray``."""

    def __init__(self, reader: Any, name: str, shape: Iterable[int]) -> None:
        self._reader, self.name, self.shape = reader, name, tuple(shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        try:
            array = self._reader.get_tensor(self.name)
        except Exception as error:  # of the many classes of TensorFlow
            raise UserError(f"cannot read its variable {self.name}: {_reason(error)}; copy the file again") from error
        return np.asarray(array).astype(dtype, copy=bool(copy))


def _variables(prefix: Path) -> dict[str, _Variable]:
    # Without these it talks of its arithmetic, and none is done.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow
    except ImportError as error:
        raise UserError(
            f"TensorFlow checkpoints are read by TensorFlow ({error}): pip install 'elmo-jax[tensorflow]'"
        ) from error
    try:
        reader = tensorflow.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
    except Exception as error:  # of the many classes of TensorFlow
        raise UserError(f"cannot read the checkpoint {prefix}: {_reason(error)}; copy its files again") from error
    return {name: _Variable(reader, name, shape) for name, shape in sorted(shapes.items())}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _prefix(path: Path) -> Path | None:
    """The checkpoint at ``path`` as TensorFlow calls it: its files without their endings."""
    if not path.is_dir():
        prefix = path.with_name(_ENDING.sub("", path.name))
        return prefix if path.name != LIST_FILE and _is_checkpoint(prefix) else None
    listed = _listed(path / LIST_FILE)
    there = {file.with_name(_ENDING.sub("", file.name)) for file in path.iterdir() if _ENDING.search(file.name)}
    there = {prefix for prefix in (*there, *listed) if _is_checkpoint(prefix)}
    newest = next((prefix for prefix in listed if prefix in there), None)
    return newest or max(there, key=lambda prefix: (_step(prefix), prefix.name), default=None)


def _listed(file: Path) -> list[Path]:
    """The newest checkpoint by TensorFlow's own list, looked for beside the list: folders are moved."""
    if not file.is_file() or file.stat().st_size > bilm_tf_options.MAX_BYTES:
        return []
    text = file.read_text(encoding="utf-8", errors="replace")
    return [file.with_name(Path(name).name) for name in re.findall(r'^model_checkpoint_path: "([^"\0]+)"', text, re.M)]


def _is_checkpoint(prefix: Path) -> bool:
    """V2 has an index; V1 is the file itself or its shards, with the graph beside it."""
    if prefix.with_name(f"{prefix.name}.index").is_file():
        return True
    graph = prefix.with_name(f"{prefix.name}.meta").is_file()
    return graph and (prefix.is_file() or any(prefix.parent.glob(f"{glob.escape(prefix.name)}-?????-of-?????")))


def _step(prefix: Path) -> int:
    number = re.search(r"-(\d{1,18})$", prefix.name)
    return int(number[1]) if number else -1
