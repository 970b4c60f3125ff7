"""A file as the HDF5 library sees it while it grows: what was committed on disk changes only when it is told to."""

import io
import os
from typing import Any

PAGE_BYTES = 4096


class Pages(io.RawIOBase):
    """A file in which new bytes go to the disk at once, and changes of committed ones wait in memory.

    Nothing on the disk refers to what lies beyond the committed bytes yet, so a process that ends leaves the last
    commit, and what is to be cut off. No method raises an error of the disk, over which the HDF5 library would end the
    process: it is kept for later.

    Args:
        descriptor: of the real file.
        size: bytes that are committed.

    Attributes:
        size: bytes of the file.
        changed: pages that hold committed bytes and were written since, by their number.
        error: the first error of the real file.
        discards: whether to let all further writes go.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = self._committed = size
        self.changed: dict[int, bytearray] = {}
        self.error: OSError | None = None
        self.discards = False
        self._descriptor, self._position = descriptor, 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of every file."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = begin + offset
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """The size; the real file follows when it is complete."""
        self.size = self._position if size is None else size
        return self.size

    def readinto(self, buffer: Any) -> int:
        """As of every file; what was never written is 0."""
        view, begin = memoryview(buffer).cast("B"), self._position
        found = b""
        try:
            while len(found) < len(view) and (
                more := os.pread(self._descriptor, len(view) - len(found), begin + len(found))
            ):
                found += more
        except OSError as error:
            self.error = self.error or error
        view[:] = found.ljust(len(view), b"\0")
        for number in self._pages(begin, begin + len(view)):
            if number in self.changed:
                low, high = max(begin, number * PAGE_BYTES), min(begin + len(view), (number + 1) * PAGE_BYTES)
                start = low - number * PAGE_BYTES
                view[low - begin : high - begin] = self.changed[number][start : start + high - low]
        self._position += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """As of every file, but that an error is kept."""
        view, begin = memoryview(data).cast("B"), self._position
        self._position += len(view)
        self.size = max(self.size, self._position)
        if not self.discards and self.error is None:
            try:
                self._write(view, begin)
            except OSError as error:
                self.error = error
        return len(view)

    def apply(self) -> None:
        """Write the changed pages into the file; from now on all that it holds is committed."""
        for number, page in self.changed.items():
            write(self._descriptor, page, number * PAGE_BYTES)
        self.changed.clear()
        self._committed = self.size

    def _write(self, view: memoryview, begin: int) -> None:
        # Pages up to the one with the last committed byte wait; the rest is new.
        fresh = -(-self._committed // PAGE_BYTES) * PAGE_BYTES
        old, new = view[: max(0, fresh - begin)], view[max(0, fresh - begin) :]
        for number in self._pages(begin, begin + len(old)):
            if number not in self.changed:
                stored = os.pread(self._descriptor, PAGE_BYTES, number * PAGE_BYTES)
                self.changed[number] = bytearray(stored.ljust(PAGE_BYTES, b"\0"))
            low, high = max(begin, number * PAGE_BYTES), min(begin + len(old), (number + 1) * PAGE_BYTES)
            start = low - number * PAGE_BYTES
            self.changed[number][start : start + high - low] = old[low - begin : high - begin]
        write(self._descriptor, new, begin + len(old))

    def _pages(self, begin: int, end: int) -> range:
        return range(begin // PAGE_BYTES, -(-end // PAGE_BYTES)) if begin < end else range(0)


def write(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset`` of an open file."""
    view = memoryview(data)
    while view:
        n = os.pwrite(descriptor, view, offset)
        view, offset = view[n:], offset + n
