"""One process at a time trains in a run directory."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from elmo_jax.errors import BusyError, UserError

log = logging.getLogger(__name__)

# The first process has this long to write who it is.
PATIENCE_SECONDS = 1.0
# How a lock begins.
SIGNATURE = b'{"pid": '
# What file systems without locks answer.
UNSUPPORTED = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


@contextlib.contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Hold the lock of a run directory, which is made when absent and removed again if nothing was put into it.

    The lock is that of the operating system on the file ``lock`` in it (``flock``), which ends with the process,
    however it ends: a file that a killed process left there keeps nobody out. A file system that knows no locks is
    told of in a warning.

    Args:
        directory: of the run.

    Raises:
        BusyError: naming the process that holds the lock.
        UserError: when the directory cannot be made or written, or has a file ``lock`` of somebody else.
    """
    path = directory / "lock"
    try:
        made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        descriptor = _open_locked(path)
    except OSError as error:
        raise UserError(
            f"cannot lock the run directory {directory}: {error.strerror or error}; make it writable or choose another "
            "with --config.run_dir=..."
        ) from error
    try:
        _sign(descriptor)
        yield
    finally:
        # In this order: whoever has the file open and then gets the lock sees that the file is gone, and tries again.
        with contextlib.suppress(OSError):
            path.unlink()
        os.close(descriptor)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _open_locked(path: Path) -> int:
    """A descriptor of the file at ``path`` with its lock."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:
            continue  # Another process has just removed the directory that it made.
        try:
            if _lock(descriptor, path) and _is_still(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    """Lock an open file: True, or an error that says who has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BusyError(
            f"{path.parent} is in use by {_holder(descriptor)}: wait for it or stop it, or choose another "
            "--config.run_dir"
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        log.warning(
            "%s: the file system has no locks (%s); see to it yourself that no other process trains there",
            path.parent,
            error.strerror,
        )
    if not SIGNATURE.startswith(os.pread(descriptor, len(SIGNATURE), 0)):
        raise UserError(f"{path} is no lock of elmo, which would replace it: move it, or choose another run_dir")
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one at ``path``: the holder before may have removed it since it was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write who holds the lock. On a full disk it is held anonymously."""
    started = time.strftime("%Y-%m-%d %H:%M:%S %z")
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": started, "command": shlex.join(sys.argv)}
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(who) + "\n").encode(), 0)


def _holder(descriptor: int) -> str:
    """Who wrote into the lock, for people."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (who := _owner(descriptor)) and time.monotonic() < give_up:
        time.sleep(0.02)
    if not who:
        return "another process"
    return f"process {who['pid']} on {who['host']} since {who['since']} ({who['command']})"


def _owner(descriptor: int) -> dict[str, Any]:
    """What ``_sign`` wrote, or nothing."""
    with contextlib.suppress(ValueError, TypeError):
        who = json.loads(os.pread(descriptor, 1 << 16, 0))
        if {"pid", "host", "since", "command"} <= set(who):
            return dict(who)
    return {}
