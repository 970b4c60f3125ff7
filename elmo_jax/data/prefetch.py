"""An iterator that works ahead in a thread."""

import sys
import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class _End(Exception):
    """The iterator is exhausted."""


def prefetch(iterator: Iterator[T], depth: int = 4) -> Generator[T, None, None]:
    """The items of ``iterator`` in order, up to ``depth`` of them made ahead in a background thread.

    The thread starts with the first item that is asked for and ends with the iterator, with its error, which is raised
    here after the items before it, or when the generator is closed or dropped. It then closes ``iterator`` too.
    """
    made: SimpleQueue[T | BaseException] = SimpleQueue()
    room = threading.Semaphore(depth)
    stopped = threading.Event()

    def work() -> None:
        try:
            while room.acquire() and not stopped.is_set():
                made.put(next(iterator))
        except StopIteration:
            made.put(_End())
        except BaseException as error:  # whatever it is, it is raised where the items are used
            made.put(error)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    worker = threading.Thread(target=work, name="prefetch", daemon=True)
    worker.start()
    try:
        while True:
            item = made.get()
            if isinstance(item, _End):
                return
            if isinstance(item, BaseException):
                raise item
            room.release()
            yield item
    finally:
        stopped.set()
        room.release()
        # At interpreter exit daemon threads no longer run, and waiting for one would never end.
        if not sys.is_finalizing():
            worker.join()
