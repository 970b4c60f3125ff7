"""What is written for others, directories and files: it appears complete or not at all."""

import os
import tempfile
import uuid
from collections.abc import Iterator, Set
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from elmo_jax.errors import UserError


@contextmanager
def complete_file(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path to write to, whose file takes the name ``path`` when the ``with`` block ends without error.

    Args:
        path: of the file; its directory is made, with its parents.
        overwrite: a file that is there may be replaced.

    Raises:
        UserError: when there is a file, and for every OSError while writing: nothing half-written stays.
    """
    refuse_existing_file(path, overwrite=overwrite)
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield fresh
            os.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room or name another file") from None


def refuse_existing_file(path: Path, *, overwrite: bool) -> None:
    """Refuse to write a file that is there, unless it may be replaced.

    Raises:
        UserError: naming it.
    """
    if path.is_dir():
        raise UserError(f"{path} is a directory: name a file")
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists already: name another file, or replace it with --overwrite")


@contextmanager
def complete_directory(directory: Path, names: Set[str]) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of ``directory`` when the ``with`` block ends without error.

    Args:
        directory: is made, with its parents. When it is there already, it is replaced as a whole, provided that it
            holds nothing but files with these ``names``.
        names: of the files that an export may consist of, as shell patterns.

    Raises:
        UserError: when ``directory`` holds anything else, and for every OSError while writing, such as a full disk:
            nothing half-written stays, an earlier export does.
    """
    directory = directory.resolve()
    try:
        _refuse_other_content(directory, names)
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as scratch:
            fresh = Path(scratch) / "fresh"
            fresh.mkdir()
            yield fresh
            _replace(directory, fresh, aside=Path(scratch) / "previous")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write the export {directory}: {reason}; mend that or name another directory") from None


def refuse_existing(output: Path) -> None:
    """Refuse an output that is there already, unless it is an empty directory.

    Raises:
        UserError: naming it and the fix.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} exists already; name another, or replace it with --overwrite (overwrite=True)")


def _refuse_other_content(directory: Path, names: Set[str]) -> None:
    if not directory.exists():
        return
    others = sorted(item.name for item in directory.iterdir() if not (item.is_file() and _among(item.name, names)))
    if others:
        raise UserError(
            f"{directory} holds {', '.join(others[:3])}, and an export replaces the whole directory; "
            "name a new one or one that holds only an earlier export"
        )


def _among(name: str, patterns: Set[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _replace(directory: Path, fresh: Path, aside: Path) -> None:
    """Put ``fresh`` in the place of ``directory``, which is moved ``aside`` or, when that fails, stays."""
    if directory.exists():
        directory.rename(aside)
    try:
        fresh.rename(directory)
    except BaseException:
        if aside.exists():
            aside.rename(directory)
        raise
