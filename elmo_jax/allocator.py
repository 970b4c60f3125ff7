"""Memory that a program has had stays with it, in huge pages: fresh pages are dear, on virtual machines above all."""

import ctypes
import os
import sys

# Of <malloc.h> and <sys/mman.h> on Linux.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX, MADV_HUGEPAGE = -1, -4, -8, 14


def keep_memory(reserve: int | None = None) -> bool:
    """Let malloc keep what is freed, and mark what it will hand out next for huge pages.

    On CPU, XLA takes the memory of a step's intermediates from malloc at every step and gives it back after it. By
    default glibc returns such large pieces to the system, and each step pays for every page again
    (docs/performance.md). This is a setting of the whole process, which is to be made before threads start, as those of
    JAX do when it first looks for devices. A program's memory does not shrink after it.

    Args:
        reserve: bytes of addresses to mark; memory is taken when they are first used. Default: a quarter of the
            machine's memory.

    Returns:
        Whether it was done: on Linux with glibc alone.
    """
    libc = _glibc()
    if libc is None:
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # One heap for all threads, no pieces outside of it, and nothing given back.
    for option, value in ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
        if not libc.mallopt(option, value):
            return False
    page = os.sysconf("SC_PAGE_SIZE")
    size = os.sysconf("SC_PHYS_PAGES") * page // 4 if reserve is None else reserve
    piece = libc.malloc(size)
    if not piece:
        return False
    begin = -(-piece // page) * page
    libc.madvise(begin, piece + size - begin, MADV_HUGEPAGE)
    libc.free(piece)
    return True


def give_back() -> None:
    """Return what is free now to the system, after work that is done once, such as compiling."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    return libc if hasattr(libc, "gnu_get_libc_version") else None
