"""The 1 Billion Word benchmark (Chelba et al. 2013) prepared for TensorFlow Datasets from its official archive."""

import contextlib
import functools
import gzip
import io
import logging
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, NamedTuple

from elmo_jax.data.lines import decode
from elmo_jax.data.progress import Progress
from elmo_jax.data.tfds_builder import LM1B_URL, data_directory, import_tfds
from elmo_jax.errors import UserError

log = logging.getLogger(__name__)

VERSION = "1.1.0"


class _Files(NamedTuple):
    """The files of a split in the archive."""

    folder: str
    pattern: str
    n_official: int


SPLITS = {
    "train": _Files("training-monolingual.tokenized.shuffled", "news.en-*-of-*", 99),
    "test": _Files("heldout-monolingual.tokenized.shuffled", "news.en.heldout-*-of-*", 50),
}

# The files of each split, in order.
Shards = dict[str, list[Path]]


def prepare_lm1b(source: Path, data_dir: str = "", *, progress: bool = True) -> tuple[Path, dict[str, int]]:
    """Prepare the builder ``lm1b`` as array_record, to be read by ``tfds.data_source("lm1b")``; without TensorFlow.

    Each line is a record, and each file of the benchmark one array_record file, in the order of their names: nothing
    is shuffled (the text is already).

    Args:
        source: the archive, or the directory that was unpacked from it, or the one which that is in.
        data_dir: where builders are prepared; see ``data_directory``.
        progress: show bars.

    Returns:
        The prepared directory, and the number of sentences of each split.

    Raises:
        UserError: when the builder exists already, ``source`` is not the benchmark, its archive is damaged or unsafe,
            its text is not UTF-8, or the builder cannot be written. Nothing half-done is left behind.
    """
    tfds, directory = import_tfds(), data_directory(data_dir)
    prepared = directory / "lm1b" / VERSION
    if prepared.exists():
        raise UserError(f"{prepared} exists already: use it, remove it or choose another --data-dir")
    if not source.exists():
        raise UserError(f"there is no {source}; get {LM1B_URL}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="lm1b-unpacked-", dir=directory) as name:
            unpacked = Path(name)
            shards = _find(source) if source.is_dir() else _unpack(source, unpacked, progress)
            _check(shards, source)
            n_bytes = sum(path.stat().st_size for files in shards.values() for path in files)
            # What TFDS prints itself tells of a download.
            with Progress("preparing lm1b", n_bytes, shown=progress) as bar, contextlib.redirect_stdout(io.StringIO()):
                builder = _builder(directory, shards, unpacked, bar)
                builder.download_and_prepare(
                    file_format="array_record",
                    download_dir=unpacked / "downloads",
                    download_config=tfds.download.DownloadConfig(try_download_gcs=False),
                )
    except (OSError, RuntimeError) as error:  # array_record has RuntimeError for a full disk
        raise UserError(
            f"cannot prepare lm1b in {directory}: {error}; make room there or choose another --data-dir"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # there is a builder, of this or another version
            prepared.parent.rmdir()
    return prepared, {name: split.num_examples for name, split in builder.info.splits.items()}


def _find(directory: Path) -> Shards:
    """The files of the splits in the directory of the benchmark, or in one that has it."""
    for root in (directory, *sorted(filter(Path.is_dir, directory.iterdir()))):
        if any((root / files.folder).is_dir() for files in SPLITS.values()):
            return {
                split: sorted(filter(Path.is_file, (root / files.folder).glob(files.pattern)))
                for split, files in SPLITS.items()
            }
    return {}


def _unpack(archive: Path, directory: Path, progress: bool) -> Shards:
    """Write the files of the splits, and nothing else that is in the archive, below ``directory``."""
    shards: Shards = {split: [] for split in SPLITS}
    try:
        with (
            archive.open("rb") as raw,
            Progress(f"unpacking {archive.name}", archive.stat().st_size, shown=progress) as bar,
            _decompressed(raw) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            consumed = 0
            for member in tar:
                _refuse_unsafe(archive, member)
                file = PurePosixPath(member.name)
                split = _split_of(file) if member.isfile() else None
                if split and (content := tar.extractfile(member)):
                    shards[split].append(directory / file.parent.name / file.name)
                    _save(content, shards[split][-1], archive)
                bar.advance(raw.tell() - consumed)
                consumed = raw.tell()
            while stream.read(1 << 20):
                pass  # a gzip file has its checksum at the end
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(
            f"{archive} is no tar.gz archive, or is truncated or corrupt ({error}); get {LM1B_URL}"
        ) from error
    return {split: sorted(files) for split, files in shards.items()}


def _decompressed(raw: BinaryIO) -> Any:
    """The archive without its compression, if it has one."""
    magic = raw.read(2)
    raw.seek(0)
    return gzip.open(raw) if magic == b"\x1f\x8b" else contextlib.nullcontext(raw)


def _refuse_unsafe(archive: Path, member: tarfile.TarInfo) -> None:
    file = PurePosixPath(member.name)
    if file.is_absolute() or ".." in file.parts:
        problem = "leads out of the archive"
    elif member.issym() or member.islnk():
        problem = f"is a link to {member.linkname!r}"
    elif not member.isfile() and not member.isdir():
        problem = "is neither a file nor a directory"
    else:
        return
    raise UserError(f"{archive}: its member {member.name!r} {problem}, as none of the official one; get {LM1B_URL}")


def _split_of(file: PurePosixPath) -> str | None:
    for split, files in SPLITS.items():
        if file.parent.name == files.folder and fnmatchcase(file.name, files.pattern):
            return split
    return None


def _save(content: IO[bytes], path: Path, archive: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    try:
        with path.open("xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
    except FileExistsError as error:
        raise UserError(f"{archive} holds {path.parent.name}/{path.name} twice; get {LM1B_URL}") from error


def _check(shards: Shards, source: Path) -> None:
    for split, files in SPLITS.items():
        found = len(shards.get(split, ()))
        if not found:
            raise UserError(
                f"{source} is not the 1 Billion Word benchmark: it has no {files.folder}/{files.pattern}; "
                f"get {LM1B_URL}"
            )
        if found != files.n_official:
            log.warning("%s has %d of the %d files of the split %s", source, found, files.n_official, split)


@dataclass(frozen=True)
class _Line:
    """Where a line comes from, for messages."""

    path: Path
    number: int

    mend_nul = mend_encoding = f"this is not the official text: get {LM1B_URL}"

    def at(self, byte: int) -> tuple[str, str]:
        return f"{self.path.parent.name}/{self.path.name}:{self.number}", f"byte {byte} of the line"


def _records(path: Path, unpacked: Path, bar: Progress) -> Iterator[tuple[str, dict[str, str]]]:
    """Key and features of each line, as TFDS has them. A file that was unpacked is removed at its end."""
    with path.open("rb") as file:
        for number, line in enumerate(file):
            yield f"{path.name}_{number}", {"text": decode(line, _Line(path, number + 1)).strip()}
    bar.advance(path.stat().st_size)
    if path.is_relative_to(unpacked):
        path.unlink()


def _builder(directory: Path, shards: Shards, unpacked: Path, bar: Progress) -> Any:
    """A builder that is to be prepared.

    The one of TFDS needs TensorFlow to find its files, and all that shuffle need it to sort more than a gigabyte; one
    which writes shard by shard does not.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    class Info(tfds.core.DatasetInfo):
        def initialize_from_bucket(self) -> None:
            """Nothing is asked from the network."""

    with registered.skip_registration():

        class Lm1b(tfds.core.ShardBasedBuilder):
            name = "lm1b"
            VERSION = tfds.core.Version(VERSION)

            def _info(self) -> Any:
                return Info(
                    builder=self,
                    description="The 1 Billion Word benchmark, in the order of its files.",
                    features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
                    supervised_keys=("text", "text"),
                    homepage="http://www.statmt.org/lm-benchmark/",
                    disable_shuffling=True,
                )

            def _shard_iterators_per_split(self, dl_manager: Any) -> Any:
                return {
                    split: [functools.partial(_records, path, unpacked, bar) for path in files]
                    for split, files in shards.items()
                }

    return Lm1b(data_dir=directory)
