"""Lines of files as sentences of tokens: blocks of whole lines, each of which can be read by itself."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from typing import Protocol

from elmo_jax.data.compression import File, read_chunks
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.errors import UserError

# The boundaries of a sentence. They are put around every sentence and may not occur inside one.
BOS, EOS = "<S>", "</S>"

# Read at once; only whole lines of it are decoded, so memory follows the longest line and not the file.
BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20

# The tokens of a sentence: an empty list is an empty line, None is the end of a shard. A document ends at either.
Sentence = list[str] | None
# Told of the bytes of the files as they are consumed, for a progress bar.
Advance = Callable[[int], object]


class Piece(Protocol):
    """A part of a text that ends with a line, and that can be read by itself, in another process too."""

    def sentences(self) -> Iterator[Sentence]:
        """Its sentences, checked."""


def sentences_of(lines: Iterable[str], segmentation: Segmentation) -> Iterator[Sentence]:
    """The sentences of lines, ``[]`` for an empty line."""
    if segmentation.plain:
        yield from map(str.split, lines)
        return
    for line in lines:
        if line.strip():
            yield from segmentation(line)
        else:
            yield []


class Place(Protocol):
    """Where bytes of text come from, for messages."""

    @property
    def mend_nul(self) -> str:
        """What to do about NUL bytes."""

    @property
    def mend_encoding(self) -> str:
        """What to do about another encoding than UTF-8."""

    def at(self, byte: int) -> tuple[str, str]:
        """Line or record, and position, of a byte: ``("news.txt:3", "byte 76 of the file")``."""


def decode(data: bytes, place: Place) -> str:
    """The text of UTF-8 bytes.

    Raises:
        UserError: naming the place, for invalid UTF-8 and NUL bytes.
    """
    nul = data.find(b"\0")
    if nul >= 0:
        where, byte = place.at(nul)
        raise UserError(f"{where}: NUL byte at {byte}; text must be UTF-8 without NUL bytes: {place.mend_nul}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        where, byte = place.at(error.start)
        raise UserError(f"{where}: invalid UTF-8 at {byte} ({error.reason}); {place.mend_encoding}") from error


def refuse_boundaries(sentences: Iterable[Iterable[str]], where: str) -> None:
    """Refuse ``<S>`` and ``</S>`` among the tokens of a line's sentences.

    Raises:
        UserError: naming ``where`` the line is, such as ``news.txt:3``.
    """
    for mark in {BOS, EOS}.intersection(itertools.chain.from_iterable(sentences)):
        raise UserError(
            f"{where}: the token {mark} is the mark of a sentence boundary and may not occur in text; "
            f"remove it (boundaries are added to every sentence)"
        )


@dataclass(frozen=True)
class Block:
    """Whole lines of a file."""

    file: File
    line: int  # number of its first line, from 1
    offset: int  # of its first byte in the (decompressed) file
    data: bytes

    mend_nul = "remove them with tr -d '\\000', or convert UTF-16 with iconv -f UTF-16 -t UTF-8"
    mend_encoding = "convert the file: iconv -f <its encoding> -t UTF-8"

    def at(self, byte: int) -> tuple[str, str]:
        """Line and position of a byte; see ``Place``."""
        number = self.line + self.data.count(b"\n", 0, byte)
        return f"{self.file}:{number}", f"byte {self.offset + byte} of the file"


@dataclass(frozen=True)
class Lines:
    """Whole lines of a file as a ``Piece``."""

    block: Block
    segmentation: Segmentation

    def lines(self) -> list[str]:
        """The lines without their ends; no token of them is the mark of a boundary."""
        text = decode(self.block.data, self.block)
        if self.block.offset == 0:
            text = text.removeprefix("\ufeff")
        lines = text.removesuffix("\n").split("\n")
        if BOS in text or EOS in text:
            for number, line in enumerate(lines, self.block.line):
                refuse_boundaries(self.segmentation(line), f"{self.block.file}:{number}")
        return lines

    def sentences(self) -> Iterator[Sentence]:
        """The sentences of the lines, ``[]`` for an empty line."""
        return sentences_of(self.lines(), self.segmentation)


@dataclass(frozen=True)
class Part:
    """The lines of a file that begin in a range of its bytes; all of them by default.

    Attributes:
        begin: of the range; 0 in a compressed file.
        end: of the range; None is the end of the file, and what a compressed file has.
        line: the number of the first of the lines, which messages need.
    """

    begin: int = 0
    end: int | None = None
    line: int = 1


WHOLE = Part()


def blocks(file: File, advance: Advance, part: Part = WHOLE) -> Iterator[Block]:
    """Blocks of whole lines, which together are all lines of a part of a file.

    Args:
        file: plain, gzip (``.gz``) or Zstandard (``.zst``).
        advance: told of the bytes consumed, compressed ones where the file is.
        part: which lines.

    Raises:
        UserError: for a line of more than 64 MiB, and when the file cannot be read or is damaged.
    """
    line, pending = part.line, bytearray()
    try:
        with file.open("rb") as stream:
            consumed = 0
            tell = stream.tell if stream.seekable() else lambda: 0
            offset = _seek(stream, part)
            for chunk in _chunks(file, stream, offset, part):
                pending += chunk
                end = pending.rfind(b"\n") + 1
                if len(pending) - end > MAX_LINE_BYTES:
                    number = line + pending.count(b"\n", 0, end)
                    raise UserError(
                        f"{file}:{number}: the line is longer than {MAX_LINE_BYTES} bytes; put one sentence on a line"
                    )
                if end:
                    block = Block(file, line, offset, bytes(pending[:end]))
                    del pending[:end]
                    line, offset = line + block.data.count(b"\n"), offset + end
                    yield block
                    del block  # while the next chunk is read, the last one need not be kept
                advance(tell() - consumed)
                consumed = tell()
            advance(tell() - consumed)
            if pending:
                yield Block(file, line, offset, bytes(pending))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}") from error


def lines_before(file: File, byte: int) -> int:
    """How many lines of a plain file begin before a byte of it.

    Raises:
        OSError: when the file cannot be read.
    """
    with file.open("rb") as stream:
        n_ends, left = 0, max(byte - 1, 0)
        while left and (data := stream.read(min(BLOCK_BYTES, left))):
            n_ends, left = n_ends + data.count(b"\n"), left - len(data)
    return n_ends + bool(byte)


def _seek(stream: BufferedReader, part: Part) -> int:
    """Go to the first line that begins in the part, or to its end; where that is."""
    if not part.begin:
        return 0
    offset = stream.seek(part.begin - 1)
    while part.end is None or offset < part.end:
        data = stream.readline(BLOCK_BYTES)
        offset += len(data)
        if not data or data.endswith(b"\n"):
            break
    return offset


def _chunks(file: File, stream: BufferedReader, offset: int, part: Part) -> Iterator[bytes]:
    """The bytes of a part of a file from ``offset`` on, where the stream is."""
    if part.end is None:
        yield from read_chunks(file, stream, BLOCK_BYTES)
        return
    data = b""
    while offset < part.end and (data := stream.read(min(BLOCK_BYTES, part.end - offset))):
        offset += len(data)
        yield data
    while data and not data.endswith(b"\n"):  # the rest of the last line, which begins in the part
        data = stream.readline(BLOCK_BYTES)
        yield data
