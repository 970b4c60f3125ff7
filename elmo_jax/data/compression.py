"""The bytes of a file, decompressed when its name ends in ``.gz`` or ``.zst``."""

import gzip
import zlib
from collections.abc import Iterator
from io import BufferedReader
from typing import Literal, Protocol

from elmo_jax.errors import UserError

# The program for each ending of a compressed file.
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}

# Compressed bytes that zstd gets at once: whatever they are, they become no more than 32 MiB.
ZSTD_INPUT_BYTES = 1 << 10
# Frames of `zstd --ultra --long=31` refer back this far; the library refuses them unless it is told.
ZSTD_MAX_WINDOW = 1 << 31

# Weights hardly shrink in an archive, and words to a fifth of themselves: what would grow more is no model.
MAX_GROWTH, SMALL = 20, 1 << 24


class File(Protocol):
    """A file by its name, which is what ``str`` gives: a path, or one of another file system."""

    @property
    def suffix(self) -> str:
        """The ending of the name, such as ``.gz``."""

    def open(self, mode: Literal["rb"], /) -> BufferedReader:
        """Open it for reading bytes."""


_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile)


def most_unpacked(n_bytes: int) -> int:
    """Bytes that so many packed bytes of a model may become: a few packed ones can be made to become any number."""
    return SMALL + MAX_GROWTH * n_bytes


def read_chunks(path: File, file: BufferedReader, n_bytes: int) -> Iterator[bytes]:
    """The contents of ``file`` from where it is, in chunks of one to ``n_bytes`` bytes.

    Args:
        path: the name of the file, whose ending tells how it is compressed.
        file: opened for reading bytes.
        n_bytes: in a chunk at most.

    Raises:
        UserError: when compressed data is truncated or corrupt, or ``zstandard`` is not installed.
    """
    tool = COMPRESSED.get(path.suffix)
    try:
        if tool and not file.peek(1):
            raise EOFError("the file is empty")
        if tool == "zstd":
            yield from _zstd_chunks(file, n_bytes)
        else:
            stream = gzip.GzipFile(fileobj=file) if tool == "gzip" else file
            yield from iter(lambda: stream.read(n_bytes), b"")
    except _DAMAGE as error:
        raise UserError(
            f"{path}: the compressed data is truncated or corrupt ({error}); check it with {tool} -t"
        ) from error


def _zstd_chunks(file: BufferedReader, n_bytes: int) -> Iterator[bytes]:
    """Frame after frame; the streams of the library take a frame that breaks off for one that ends."""
    try:
        import zstandard
    except ImportError as error:
        raise UserError(f"files in .zst need the package zstandard ({error}): pip install zstandard") from error
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW)
    frame, ready = None, bytearray()
    while data := file.read(ZSTD_INPUT_BYTES):
        while data:
            frame = frame or decompressor.decompressobj()
            try:
                ready += frame.decompress(data)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from error
            data, frame = (frame.unused_data, None) if frame.eof else (b"", frame)
        whole = len(ready) - len(ready) % n_bytes
        for start in range(0, whole, n_bytes):
            yield bytes(ready[start : start + n_bytes])
        del ready[:whole]
    if frame:
        raise EOFError("the last frame ends before its end")
    if ready:
        yield bytes(ready)
