"""Files in the file systems of Apache Beam: local ones, Google Cloud Storage, Amazon S3, HDFS and others."""

import contextlib
import functools
import io
import logging
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from elmo_jax.data import text
from elmo_jax.data.compression import COMPRESSED
from elmo_jax.data.lines import WHOLE, Part
from elmo_jax.errors import UserError


def filesystems() -> Any:
    """``FileSystems`` of Apache Beam.

    Raises:
        UserError: when Apache Beam is not installed.
    """
    logging.disable(logging.WARNING)  # it warns of what Google's services would need
    try:
        from apache_beam.io.filesystems import FileSystems
    except ImportError as error:
        raise UserError(f"--beam takes Apache Beam ({error}): pip install 'elmo-jax[beam]'") from error
    finally:
        logging.disable(logging.NOTSET)
    return FileSystems


def is_local(name: str) -> bool:
    """Whether a name is a path of this machine, without ``gs://`` or the like."""
    return "://" not in name


@dataclass(frozen=True)
class BeamFile:
    """A file of text; a ``File`` to read.

    Attributes:
        name: as messages call it.
        location: where it is from everywhere.
        n_bytes: its size.
        modified_ns: when it was changed last, in nanoseconds.
    """

    name: str
    location: str
    n_bytes: int
    modified_ns: int

    def __str__(self) -> str:
        return self.name

    @property
    def suffix(self) -> str:
        """The ending of the name."""
        return PurePosixPath(self.name).suffix

    def open(self, mode: Literal["rb"], /) -> io.BufferedReader:
        """Open it for reading the bytes that are stored."""
        return open_stored(self.location)


def open_stored(location: str) -> io.BufferedReader:
    """Open a file for reading the bytes that are stored, compressed or not."""
    from apache_beam.io.filesystem import CompressionTypes

    file = filesystems().open(location, compression_type=CompressionTypes.UNCOMPRESSED)
    return file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)


def expand(globs: str) -> list[BeamFile]:
    """The files that comma separated globs match, sorted as ``text.expand`` does, each once.

    Raises:
        UserError: when a glob matches nothing, or its file system cannot be read.
    """
    patterns = list(filter(None, map(str.strip, globs.split(","))))
    local = [pattern for pattern in patterns if is_local(pattern)]
    found = dict[str, BeamFile]()
    for pattern in patterns:
        if not is_local(pattern):
            matched = list(_match(pattern))
            if not matched:
                raise UserError(f"no text file matches '{pattern}': check the address")
            found.update((file.location, file) for file in matched)
    remote = [found[location] for location in sorted(found, key=lambda location: location.split("/"))]
    return [*(map(_local_file, text.expand(",".join(local))) if local or not patterns else ()), *remote]


def _local_file(path: Path) -> BeamFile:
    try:
        stat = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return BeamFile(str(path), str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def _match(pattern: str) -> Iterator[BeamFile]:
    try:
        (result,) = filesystems().match([pattern])
    except (OSError, ValueError) as error:  # ValueError: of a file system that is not installed
        raise UserError(f"cannot list '{pattern}': {error}") from error
    for found in result.metadata_list:
        modified_ns = int(found.last_updated_in_seconds * 1e9)
        yield BeamFile(found.path, found.path, found.size_in_bytes, modified_ns)


class Span(NamedTuple):
    """Lines of a file, and whether the file ends with them."""

    file: BeamFile
    part: Part
    is_last: bool


def shards(files: Iterable[BeamFile], n_bytes: int) -> Iterator[list[Span]]:
    """The files in order, cut into shards of about so many bytes; a compressed file is not cut.

    Small files share a shard.
    """
    shard, size = [], 0
    for span in _spans(files, n_bytes):
        begin, end = span.part.begin, span.part.end
        shard.append(span)
        size += (span.file.n_bytes if end is None else end) - begin
        if size >= n_bytes:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def _spans(files: Iterable[BeamFile], n_bytes: int) -> Iterator[Span]:
    for file in files:
        if file.suffix in COMPRESSED or file.n_bytes <= n_bytes:
            yield Span(file, WHOLE, is_last=True)
            continue
        for begin in range(0, file.n_bytes, n_bytes):
            is_last = begin + n_bytes >= file.n_bytes
            yield Span(file, Part(begin, None if is_last else begin + n_bytes), is_last)


class WorkFolder(NamedTuple):
    """A folder for what workers write, in any file system that all of them reach.

    Attributes:
        location: of the folder.
    """

    location: str

    def path(self, name: str) -> str:
        """The location of a file in it."""
        return f"{self.location}/{name}"

    def write(self, kind: str, *contents: Any) -> str:
        """Write a new file of bytes and arrays; its location.

        Workers may do the same work twice. Each time makes a file of its own, and the pipeline goes on with one.
        """
        location = self.path(f"{kind}-{uuid.uuid4().hex}")
        with create(location) as file:
            for content in contents:
                file.write(content)
        return location


def create(location: str) -> Any:
    """Open a new file for writing bytes."""
    from apache_beam.io.filesystem import CompressionTypes

    return filesystems().create(location, compression_type=CompressionTypes.UNCOMPRESSED)


@contextlib.contextmanager
def work_folder(place: str) -> Iterator[WorkFolder]:
    """A folder whose name begins with ``place``, until the block is left."""
    folder = WorkFolder(f"{place}{uuid.uuid4().hex[:12]}")
    local = is_local(folder.location)
    if local:
        try:
            os.makedirs(folder.location)
        except OSError as error:
            raise UserError(f"cannot write {folder.location}: {error.strerror}; choose another place") from error
    try:
        yield folder
    finally:
        files = filesystems()
        with contextlib.suppress(OSError):
            if local:
                files.delete([folder.location])
            else:
                (found,) = files.match([folder.path("*")])
                files.delete([file.path for file in found.metadata_list])


@functools.cache
def local_copy(location: str) -> Path:
    """A file to map into memory: the file itself, or a copy that is made once in a process and goes with it."""
    import shutil
    import tempfile

    if is_local(location):
        return Path(location)
    copy = tempfile.NamedTemporaryFile(prefix="elmo-types-")  # noqa: SIM115
    with open_stored(location) as file:
        shutil.copyfileobj(file, copy, 1 << 20)
    copy.flush()
    _COPIES.append(copy)
    return Path(copy.name)


# Open files, which are removed when the process ends.
_COPIES: list[Any] = []
