"""Text encoded into the files of a corpus, in memory that grows with the distinct types and not with the text."""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import utf8
from elmo_jax.data.layout import Extent, lay_out
from elmo_jax.data.lines import BOS, EOS, Sentence
from elmo_jax.data.numbering import FIRST_TOKEN, Numbered, number_parts
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
    with complete_or_not(directory) as building:
        _write(pieces, building, name)


@contextlib.contextmanager
def complete_or_not(directory: Path) -> Iterator[Path]:
    """A directory beside ``directory`` to write an encoded corpus into, which gets that name at the end.

    After an error nothing stays. When another process completes the same directory first, its result stays.

    Raises:
        UserError: when it cannot be written.
    """
    building = directory.with_name(f"{directory.name}{BUILDING}{uuid.uuid4().hex[:12]}")
    try:
        building.mkdir(parents=True)
        _remove_stale(directory)
        yield building
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
    end = columns.end
    refuse_empty(end, name)
    new_id = _write_types(directory, list(columns.types))
    type_counts = _renumber(column_path(directory, "ids"), new_id)
    type_counts[:2] = end.n_sentences  # each boundary is predicted once a sentence
    _save(directory, "type_counts", type_counts)
    write_header(directory, end)


def refuse_empty(end: Extent, name: str) -> None:
    """Refuse a text without tokens.

    Raises:
        UserError: calling the text ``name``.
    """
    if not end.n_sentences:
        raise UserError(f"{name} holds no tokens ({end.n_empty_lines} empty lines): give text with one sentence a line")


class _Columns:
    """First pass: the layout of the corpus on disk, with types numbered as they appear, from 2.

    Attributes:
        types: the number of each type.
        end: how far the text goes.
    """

    def __init__(self, directory: Path) -> None:
        self.types: dict[str, int] = {}
        self.end = Extent()
        self._open, names = contextlib.ExitStack(), ("ids", "starts", "documents")
        self._files = {name: self._open.enter_context(column_path(directory, name).open("wb")) for name in names}
        self._append("ids", np.zeros(1))

    def __enter__(self) -> "_Columns":
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def add(self, piece: Numbered) -> None:
        """Append a piece."""
        laid = lay_out(piece.numbers, self.end)
        known = self.types
        new_number = [0, 0, *(known.setdefault(token, len(known) + FIRST_TOKEN) for token in piece.tokens)]
        self._append("ids", np.array(new_number, np.int32)[laid.numbers])
        self._append("starts", laid.starts)
        self._append("documents", laid.documents)
        self.end = laid.end

    def finish(self) -> None:
        """Append the ends of the last document and sentence."""
        self._append("documents", np.array([self.end.n_sentences]))
        self._append("starts", np.array([self.end.n_predictions]))

    def _append(self, name: str, values: npt.NDArray[Any]) -> None:
        self._files[name].write(values.astype(COLUMNS[name], copy=False).data)


def _write_types(directory: Path, words: list[str]) -> npt.NDArray[np.int32]:
    """Write the types by (byte length, bytes); the new id of each old one."""
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
    return new_id


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


def write_header(directory: Path, end: Extent) -> None:
    """Write the header of a corpus whose arrays are there.

    Args:
        directory: of the corpus.
        end: how far its text goes.
    """
    lengths = np.diff(np.memmap(column_path(directory, "type_offsets"), COLUMNS["type_offsets"], mode="r"))
    digest = hashlib.blake2b(digest_size=16)
    sizes = {}
    for name in COLUMNS:
        with column_path(directory, name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
            sizes[name] = file.tell()
    header = {
        "format": FORMAT,
        **end.counts,
        "n_types": len(lengths),
        "longest_token_bytes": int(lengths.max()),
        "bytes": sizes,
        "fingerprint": digest.hexdigest(),
    }
    (directory / HEADER).write_text(json.dumps(header, indent=2) + "\n", encoding="utf-8")
