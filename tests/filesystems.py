"""What tests need of file systems: small disks that are full or read-only, and what is in a folder."""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(directory: Path, size: str = "1m") -> Iterator[Callable[..., bool]]:
    """A file system of ``size`` at ``directory``; what it gives mounts it again: ``mount("remount", "ro")``.

    The calling test is skipped where that is not allowed.
    """
    directory.mkdir()

    def mount(*options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "tmpfs", str(directory)]
        with contextlib.suppress(FileNotFoundError):
            return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
        return False

    if not mount():
        pytest.skip("a small disk can only be mounted by root, where mounting is allowed")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(disk: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below ``folder`` with its bytes, and every directory with None."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
