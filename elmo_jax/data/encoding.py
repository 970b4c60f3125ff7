"""Text encoded into the files of a corpus, in memory that grows with the distinct types and not with the text."""

import hashlib
import json
import os
import shutil
import time
import uuid
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import utf8
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
    """Encode sentences into ``directory``, which appears complete or not at all.

    When another process completes the same directory first, its result stays.

    Args:
        sentences: as from ``read_sentences``: tokens, ``[]`` for an empty line, None at the end of a shard.
        directory: what to make; its parents are made too.
        name: what messages call the text.

    Raises:
        UserError: when the text has no token, holds a boundary mark as a token or cannot be written.
    """
    building = directory.with_name(f"{directory.name}{BUILDING}{uuid.uuid4().hex[:12]}")
    try:
        building.mkdir(parents=True)
        _remove_stale(directory)
        _write(sentences, building, name)
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


def _write(sentences: Iterable[Sentence], directory: Path, name: str) -> None:
    types = _Types()
    counts = _write_in_order_of_appearance(sentences, directory, types)
    if not counts["n_tokens"]:
        raise UserError(
            f"{name} holds no tokens ({counts['n_empty_lines']} empty lines): give text with one sentence a line"
        )
    new_id, longest = _write_types(directory, list(types))
    type_counts = _renumber(column_path(directory, "ids"), new_id)
    type_counts[:2] = counts["n_sentences"]  # each boundary is predicted once a sentence
    _save(directory, "type_counts", type_counts)
    header = {"format": FORMAT, **counts, "n_types": len(new_id), "longest_token_bytes": longest}
    _write_header(directory, header)


class _Types(dict[str, int]):
    """Ids of types in order of appearance, from 2; a new type gets its id when it is looked up."""

    def __missing__(self, token: str) -> int:
        if token in (BOS, EOS):
            raise UserError(
                f"the token {token} is the mark of a sentence boundary and may not occur in text; remove it"
            )
        self[token] = number = len(self) + 2
        return number


class _Column:
    """An array that grows on disk; its newest entries are in ``buffer``."""

    def __init__(self, directory: Path, name: str) -> None:
        self.buffer: array[int] = array(np.dtype(COLUMNS[name]).char)
        self._file = column_path(directory, name).open("wb")
        self._written = 0

    def __len__(self) -> int:
        return self._written + len(self.buffer)

    def flush(self) -> None:
        self._file.write(self.buffer)
        self._written += len(self.buffer)
        del self.buffer[:]

    def __enter__(self) -> "_Column":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def _write_in_order_of_appearance(sentences: Iterable[Sentence], directory: Path, types: _Types) -> dict[str, int]:
    """First pass: the layout of the corpus with types numbered as they appear."""
    n_empty_lines, document_ended = 0, True
    type_id = types.__getitem__
    with (
        _Column(directory, "ids") as ids,
        _Column(directory, "starts") as starts,
        _Column(directory, "documents") as documents,
    ):
        for sentence in sentences:
            if not sentence:
                n_empty_lines += sentence is not None
                document_ended = True
                continue
            if document_ended:
                documents.buffer.append(len(starts))
                document_ended = False
            starts.buffer.append(len(ids))
            ids.buffer.append(0)
            ids.buffer.extend(map(type_id, sentence))
            if len(ids.buffer) >= CHUNK:
                for column in (ids, starts, documents):
                    column.flush()
        n_sentences, n_documents, n_predictions = len(starts), len(documents), len(ids)
        documents.buffer.append(n_sentences)
        starts.buffer.append(n_predictions)
        ids.buffer.append(0)
        for column in (ids, starts, documents):
            column.flush()
    return {
        "n_tokens": n_predictions - n_sentences,
        "n_sentences": n_sentences,
        "n_documents": n_documents,
        "n_empty_lines": n_empty_lines,
    }


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
