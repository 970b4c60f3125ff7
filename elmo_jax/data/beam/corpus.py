"""Encoded corpora and counts of types, made by a pipeline of Apache Beam."""

import contextlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.beam import pipeline, work
from elmo_jax.data.beam.files import BeamFile, WorkFolder, expand, is_local, open_stored, work_folder
from elmo_jax.data.corpus import Corpus, cache_name, open_prepared, words_of
from elmo_jax.data.encoding import BUILDING, COLUMNS, column_path, complete_or_not, refuse_empty, write_header
from elmo_jax.data.progress import Progress
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.errors import UserError

log = logging.getLogger(__name__)

# Text that a worker takes at a time.
SHARD_BYTES = 32 << 20
COPY_BYTES = 1 << 20


class Counted(NamedTuple):
    """The types of a text.

    Attributes:
        n_tokens: of the text.
        n_sentences: of the text.
        type_bytes: see ``Corpus``.
        type_offsets: see ``Corpus``.
        type_counts: see ``Corpus``.
    """

    n_tokens: int
    n_sentences: int
    type_bytes: npt.NDArray[np.uint8]
    type_offsets: npt.NDArray[np.int64]
    type_counts: npt.NDArray[np.int64]

    def words(self) -> Iterator[str]:
        """The tokens of all types."""
        return words_of(self.type_bytes, self.type_offsets)


def prepare(
    globs: str, segmentation: Segmentation, cache_dir: Path, flags: str, *, shard_bytes: int = SHARD_BYTES
) -> Corpus:
    """The encoded corpus of text files, as ``data.corpus.prepare`` makes it.

    Args:
        globs: files of any file system of Beam, separated by commas.
        segmentation: how their lines are cut.
        cache_dir: of encoded corpora, on this machine.
        flags: see ``pipeline.parse``.
        shard_bytes: text that a worker takes at a time.

    Raises:
        UserError: what reading, running and writing raise.
    """
    if not is_local(str(cache_dir)):
        raise UserError(
            f"--output {cache_dir} is on another machine: encoded text is mapped into memory; name a directory here, "
            "and copy what comes into it"
        )
    options, files = pipeline.parse(flags), expand(globs)
    stats = [(file.location, file.n_bytes, file.modified_ns) for file in files]
    directory = Path(cache_dir) / cache_name("text", segmentation.variant, stats)
    if not directory.exists():
        with _folder(options, directory) as folder:
            task = work.Task(segmentation, shard_bytes, encode=True, folder=folder)
            manifest = _run(files, task, options)
            refuse_empty(manifest.end, _title(files))
            with complete_or_not(directory) as building:
                _assemble(manifest, building)
    return open_prepared(directory, "text")


def count(
    globs: str, segmentation: Segmentation, place: Path, flags: str, *, shard_bytes: int = SHARD_BYTES
) -> Counted:
    """Count the types of text files.

    Args:
        globs: see ``prepare``.
        segmentation: see ``prepare``.
        place: where workers write when the options name no temporary location: names beside it, which are removed.
        flags: see ``prepare``.
        shard_bytes: see ``prepare``.

    Raises:
        UserError: what reading and running raise.
    """
    options, files = pipeline.parse(flags), expand(globs)
    with _folder(options, place) as folder:
        task = work.Task(segmentation, shard_bytes, encode=False, folder=folder)
        manifest = _run(files, task, options)
        refuse_empty(manifest.end, _title(files))
        types, n = manifest.types, manifest.end.n_sentences
        read = {name: _read(getattr(types, name)) for name in ("bytes", "offsets", "counts")}
        return Counted(
            n_tokens=manifest.end.n_predictions - n,
            n_sentences=n,
            type_bytes=np.frombuffer(read["bytes"], np.uint8),
            type_offsets=np.frombuffer(read["offsets"], np.int64),
            type_counts=np.concatenate([np.array([n, n]), np.frombuffer(read["counts"], np.int64)]),
        )


def _title(files: list[BeamFile]) -> str:
    more = len(files) - 1
    return f"{files[0]} (and {more} more files)" if more else str(files[0])


@contextlib.contextmanager
def _folder(options: Any, place: Path) -> Iterator[WorkFolder]:
    """Where workers write: in Beam's temporary location, else beside ``place``."""
    temporary = pipeline.temporary_place(options)
    with work_folder(f"{temporary}/elmo-" if temporary else f"{place.absolute()}{BUILDING}") as folder:
        yield folder


def _run(files: list[BeamFile], task: work.Task, options: Any) -> work.Manifest:
    megabytes, folder = sum(file.n_bytes for file in files) / 1e6, task.folder
    log.info("Apache Beam reads %d files, %.1f MB; parts go to %s", len(files), megabytes, folder.location)
    work.write_files(files, folder)
    return pipeline.run(task, options)


def _read(location: str) -> bytes:
    with open_stored(location) as file:
        return file.read()


def _assemble(manifest: work.Manifest, directory: Path) -> None:
    """Put the parts of a corpus together, in the order of the text."""
    end, types = manifest.end, manifest.types
    laid_out, widths = manifest.laid_out, [np.dtype(COLUMNS[name]).itemsize for name in _LAID_OUT]
    total = sum(np.dot(widths, [piece.n_ids, piece.n_starts, piece.n_documents]) for piece in laid_out)
    with contextlib.ExitStack() as opened, Progress("putting the corpus together", int(total)) as bar:
        outputs = [opened.enter_context(column_path(directory, name).open("wb")) for name in _LAID_OUT]
        outputs[0].write(np.zeros(1, COLUMNS["ids"]).data)
        for piece in laid_out:
            with open_stored(piece.location) as file:
                for output, width, n in zip(outputs, widths, piece[2:], strict=True):
                    _copy(file, output, width * n)
            bar.advance(int(np.dot(widths, piece[2:])))
        outputs[1].write(np.array([end.n_predictions], COLUMNS["starts"]).data)
        outputs[2].write(np.array([end.n_sentences], COLUMNS["documents"]).data)
    for name, location in (("type_bytes", types.bytes), ("type_offsets", types.offsets), ("type_counts", types.counts)):
        with column_path(directory, name).open("wb") as output, open_stored(location) as file:
            if name == "type_counts":
                output.write(np.full(2, end.n_sentences, COLUMNS[name]).data)
            _copy(file, output, None)
    write_header(directory, end)


# The arrays that pieces of text are laid out into, in the order of their fields.
_LAID_OUT = ("ids", "starts", "documents")


def _copy(source: io.BufferedReader, target: io.BufferedWriter, n_bytes: int | None) -> None:
    """Copy so many bytes, or all that are left."""
    while n_bytes != 0 and (data := source.read(COPY_BYTES if n_bytes is None else min(COPY_BYTES, n_bytes))):
        target.write(data)
        if n_bytes is not None:
            n_bytes -= len(data)
    if n_bytes:
        raise OSError(f"a part ends {n_bytes} bytes too early")
