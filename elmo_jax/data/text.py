"""Sentences of text: from shards, or from the embedded documentation."""

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from elmo_jax.data.compression import COMPRESSED, read_chunks
from elmo_jax.data.documentation import documentation_files, documentation_sentences
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.errors import UserError

# The boundaries of a sentence. They are put around every sentence and may not occur inside one.
BOS, EOS = "<S>", "</S>"

# Read at once; only whole lines of it are decoded, so memory follows the longest line and not the file.
BLOCK_BYTES = 1 << 20
MAX_LINE_BYTES = 64 << 20
# What the command line calls "-".
STANDARD_INPUT = Path("/dev/stdin")

# The tokens of a sentence: an empty list is an empty line, None is the end of a shard. A document ends at either.
Sentence = list[str] | None
# Told of the bytes of the files as they are consumed, for a progress bar.
Advance = Callable[[int], object]

# One sentence a line, whitespace between tokens.
TOKENIZED_LINES = Segmentation()


def _ignore(n_bytes: int) -> None:
    pass


class Piece(Protocol):
    """A part of a text that ends with a line, and that can be read by itself, in another process too."""

    def sentences(self) -> Iterator[Sentence]:
        """Its sentences, checked."""


@dataclass(frozen=True)
class Source:
    """Text that can be read again and again.

    Attributes:
        name: what a directory of its encoded corpus is called.
        files: everything the text is read from; when none of them changes, neither does the text.
        read: gives the sentences from the first to the last.
        variant: what the sentences depend on besides the files, such as the tokeniser.
        pieces: gives the same sentences in pieces, with None at the end of each shard; None when nothing does.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[Advance], Iterator[Sentence]]
    variant: str = ""
    pieces: Callable[[Advance], Iterator[Piece | None]] | None = None

    @property
    def title(self) -> str:
        """What messages call the text: its first file, and how many more there are."""
        more = len(self.files) - 1
        return f"{self.files[0]} (and {more} more files)" if more else str(self.files[0])


def text_source(globs: str, segmentation: Segmentation = TOKENIZED_LINES) -> Source:
    """The shards that match comma separated ``globs``. Raises what ``expand`` raises."""
    files = tuple(expand(globs))
    return Source(
        "text",
        files,
        lambda advance: read_sentences(files, advance, segmentation),
        segmentation.variant,
        lambda advance: _pieces(files, advance, segmentation),
    )


def pydoc_source(heldout: bool) -> Source:
    """The training or the held-out part of the embedded documentation."""
    name = "pydoc-heldout" if heldout else "pydoc-train"
    return Source(name, tuple(documentation_files()), lambda advance: pydoc_sentences(heldout, advance))


def pydoc_sentences(heldout: bool, advance: Advance = _ignore) -> Iterator[Sentence]:
    """The documentation every Python carries, about 300 thousand tokens; see ``documentation_sentences``."""
    return documentation_sentences(heldout, advance)


def expand(globs: str) -> list[Path]:
    """The files that comma separated globs match, sorted, each once.

    Raises:
        UserError: when a glob matches no file.
    """
    found: set[Path] = set()
    for pattern in filter(None, map(str.strip, globs.split(","))):
        literal = Path(pattern).expanduser()
        names = [str(literal)] if literal.is_file() else glob.glob(str(literal), recursive=True)
        files = {path for path in map(Path, names) if path.is_file()}
        if not files:
            hint = f"it is a directory; write '{pattern.rstrip('/')}/*'" if literal.is_dir() else "check the path"
            raise UserError(f"no text file matches '{pattern}': {hint}")
        found |= files
    if not found:
        raise UserError(f"no text file is named by '{globs}': give one glob or several separated by commas")
    return sorted(found)


def read_sentences(
    files: Iterable[Path], advance: Advance = _ignore, segmentation: Segmentation = TOKENIZED_LINES
) -> Iterator[Sentence]:
    r"""Read the sentences of text shards in order, plain, gzip (``.gz``) or Zstandard (``.zst``).

    A line ends at ``\n`` or ``\r\n`` and nowhere else. A byte order mark at the start of a file is dropped.

    Args:
        files: the shards.
        advance: told of the bytes consumed, compressed ones where a file is.
        segmentation: what the sentences and tokens of a line are.

    Yields:
        The tokens of each sentence, ``[]`` for an empty line, and ``None`` at the end of each file.

    Raises:
        UserError: naming file and line, for invalid UTF-8, NUL bytes, a token ``<S>`` or ``</S>`` and lines of more
            than 64 MiB; naming the file when it cannot be read or its compressed data is damaged.
    """
    for piece in _pieces(files, advance, segmentation):
        if piece is None:
            yield None
        else:
            yield from piece.sentences()


def read_lines(
    files: Iterable[Path], advance: Advance = _ignore, segmentation: Segmentation = TOKENIZED_LINES
) -> Iterator[str]:
    """The lines that ``read_sentences`` cuts, without their ends: checked as there, with the same errors."""
    for piece in filter(None, _pieces(files, advance, segmentation)):
        yield from (line.removesuffix("\r") for line in piece.lines())


def text_bytes(files: Iterable[Path]) -> int | None:
    """Bytes of text in files, decompressed; None when nobody knows, as of a pipe.

    Raises:
        UserError: when a file cannot be read or its compressed data is damaged.
    """
    total = 0
    for path in files:
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                compressed = path.suffix in COMPRESSED
                sizes = map(len, read_chunks(path, file, BLOCK_BYTES)) if compressed else [path.stat().st_size]
                total += sum(sizes)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return total


def _pieces(files: Iterable[Path], advance: Advance, segmentation: Segmentation) -> Iterator["_Lines | None"]:
    """The files in blocks of whole lines, and None at the end of each."""
    for path in files:
        for block in _blocks(path, advance):
            yield _Lines(block, segmentation)
            del block  # while the next one is read, the last one need not be kept
        yield None


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
class _Block:
    """Whole lines of a file."""

    path: Path
    line: int  # number of its first line, from 1
    offset: int  # of its first byte in the (decompressed) file
    data: bytes

    mend_nul = "remove them with tr -d '\\000', or convert UTF-16 with iconv -f UTF-16 -t UTF-8"
    mend_encoding = "convert the file: iconv -f <its encoding> -t UTF-8"

    def at(self, byte: int) -> tuple[str, str]:
        number = self.line + self.data.count(b"\n", 0, byte)
        return f"{self.path}:{number}", f"byte {self.offset + byte} of the file"


@dataclass(frozen=True)
class _Lines:
    """Whole lines of a file as a ``Piece``."""

    block: _Block
    segmentation: Segmentation

    def lines(self) -> list[str]:
        """The lines without their ends; no token of them is the mark of a boundary."""
        text = decode(self.block.data, self.block)
        if self.block.offset == 0:
            text = text.removeprefix("\ufeff")
        lines = text.removesuffix("\n").split("\n")
        if BOS in text or EOS in text:
            for number, line in enumerate(lines, self.block.line):
                refuse_boundaries(self.segmentation(line), f"{self.block.path}:{number}")
        return lines

    def sentences(self) -> Iterator[Sentence]:
        return sentences_of(self.lines(), self.segmentation)


def _blocks(path: Path, advance: Advance) -> Iterator[_Block]:
    line, offset, pending = 1, 0, bytearray()
    try:
        with path.open("rb") as file:
            consumed = 0
            tell = file.tell if file.seekable() else lambda: 0
            for chunk in read_chunks(path, file, BLOCK_BYTES):
                pending += chunk
                end = pending.rfind(b"\n") + 1
                if len(pending) - end > MAX_LINE_BYTES:
                    number = line + pending.count(b"\n", 0, end)
                    raise UserError(
                        f"{path}:{number}: the line is longer than {MAX_LINE_BYTES} bytes; put one sentence on a line"
                    )
                if end:
                    block = _Block(path, line, offset, bytes(pending[:end]))
                    del pending[:end]
                    line, offset = line + block.data.count(b"\n"), offset + end
                    yield block
                    del block  # while the next chunk is read, the last one need not be kept
                advance(tell() - consumed)
                consumed = tell()
            advance(tell() - consumed)
            if pending:
                yield _Block(path, line, offset, bytes(pending))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
