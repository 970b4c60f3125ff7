"""A published model as a directory: its files fetched and checked, an archive unpacked; complete or not at all."""

import fcntl
import os
import shutil
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from elmo_jax.errors import BusyError, UserError
from elmo_jax.interop import download, zip_archive
from elmo_jax.interop.published import File, Published

# What `sha256sum --check` reads.
SUMS_FILE = "SHA256SUMS"


def fetch(
    model: Published, directory: Path, *, language_model: bool = False, mirror: str = "", progress: bool = True
) -> dict[str, str]:
    """Fetch a published model.

    Until it is complete it lies beside, in ``.NAME.partial``, and the next call goes on from there.

    Args:
        model: from ``published``.
        directory: to make.
        language_model: fetch also what only probabilities need: softmax and vocabulary.
        mirror: a server with the same files at the same paths, in place of the publishers'.
        progress: show bars.

    Returns:
        The sha256 of each file that was fetched, by its address. That of each file of the directory is in
        ``SHA256SUMS``.

    Raises:
        UserError: when ``directory`` exists, and as ``download.download``.
        BusyError: when another process fetches it right now.
    """
    if directory.exists():
        raise UserError(f"{directory} exists, and nothing is replaced; name another directory, or remove it")
    files = [file for file in model.files if language_model or not file.language_model]
    sums: dict[str, str] = {}
    with _partial(directory) as folder:
        for file in files:
            address = _at(mirror, file)
            target = folder / file.name
            if target.exists():
                sums[address] = download.digest(target)
            else:
                sums[address] = download.download(
                    address, target, size=file.size, sha256=file.sha256, progress=progress
                )
        if model.is_archive:
            _unpack(folder / model.files[0].name, folder)
        _record(folder, sums)
        folder.rename(directory)
    return sums


def _at(mirror: str, file: File) -> str:
    """The address of a file, at the mirror if there is one."""
    return mirror.rstrip("/") + urllib.parse.urlsplit(file.address).path if mirror else file.address


@contextmanager
def _partial(directory: Path) -> Iterator[Path]:
    """The folder of what is not complete yet, for one process at a time."""
    folder = directory.absolute().with_name(f".{directory.absolute().name}.partial")
    with ExitStack() as closing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            closing.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield folder
        except BlockingIOError as error:
            raise BusyError(f"another process fetches {directory}; wait for it, or name another place") from error
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {directory}: {reason}; make room or name another place") from error
        finally:
            with suppress(OSError):
                folder.rmdir()  # where nothing came, nothing stays


def _unpack(archive: Path, folder: Path) -> None:
    """The files of an archive, whatever folders they are in, into one folder; the archive goes."""
    inside = folder / "unpacked"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir()
    try:
        zip_archive.unpack(archive, inside, "the archive that was fetched")
    except UserError:
        archive.unlink()  # the next call fetches it anew
        raise
    archive.unlink()
    for file in inside.iterdir():
        file.rename(folder / file.name)
    inside.rmdir()


def _record(folder: Path, sums: dict[str, str]) -> None:
    """Write what all files are, and where they are from."""
    sources = [f"# {sha256}  {address}\n" for address, sha256 in sums.items()]
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != SUMS_FILE)
    lines = [f"{download.digest(file)}  {file.name}\n" for file in files]
    (folder / SUMS_FILE).write_text("".join(sources + lines), encoding="utf-8")
