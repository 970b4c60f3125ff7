"""What the workers of a pipeline do with text: number a shard of it, find its place, lay it out.

What goes from one to the next is small; tokens and arrays go through files of a ``WorkFolder``.
"""

import itertools
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import astuple, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.beam.files import BeamFile, Span, WorkFolder, create, open_stored, shards
from elmo_jax.data.beam.sorting import Types, type_ids
from elmo_jax.data.characters import utf8
from elmo_jax.data.encoding import COLUMNS
from elmo_jax.data.layout import Extent, lay_out
from elmo_jax.data.lines import Block, Lines, Sentence, blocks, lines_before
from elmo_jax.data.numbering import FIRST_TOKEN, Numbered, number_sentences
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.errors import UserError

# Outputs of ``number_shard`` besides its pieces.
COUNTS, FAILURES = "counts", "failures"
FILES, MANIFEST = "files.json", "manifest.json"


class Task(NamedTuple):
    """What a pipeline is asked to do.

    Attributes:
        segmentation: how its lines are cut.
        shard_bytes: of text that a worker takes at a time, which bounds its memory.
        encode: lay the text out too; otherwise its types are counted, and that is all.
        folder: where workers write, and the list of files is.
    """

    segmentation: Segmentation
    shard_bytes: int
    encode: bool
    folder: WorkFolder


class Piece(NamedTuple):
    """A piece of text that was numbered.

    Attributes:
        key: sorts the pieces of a text.
        extent: of the piece alone.
        begins_inside: its first line is a sentence.
        location: of its tokens and numbers; empty where nobody needs them.
    """

    key: tuple[int, int]
    extent: Extent
    begins_inside: bool
    location: str


class LaidOut(NamedTuple):
    """A piece of text as it stands in the corpus: ids, starts and documents, one after the other in a file."""

    key: tuple[int, int]
    location: str
    n_ids: int
    n_starts: int
    n_documents: int


def write_files(files: Iterable[BeamFile], folder: WorkFolder) -> None:
    """Write the list of the files of the text, which may be longer than what a runner takes along with a pipeline."""
    with create(folder.path(FILES)) as file:
        file.write(json.dumps([astuple(each) for each in files]).encode())


def cut(_: object, task: Task) -> Iterator[tuple[int, list[Span]]]:
    """The shards of the text, numbered."""
    with open_stored(task.folder.path(FILES)) as file:
        files = [BeamFile(*each) for each in json.load(file)]
    return enumerate(shards(files, task.shard_bytes))


def number_shard(shard: tuple[int, list[Span]], task: Task) -> Iterator[Any]:
    """Number a shard: ``Piece``s; (token, how often it occurs) as ``COUNTS``; (shard, message) as ``FAILURES``."""
    from apache_beam.pvalue import TaggedOutput

    number, spans = shard
    try:
        for part, numbered in enumerate(_numbered(spans, task)):
            begin = Extent()
            location = _write_numbered(numbered, task.folder) if task.encode else ""
            extent = lay_out(numbered.numbers, begin).end
            yield Piece((number, part), extent, bool(numbered.numbers[0] >= FIRST_TOKEN), location)
            times = np.bincount(numbered.numbers, minlength=FIRST_TOKEN)[FIRST_TOKEN:].tolist()
            for token, count in zip(numbered.tokens, times, strict=True):
                yield TaggedOutput(COUNTS, (utf8(token), count))
    except UserError as error:
        yield TaggedOutput(FAILURES, (number, _message(spans, task, error)))


def _numbered(spans: list[Span], task: Task) -> Iterator[Numbered]:
    """The lines of the spans, numbered in pieces of about ``task.shard_bytes``."""
    lines = _blocks(spans)
    for first in lines:
        group = itertools.chain([first], _take(lines, task.shard_bytes - _size(first)))
        yield number_sentences(_sentences(group, task.segmentation))


def _blocks(spans: list[Span]) -> Iterator[Block | None]:
    """Blocks of whole lines, and None where a file ends."""
    for span in spans:
        yield from blocks(span.file, lambda n_bytes: None, span.part)
        if span.is_last:
            yield None


def _take(lines: Iterator[Block | None], n_bytes: int) -> Iterator[Block | None]:
    while n_bytes > 0 and (block := next(lines, _END)) is not _END:
        yield block
        n_bytes -= _size(block)


def _size(block: Block | None) -> int:
    return len(block.data) if block else 0


def _sentences(group: Iterable[Block | None], segmentation: Segmentation) -> Iterator[Sentence]:
    for block in group:
        if block is None:
            yield None
        else:
            yield from Lines(block, segmentation).sentences()


def _message(spans: list[Span], task: Task, error: UserError) -> str:
    """What is wrong with a shard, with the numbers of lines, which take reading the files before it."""
    try:
        exact = [
            span._replace(part=replace(span.part, line=1 + lines_before(span.file, span.part.begin))) for span in spans
        ]
        for _ in _numbered(exact, task):
            pass
    except (UserError, OSError) as again:
        return str(again)
    return str(error)


def _write_numbered(numbered: Numbered, folder: WorkFolder) -> str:
    tokens = [utf8(token) for token in numbered.tokens]
    sizes = np.fromiter(map(len, tokens), np.int64, len(tokens))
    header = struct.pack("<qqq", sizes.sum(), len(sizes), len(numbered.numbers))
    return folder.write("numbered", header, b"".join(tokens), sizes.data, numbered.numbers.data)


def _read_numbered(location: str) -> tuple[bytes, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """The bytes of the distinct tokens of a piece, the length of each, and the numbers of the piece."""
    with open_stored(location) as file:
        n_bytes, n_tokens, n_numbers = struct.unpack("<qqq", file.read(24))
        data = file.read(n_bytes)
        sizes = np.frombuffer(file.read(8 * n_tokens), np.int64)
        return data, sizes, np.frombuffer(file.read(4 * n_numbers), np.int32)


def places(_: object, pieces: list[Piece], failures: list[Any]) -> Iterator[tuple[Piece, Extent]]:
    """Each piece with where it begins in the text; nothing when a part of the text is missing."""
    if failures:
        return
    end = Extent()
    for piece in sorted(pieces):
        yield piece, end
        end = end.then(piece.extent, piece.begins_inside)


def lay_out_piece(placed: tuple[Piece, Extent], types: Types, folder: WorkFolder) -> LaidOut:
    """Write a piece of text as it stands in the corpus."""
    piece, begin = placed
    data, sizes, numbers = _read_numbered(piece.location)
    laid = lay_out(numbers, begin)
    ids = np.concatenate([np.zeros(FIRST_TOKEN, np.int32), type_ids(data, sizes, types)])[laid.numbers]
    arrays = [
        np.ascontiguousarray(array, COLUMNS[name])
        for name, array in (("ids", ids), ("starts", laid.starts), ("documents", laid.documents))
    ]
    location = folder.write("laid-out", *(array.data for array in arrays))
    return LaidOut(piece.key, location, *map(len, arrays))


def write_manifest(
    _: object,
    types: Types,
    pieces: list[Piece],
    failures: list[tuple[int, str]],
    laid_out: list[LaidOut],
    folder: WorkFolder,
) -> None:
    """Write what the launcher needs to know."""
    end = Extent()
    for piece in sorted(pieces):
        end = end.then(piece.extent, piece.begins_inside)
    manifest = {
        "failure": min(failures)[1] if failures else None,
        "end": end,
        "types": types,
        "laid_out": sorted(laid_out),
    }
    with create(folder.path(MANIFEST)) as file:
        file.write(json.dumps(manifest).encode())


class Manifest(NamedTuple):
    """What a pipeline made."""

    end: Extent
    types: Types
    laid_out: list[LaidOut]


def read_manifest(folder: WorkFolder) -> Manifest:
    """Read what a pipeline made.

    Raises:
        UserError: with the first thing that is wrong with the text.
    """
    with open_stored(folder.path(MANIFEST)) as file:
        manifest = json.load(file)
    if manifest["failure"] is not None:
        raise UserError(manifest["failure"])
    laid_out = [LaidOut(tuple(key), *rest) for key, *rest in manifest["laid_out"]]
    return Manifest(Extent(*manifest["end"]), Types(*manifest["types"]), laid_out)


# Of blocks: None is the end of a file.
_END: Any = object()
