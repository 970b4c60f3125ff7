"""Memory that a program has had stays with it, in huge pages: fresh pages are dear, on virtual machines above all."""

import ctypes
import os
import sys

# Of <malloc.h> on Linux.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
# malloc asks for huge pages for all that it hands out. Only the start of a process reads it.
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


def use_huge_pages() -> None:
    """Start this program once more, in its own process, if its malloc does not ask for huge pages yet.

    To be called before anything is done, by a program that is its process's own: it begins anew with the same command
    line, and this call then returns. It does nothing where glibc is not the C library, or where ``GLIBC_TUNABLES``
    already speaks of huge pages.
    """
    chosen = os.environ.get(TUNABLES, "")
    if _glibc() is None or HUGE_PAGES.partition("=")[0] in chosen:
        return
    os.environ[TUNABLES] = ":".join(filter(None, (chosen, HUGE_PAGES)))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def keep_memory() -> bool:
    """Let malloc keep what is freed.

    On CPU, XLA takes the memory of a step's intermediates from malloc at every step and gives it back after it. By
    default glibc returns such large pieces to the system, and each step pays for every page again
    (docs/performance.md). This is a setting of the whole process. A program's memory hardly shrinks after it.

    Returns:
        Whether it was done: with glibc alone.
    """
    libc = _glibc()
    # No pieces outside of the heaps, and nothing given back. Each thread keeps a heap of its own: in one for all, what
    # the compiler leaves behind makes every later search for memory long.
    return libc is not None and all(libc.mallopt(*setting) for setting in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)))


def give_back() -> None:
    """Return what is free now to the system, after work that is done once, such as compiling."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
