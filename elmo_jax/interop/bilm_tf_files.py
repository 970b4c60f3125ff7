"""Which files belong to a model of bilm-tf or AllenNLP: they have had many names, so they are told by their content.

::

    weights.hdf5                arrays of an LSTM           elmo_2x1024_128_2048cnn_1xhighway_weights.hdf5, model.hdf5
    options.json                an object with "lstm"       elmo_2x1024_128_2048cnn_1xhighway_options.json
    softmax_weights.hdf5        a group "softmax"           or that group in the weights file, as DeepPavlov has it
    vocab.txt                   vocab*.txt, may end in .gz  vocab-2016-09-10.txt
"""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py

from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf_names, bilm_tf_options, hdf5, zip_archive

VOCABULARY = re.compile(r"vocab(?!.*\.(counts|tokenizer)\.txt).*\.txt(\.gz)?", re.IGNORECASE)


@dataclass(frozen=True)
class Files:
    """The files of a model."""

    weights: Path
    options: Path
    softmax: Path | None
    vocabulary: Path | None


def recognises(path: Path) -> bool:
    """Whether ``path`` may be a model: a folder with an HDF5 file, such a file, or a zip archive."""
    try:
        if path.is_dir():
            return bool(_hdf5_files(path))
        return path.is_file() and (path.suffix in {*hdf5.SUFFIXES, ".zip"} or h5py.is_hdf5(path))
    except OSError:
        return False


def find(path: Path, options: Path | None = None, softmax: Path | None = None, vocabulary: Path | None = None) -> Files:
    """The files of the model at ``path``, a folder or its weights, but for those that are given.

    Raises:
        UserError: when there are no weights or no options, or more than one and nothing tells which.
    """
    try:
        folder = path if path.is_dir() else path.parent
        beside = _hdf5_files(folder)
        weights = path if folder != path else _weights(folder, beside)
        options = options or find_options(folder, weights)
        softmax = softmax or _softmax(weights, beside)
        return Files(weights, options, softmax, vocabulary or find_vocabulary(folder, weights))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; make it readable") from error


def find_options(folder: Path, weights: Path) -> Path:
    """The options in a folder: the only JSON file, or the only one with an LSTM in it.

    Raises:
        UserError: when there are none or several.
    """
    candidates = sorted(file for file in folder.glob("*.json") if file.is_file())
    if len(candidates) > 1:
        candidates = _where(lambda file: "lstm" in bilm_tf_options.read(file), candidates)
    if not candidates:
        raise UserError(f"{weights} has no options.json beside it; put it there, or use elmo import with --options")
    return _one(candidates, weights, "options", "--options")


def find_vocabulary(folder: Path, weights: Path) -> Path | None:
    """The vocabulary in a folder: ``vocab.txt``, else the only one; None where there is none.

    Raises:
        UserError: when there are several.
    """
    words = sorted(file for file in folder.iterdir() if VOCABULARY.fullmatch(file.name) and file.is_file())
    usual = [file for file in words if file.name == "vocab.txt"]
    return _one(usual or words, weights, "vocabularies", "--vocab") if words else None


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """``path`` itself or, where it is a zip archive, a folder with its files for the duration of the ``with`` block.

    Raises:
        UserError: for an archive that is damaged or grows beyond measure; errors name its files as if it were a folder.
    """
    if path.suffix != ".zip":
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="elmo-") as scratch:
        try:
            zip_archive.unpack(path, Path(scratch), str(path))
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot unpack {path}: {reason}; make room, or unpack it and name the folder") from error
        try:
            yield Path(scratch)
        except UserError as error:
            raise UserError(str(error).replace(scratch, str(path))) from error.__cause__


def _hdf5_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix in hdf5.SUFFIXES and file.is_file())


def _weights(folder: Path, candidates: list[Path]) -> Path:
    models = candidates if len(candidates) == 1 else _where(_has_model, candidates)
    if not models:
        raise UserError(f"no HDF5 file in {folder} has the weights of a model; fetch the weights, or name another path")
    if len(models) > 1:
        names = ", ".join(file.name for file in models[:3])
        raise UserError(f"{folder} has the weights of several models ({names}): name one of these files instead")
    return models[0]


def _softmax(weights: Path, candidates: list[Path]) -> Path | None:
    """Beside the weights of several models, the softmax of one must be named as it is."""
    others = [file for file in candidates if file != weights]
    found = _where(lambda file: "softmax" in hdf5.top_names(file) and not _has_model(file), others)
    if _where(_has_model, others):
        found = [file for file in found if _stem(file) == _stem(weights)]
    return _one(found, weights, "the softmax", "--softmax") if found else None


def _has_model(file: Path) -> bool:
    return bilm_tf_names.is_model(hdf5.top_names(file))


def _where(has: Callable[[Path], bool], candidates: list[Path]) -> list[Path]:
    """The candidates that have something.

    Raises:
        UserError: when none has it, and some cannot be read.
    """
    found, failures = [], []
    for file in candidates:
        try:
            if has(file):
                found.append(file)
        except UserError as error:
            failures.append(error)
    if failures and not found:
        raise failures[0]
    return found


def _one(candidates: Sequence[Path], weights: Path, what: str, option: str) -> Path:
    """The only candidate, or the one that is named as the weights are."""
    if len(candidates) == 1:
        return candidates[0]
    alike = [file for file in candidates if _stem(file) == _stem(weights)]
    if len(alike) != 1:
        names = ", ".join(file.name for file in candidates[:3])
        raise UserError(
            f"{candidates[0].parent} has {what} of several models ({names}); keep one of them there, or say which with "
            f"elmo import {option}"
        )
    return alike[0]


def _stem(file: Path) -> str:
    """What the files of one published model have in common: ``elmo_2x1024_128_2048cnn_1xhighway``."""
    name = file.name.removesuffix(".gz")
    return re.sub(r"[-_.]?(softmax_weights|weights|options|vocab|vocabulary)?\.[^.]+$", "", name)
