"""SIGTERM for commands that have directories to remove on their way out."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator

from elmo_jax.exit_status import TERMINATED


@contextlib.contextmanager
def sigterm_cleans_up() -> Iterator[None]:
    """Let SIGTERM end the command as an exception does, like Ctrl-C.

    Signals reach the main thread alone: in another one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
