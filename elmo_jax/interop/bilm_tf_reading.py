"""Models from the files of bilm-tf, AllenNLP and the NLPL repository; ``bilm_tf.export`` is the inverse.

Read wherever a model path is taken. All shapes are checked against the options before any array is read.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from elmo_jax.config import Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf_files, bilm_tf_layout, bilm_tf_options
from elmo_jax.interop.bilm_tf_files import recognises
from elmo_jax.interop.bilm_tf_names import by_dataset_name
from elmo_jax.interop.hdf5 import stored_arrays
from elmo_jax.interop.pretrained import Pretrained

__all__ = ["assemble", "load", "recognises"]

log = logging.getLogger(__name__)

Arrays = Mapping[str, npt.ArrayLike]


def load(
    path: Path, *, options: Path | None = None, softmax: Path | None = None, vocabulary: Path | None = None
) -> Pretrained:
    """The model at ``path``.

    Args:
        path: a folder with one HDF5 file of weights and one JSON file of options, whatever their names; the weights
            file itself, with its options beside it; or a zip archive of such a folder.
        options: the file of options, when it does not lie there.
        softmax: the file of the softmax, when it does not lie there.
        vocabulary: the file of words, when it does not lie there.

    Raises:
        UserError: naming the file, dataset or option that is missing, damaged or does not fit the others.
    """
    with bilm_tf_files.unpacked(path) as folder:
        files = bilm_tf_files.find(folder, options, softmax, vocabulary)
        tree = bilm_tf_options.read(files.options)
        arrays = by_dataset_name(stored_arrays(files.weights), str(files.weights))
        beside = by_dataset_name(stored_arrays(files.softmax), str(files.softmax)) if files.softmax else {}
        if softmax is not None and not _has_softmax(beside):
            raise UserError(f"{softmax} has no softmax/W and softmax/b; name the file of the softmax, or leave it out")
        return assemble(
            bilm_tf_options.config_of(tree, str(files.options)),
            arrays,
            arrays if softmax is None and _has_softmax(arrays) else beside,
            files.vocabulary,
            words_are_wanted=vocabulary is not None,
            origin=str(path),
            weights=str(files.weights),
            about=bilm_tf_options.about(tree),
        )


def assemble(
    config: Config,
    arrays: Arrays,
    softmax_arrays: Arrays,
    words: Path | None,
    *,
    words_are_wanted: bool,
    origin: str,
    weights: str,
    about: Mapping[str, Any],
) -> Pretrained:
    """A model from its arrays, by their names in ``weights.hdf5`` (ELMO_SPEC 2.9).

    Args:
        config: of the model.
        arrays: of the model.
        softmax_arrays: ``softmax/W`` and ``softmax/b``; without these names the model has no softmax.
        words: the vocabulary, where there is one.
        words_are_wanted: do not go on without it, even where the model needs none.
        origin: what to call the model.
        weights: what to call ``arrays`` in errors.
        about: what is known besides.

    Raises:
        UserError: when they do not fit each other.
    """
    with _naming(weights):
        params = bilm_tf_layout.parameters(arrays, config)
        known = {*bilm_tf_layout.shapes(config), *bilm_tf_layout.SOFTMAX}
        if surplus := sorted(set(arrays) - known):
            raise UserError(f"dataset {surplus[0]} is no part of a model; the options.json must be that of the weights")
    table = params["encoder"]["embedding"] if config.model.input == "words" else None
    has_softmax = _has_softmax(softmax_arrays)
    vocabulary = _vocabulary(words, origin, needed=words_are_wanted or has_softmax or table is not None)
    if table is not None:
        _require_rows("the table of words", len(table), words, vocabulary, origin)
    if has_softmax and vocabulary is None:
        log.warning("%s: its softmax is left out, for there is no vocabulary that says what its rows are", origin)
    elif has_softmax:
        with _naming(origin):
            shared = table if config.model.share_embedding_softmax else None
            softmax = bilm_tf_layout.softmax_parameters(softmax_arrays, config, shared)
        _require_rows("the softmax", len(softmax["bias"]), words, vocabulary, origin)
        params["softmax"] = softmax
    return Pretrained(config, params, vocabulary, origin, about=about)


def _has_softmax(arrays: Arrays) -> bool:
    return any(name in arrays for name in bilm_tf_layout.SOFTMAX)


def _vocabulary(words: Path | None, origin: str, *, needed: bool) -> Vocabulary | None:
    """The vocabulary, if there is one and it is of use.

    One without ``<S>`` and ``</S>`` is of none: readers that go on with it spoil its last word (ELMO_SPEC T1).
    """
    if words is None:
        return None
    try:
        return Vocabulary.load(words)
    except UserError as error:
        if needed:
            raise
        log.warning("%s: read without its vocabulary, which its vectors do not need (%s)", origin, error)
        return None


def _require_rows(what: str, n_rows: int, words: Path | None, vocabulary: Vocabulary | None, origin: str) -> None:
    if vocabulary is None:
        raise UserError(f"{origin} reads words and has no vocabulary beside it; put its vocab.txt there")
    if len(vocabulary) != n_rows:
        raise UserError(
            f"{words} has {len(vocabulary):,} words and {what} of {origin} {n_rows:,} rows; give the vocabulary that "
            "the model was trained with"
        )


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Say what an error is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{source}: {error}") from error.__cause__
