"""An HDF5 file that grows in transactions: a kill or a full disk costs what came after the last one, and no more.

The HDF5 library changes its indices in place, so that a process killed at the wrong moment leaves a file that nobody
can read, and it ends the process when a write fails. Here it writes into ``Pages`` instead. A commit writes the changed
pages into a journal, which appears in one rename, and only then into the file. Whoever opens the file again writes the
pages of the journal once more and cuts the file to its committed size: that is the last commit, whenever the process
ended.
"""

import contextlib
import fcntl
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from elmo_jax.embed.pages import PAGE_BYTES, Pages, write
from elmo_jax.errors import BusyError, UserError
from elmo_jax.interop.outputs import refuse_existing_file
from elmo_jax.telemetry import write_errors
from elmo_jax.train.run_lock import UNSUPPORTED


class GrowingHDF5:
    """An HDF5 file in the making, beside the place where it appears when it is complete; a context manager.

    Until then there are ``PATH.partial`` and its journal, ``PATH.journal``. They stay after an error when something was
    committed: the next ``GrowingHDF5`` of the same ``path`` goes on from there.

    Args:
        path: of the complete file.
        asked: what the file will hold, by name, for people and JSON. To go on, it must be the same.
        overwrite: a complete file that is there already may be replaced.

    Attributes:
        file: the file, to be written.
        progress: what the last commit was given; None for a fresh file.
        arrays: the arrays that it was given.

    Raises:
        BusyError: when another process writes it.
        UserError: when the complete file is there and may not be replaced, what was asked differs from what was begun,
            what was begun is damaged, or files cannot be written.

    Example:
        >>> with GrowingHDF5(Path("out.hdf5"), {"layers": "top"}) as growing:
        ...     growing.file["0"] = np.zeros((3, 8), np.float32)
        ...     growing.commit({"lines": 1})
        ...     growing.complete({"lines": 1})
    """

    def __init__(self, path: Path, asked: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.path = path
        self._partial, self._journal = (path.with_name(path.name + end) for end in (".partial", ".journal"))
        self._asked: dict[str, Any] = json.loads(json.dumps(asked))
        refuse_existing_file(path, overwrite=overwrite)
        self.progress: dict[str, Any] | None = None
        self._begun = self._journal.exists()
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        with self._named_errors():
            self._descriptor = self._open_locked()
        try:
            refuse_existing_file(path, overwrite=overwrite)  # Another process may have completed it just now.
            with self._named_errors():
                size = self._recover()
            self._pages, self._size = Pages(self._descriptor, size), size
            self.file = h5py.File(self._pages, "r+" if size else "w", rdcc_nbytes=1 << 25)
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> "GrowingHDF5":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        failed = self._pages.error
        self._pages.discards = True
        with contextlib.suppress(Exception):
            self.file.close()
        with contextlib.suppress(OSError):
            # What is not committed need not take room.
            os.ftruncate(self._descriptor, self._size)
        self._close()
        if failed is not None and not isinstance(error, UserError):
            # Whatever the library made of it.
            with self._named_errors():
                raise failed

    def commit(self, progress: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        """Make all that was written so far last.

        Args:
            progress: how far it is, for JSON.
            arrays: more of the same that is no JSON.

        Raises:
            UserError: when a write has failed since the last commit.
        """
        self.file.flush()
        self._commit(progress, arrays or {})

    def check(self) -> None:
        """Tell of a write that has failed since the last commit.

        Raises:
            UserError: when one has.
        """
        if self._pages.error is not None:
            with self._named_errors():
                raise self._pages.error

    def complete(self, progress: Mapping[str, Any]) -> None:
        """The last commit, after which the file stands under its name."""
        self.file.close()
        self._commit(progress, {})
        with self._named_errors():
            os.ftruncate(self._descriptor, self._pages.size)
            os.fsync(self._descriptor)
            os.replace(self._partial, self.path)
            self._journal.unlink()

    def _commit(self, progress: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        pages = self._pages
        self.check()
        with self._named_errors():
            os.fsync(self._descriptor)
            about = {"asked": self._asked, "progress": dict(progress), "size": pages.size}
            numbers = np.array(sorted(pages.changed), np.int64)
            changed = b"".join(bytes(pages.changed[number]) for number in numbers.tolist())
            fresh = self._journal.with_name(self._journal.name + ".new")
            try:
                with fresh.open("wb") as file:
                    np.savez(
                        file,
                        allow_pickle=False,
                        about=np.array(json.dumps(about)),
                        numbers=numbers,
                        pages=np.frombuffer(changed, np.uint8).reshape(-1, PAGE_BYTES),
                        **{f"array_{name}": array for name, array in arrays.items()},
                    )
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(fresh, self._journal)
                self._size = pages.size
            finally:
                fresh.unlink(missing_ok=True)
            self.progress, self._begun = dict(progress), True
            pages.apply()

    def _recover(self) -> int:
        """Bring a file that was begun back to its last commit; gives its size."""
        if os.fstat(self._descriptor).st_size == 0:
            # Nothing was begun, or somebody has removed it: a journal alone is of no use.
            self._journal.unlink(missing_ok=True)
            self._begun = False
        if not self._begun:
            os.ftruncate(self._descriptor, 0)
            return 0
        try:
            with self._journal.open("rb") as file, np.load(file, allow_pickle=False) as journal:
                about = json.loads(str(journal["about"]))
                asked, progress, size = about["asked"], about["progress"], int(about["size"])
                changes = list(zip(journal["numbers"].tolist(), journal["pages"], strict=True))
                arrays = {n.removeprefix("array_"): journal[n] for n in journal.files if n.startswith("array_")}
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(str(error)) from error
        self._refuse_other(asked)
        ends = [(number + 1) * PAGE_BYTES for number, _ in changes]
        if max(os.fstat(self._descriptor).st_size, *ends, 0) < size:
            raise self._damaged("the file is shorter than its journal says")
        for number, page in changes:
            write(self._descriptor, page.tobytes(), number * PAGE_BYTES)
        os.ftruncate(self._descriptor, size)
        self.progress, self.arrays = progress, arrays
        return size

    def _refuse_other(self, begun: Mapping[str, Any]) -> None:
        for name, wanted in self._asked.items():
            if begun.get(name) != wanted:
                raise UserError(
                    f"{self._partial} was begun with {name} {_text(begun.get(name))}, and now it is {_text(wanted)}: "
                    f"give the same to go on, remove {self._partial} to begin anew, or name another file"
                )

    def _damaged(self, reason: str) -> UserError:
        return UserError(f"{self._partial} and {self._journal.name} are damaged ({reason}): remove them to begin anew")

    def _open_locked(self) -> int:
        self._partial.parent.mkdir(parents=True, exist_ok=True)
        while True:
            descriptor = os.open(self._partial, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _lock(descriptor, self._partial)
                # The holder before may have completed or removed it since it was opened.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(descriptor), self._partial.stat()):
                        return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _close(self) -> None:
        """Let go of the file, and leave none without a commit."""
        if not self._begun:
            with contextlib.suppress(OSError):
                self._partial.unlink()
        os.close(self._descriptor)

    def _named_errors(self) -> contextlib.AbstractContextManager[None]:
        kept = "; the same command goes on from what is done" if self._begun else ""
        return write_errors(self.path, f"choose another place{kept}")


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(f"another process writes {path}: wait for it, or name another file") from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def _text(value: Any) -> str:
    return json.dumps(value) if value is not None else "nothing"
