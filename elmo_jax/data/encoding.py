"""Text encoded into the files of a corpus, in memory that grows with the distinct types and not with the text."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import utf8
from elmo_jax.data.numbering import FIRST_TOKEN, LINE_END, Numbered, number_parts
from elmo_jax.data.text import BOS, EOS, Sentence
from elmo_jax.errors import UserError

FORMAT = 1
HEADER = "header.json"
# The arrays of a corpus (see `Corpus`), each in the file `<name>.bin`.
COLUMNS: dict[str, type[np.generic]] = {
    "ids": np.int32,
    "starts": np.int64,
    "documents": np.int64,
    "type_bytes": np.uint8,
    "type_offsets": np.int64,
    "type_counts": np.int64,
}

# Entries of an array that are in memory at once.
CHUNK = 1 << 20
# Part of the name of a directory while it is written, and the age at which it is taken for dead.
BUILDING = ".building-"
STALE_SECONDS = 24 * 3600


def column_path(directory: Path, name: str) -> Path:
    """The file of one array."""
    return directory / f"{name}.bin"


def encode(sentences: Iterable[Sentence], directory: Path, name: str = "the text") -> None:
    """Encode sentences into ``directory``; see ``encode_numbered``.

    Args:
        sentences: as from ``read_sentences``: tokens, ``[]`` for an empty line, None at the end of a shard.
        directory: what to make; its parents are made too.
        name: what messages call the text.
    """
    encode_numbered(number_parts(sentences), directory, name)


def encode_numbered(pieces: Iterable[Numbered], directory: Path, name: str) -> None:
    """Encode pieces of text into ``directory``, which appears complete or not at all.

    How the text is cut into pieces makes no difference. When another process completes the same directory first, its
    result stays.

    Raises:
        UserError: when the text has no token, holds a boundary mark as a token or cannot be written.
    """
    building = directory.with_name(f"{directory.name}{BUILDING}{uuid.uuid4().hex[:12]}")
    try:
        building.mkdir(parents=True)
        _remove_stale(directory)
        _write(pieces, building, name)
        try:
            building.rename(directory)
        except OSError:
            if not (directory / HEADER).is_file():
                raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"cannot write the encoded corpus {directory}: {reason}; make room there, or choose another directory "
            "(--config.data.cache_dir, or --cache-dir or --output of the elmo command)"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove_stale(directory: Path) -> None:
    """Remove what killed builds left behind; a living one writes far more often than once a day."""
    for left in directory.parent.glob(f"*{BUILDING}*"):
        try:
            newest = max(path.stat().st_mtime for path in (left, *left.iterdir()))
        except OSError:
            continue  # it was renamed or removed meanwhile
        if time.time() - newest > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _write(pieces: Iterable[Numbered], directory: Path, name: str) -> None:
    with _Columns(directory) as columns:
        for piece in pieces:
            columns.add(piece)
        columns.finish()
    counts = columns.counts
    if not counts["n_tokens"]:
        raise UserError(
            f"{name} holds no tokens ({counts['n_empty_lines']} empty lines): give text with one sentence a line"
        )
    new_id, longest = _write_types(directory, list(columns.types))
    type_counts = _renumber(column_path(directory, "ids"), new_id)
    type_counts[:2] = counts["n_sentences"]  # each boundary is predicted once a sentence
    _save(directory, "type_counts", type_counts)
    header = {"format": FORMAT, **counts, "n_types": len(new_id), "longest_token_bytes": longest}
    _write_header(directory, header)


class _Columns:
    """First pass: the layout of the corpus on disk, with types numbered as they appear, from 2.

    Attributes:
        types: the number of each type.
    """

    def __init__(self, directory: Path) -> None:
        self.types: dict[str, int] = {}
        self._open, names = contextlib.ExitStack(), ("ids", "starts", "documents")
        self._files = {name: self._open.enter_context(column_path(directory, name).open("wb")) for name in names}
        self._n_predictions = self._n_sentences = self._n_documents = self._n_empty_lines = 0
        self._in_document = False
        self._append("ids", np.zeros(1))

    def __enter__(self) -> "_Columns":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def counts(self) -> dict[str, int]:
        """What the header tells of the text."""
        return {
            "n_tokens": self._n_predictions - self._n_sentences,
            "n_sentences": self._n_sentences,
            "n_documents": self._n_documents,
            "n_empty_lines": self._n_empty_lines,
        }

    def add(self, piece: Numbered) -> None:
        """Append a piece: each of its sentences is followed by a boundary, which is what ends a line."""
        numbers = piece.numbers
        ends = np.flatnonzero(numbers < FIRST_TOKEN)
        sizes = np.diff(ends, prepend=-1)  # of the lines, with their ends
        is_sentence = sizes > 1
        follows_sentence = np.append(self._in_document, is_sentence[:-1])
        first_of_document = (is_sentence & ~follows_sentence)[is_sentence]
        sizes = sizes[is_sentence]
        self._append("documents", self._n_sentences + np.flatnonzero(first_of_document))
        self._append("starts", self._n_predictions + np.cumsum(sizes) - sizes)
        known = self.types
        new_number = [0, 0, *(known.setdefault(token, len(known) + FIRST_TOKEN) for token in piece.tokens)]
        self._append("ids", np.array(new_number, np.int32)[np.delete(numbers, ends[~is_sentence])])
        self._n_predictions += int(sizes.sum())
        self._n_sentences += len(sizes)
        self._n_documents += int(first_of_document.sum())
        self._n_empty_lines += int((numbers[ends[~is_sentence]] == LINE_END).sum())
        self._in_document = bool(is_sentence[-1]) if len(ends) else self._in_document

    def finish(self) -> None:
        """Append the ends of the last document and sentence."""
        self._append("documents", np.array([self._n_sentences]))
        self._append("starts", np.array([self._n_predictions]))

    def _append(self, name: str, values: npt.NDArray[Any]) -> None:
        self._files[name].write(values.astype(COLUMNS[name], copy=False).data)


def _write_types(directory: Path, words: list[str]) -> tuple[npt.NDArray[np.int32], int]:
    """Write the types by (byte length, bytes); the new id of each old one, and the longest length."""
    encoded = [utf8(BOS), utf8(EOS), *map(utf8, words)]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    by_bytes = np.array(sorted(range(2, len(encoded)), key=encoded.__getitem__), np.int64)
    by_length = by_bytes[np.argsort(lengths[by_bytes], kind="stable")]
    order = np.concatenate([np.arange(2), by_length])
    with column_path(directory, "type_bytes").open("wb") as file:
        file.writelines(encoded[i] for i in order)
    _save(directory, "type_offsets", np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[order])]))
    new_id = np.empty(len(encoded), np.int32)
    new_id[order] = np.arange(len(encoded), dtype=np.int32)
    return new_id, int(lengths.max())


def _renumber(path: Path, new_id: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Second pass: replace the ids of a file in place; how often each new one occurs."""
    counts = np.zeros(len(new_id), np.int64)
    with path.open("r+b") as file:
        while data := file.read(CHUNK * new_id.itemsize):
            ids = new_id[np.frombuffer(data, new_id.dtype)]
            counts += np.bincount(ids, minlength=len(new_id))
            file.seek(-len(data), os.SEEK_CUR)
            file.write(ids.data)
    return counts


def _save(directory: Path, name: str, values: npt.NDArray[Any]) -> None:
    column_path(directory, name).write_bytes(values.astype(COLUMNS[name], copy=False).data)


def _write_header(directory: Path, header: dict[str, int]) -> None:
    digest = hashlib.blake2b(digest_size=16)
    sizes = {}
    for name in COLUMNS:
        with column_path(directory, name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
            sizes[name] = file.tell()
    text = json.dumps({**header, "bytes": sizes, "fingerprint": digest.hexdigest()}, indent=2)
    (directory / HEADER).write_text(text + "\n", encoding="utf-8")
