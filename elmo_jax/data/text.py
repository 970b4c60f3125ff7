"""Sentences of text: from shards, or from the embedded documentation."""

import glob
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from elmo_jax.data.compression import COMPRESSED, read_chunks
from elmo_jax.data.documentation import documentation_files, documentation_sentences
from elmo_jax.data.lines import BLOCK_BYTES, BOS, EOS, Advance, Lines, Piece, Sentence, blocks
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.errors import UserError

__all__ = [
    "BOS",
    "EOS",
    "STANDARD_INPUT",
    "TOKENIZED_LINES",
    "Source",
    "expand",
    "pydoc_sentences",
    "pydoc_source",
    "read_lines",
    "read_sentences",
    "text_bytes",
    "text_source",
]

# What the command line calls "-".
STANDARD_INPUT = Path("/dev/stdin")

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
        pieces: gives the same sentences in pieces, with None at the end of each shard; None when nothing does.
        encoded: the directory of its encoded corpus, when that is all there is of the text.
    """

    name: str
    files: tuple[Path, ...]
    read: Callable[[Advance], Iterator[Sentence]]
    variant: str = ""
    pieces: Callable[[Advance], Iterator[Piece | None]] | None = None
    encoded: Path | None = None

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


def _pieces(files: Iterable[Path], advance: Advance, segmentation: Segmentation) -> Iterator[Lines | None]:
    """The files in blocks of whole lines, and None at the end of each."""
    for path in files:
        for block in blocks(path, advance):
            yield Lines(block, segmentation)
            del block  # while the next one is read, the last one need not be kept
        yield None
