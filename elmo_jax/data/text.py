"""Sentences of text: from shards, or from the embedded documentation."""

import glob
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from elmo_jax.data.compression import read_chunks
from elmo_jax.data.documentation import documentation_files, documentation_sentences
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

# One sentence a line, whitespace between tokens.
TOKENIZED_LINES = Segmentation()


def _ignore(n_bytes: int) -> None:
    pass


@dataclass(frozen=True)
class Source:
    """Text that can be read again and again.

    Attributes:
        name: what a directory of its encoded corpus is called.
        files: everything the text is read from; when none of them changes, neither does the text.
        read: gives the sentences from the first to the last.
        variant: what the sentences depend on besides the files, such as the tokeniser.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[Advance], Iterator[Sentence]]
    variant: str = ""


def text_source(globs: str, segmentation: Segmentation = TOKENIZED_LINES) -> Source:
    """The shards that match comma separated ``globs``. Raises what ``expand`` raises."""
    files = tuple(expand(globs))
    return Source("text", files, lambda advance: read_sentences(files, advance, segmentation), segmentation.variant)


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
    for path in files:
        for block in _blocks(path, advance):
            text = _decode(path, block)
            lines = text.removesuffix("\n").split("\n")
            if BOS in text or EOS in text:
                _refuse_boundaries(path, block.line, lines, segmentation)
            if segmentation.plain:
                yield from map(str.split, lines)
            else:
                yield from _segmented(lines, segmentation)
        yield None


def _segmented(lines: list[str], segmentation: Segmentation) -> Iterator[Sentence]:
    for line in lines:
        if line.strip():
            yield from segmentation(line)
        else:
            yield []


class _Block(NamedTuple):
    """Whole lines of a file."""

    line: int  # number of its first line, from 1
    offset: int  # of its first byte in the (decompressed) file
    data: bytes


def _blocks(path: Path, advance: Advance) -> Iterator[_Block]:
    line, offset, pending = 1, 0, bytearray()
    try:
        with path.open("rb") as file:
            consumed = 0
            for chunk in read_chunks(path, file, BLOCK_BYTES):
                pending += chunk
                end = pending.rfind(b"\n") + 1
                if len(pending) - end > MAX_LINE_BYTES:
                    number = line + pending.count(b"\n", 0, end)
                    raise UserError(
                        f"{path}:{number}: the line is longer than {MAX_LINE_BYTES} bytes; put one sentence on a line"
                    )
                if end:
                    block = _Block(line, offset, bytes(pending[:end]))
                    del pending[:end]
                    line, offset = line + block.data.count(b"\n"), offset + end
                    yield block
                    del block  # while the next chunk is read, the last one need not be kept
                advance(file.tell() - consumed)
                consumed = file.tell()
            advance(file.tell() - consumed)
            if pending:
                yield _Block(line, offset, bytes(pending))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _decode(path: Path, block: _Block) -> str:
    nul = block.data.find(b"\0")
    if nul >= 0:
        number = block.line + block.data.count(b"\n", 0, nul)
        raise UserError(
            f"{path}:{number}: NUL byte at byte {block.offset + nul} of the file; text must be UTF-8 without "
            f"NUL bytes: remove them with tr -d '\\000', or convert UTF-16 with iconv -f UTF-16 -t UTF-8"
        )
    try:
        text = block.data.decode("utf-8")
    except UnicodeDecodeError as error:
        number = block.line + block.data.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}:{number}: invalid UTF-8 at byte {block.offset + error.start} of the file ({error.reason}); "
            f"convert the file: iconv -f <its encoding> -t UTF-8"
        ) from error
    return text.removeprefix("\ufeff") if block.offset == 0 else text


def _refuse_boundaries(path: Path, first_line: int, lines: list[str], segmentation: Segmentation) -> None:
    for number, line in enumerate(lines, first_line):
        for mark in {BOS, EOS}.intersection(itertools.chain.from_iterable(segmentation(line))):
            raise UserError(
                f"{path}:{number}: the token {mark} is the mark of a sentence boundary and may not occur in text; "
                f"remove it (boundaries are added to every sentence)"
            )
