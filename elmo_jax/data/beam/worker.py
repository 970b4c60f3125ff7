"""Worker processes on this machine end with the process that launched them, however that ends.

Beam waits for its workers and never stops them. They import this module as they start (Beam's ``--beam_plugin``; one
that cannot reach its launcher does so after a minute), and wait in a thread for a lock that the launcher holds.
"""

import contextlib
import fcntl
import os
import tempfile
import threading
from collections.abc import Iterator

# The variable of the environment that names the locked file.
LAUNCHER = "ELMO_BEAM_LAUNCHER"


@contextlib.contextmanager
def workers_end_with_this_block() -> Iterator[None]:
    """Let workers that start inside the block end with it at the latest."""
    with tempfile.NamedTemporaryFile(prefix="elmo-launcher-") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[LAUNCHER] = lock.name
        try:
            yield
        finally:
            del os.environ[LAUNCHER]


def _follow(launcher: str) -> None:
    # Opening fails when the launcher has ended already.
    with contextlib.suppress(OSError), open(launcher, "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
    os._exit(1)


if LAUNCHER in os.environ:
    threading.Thread(target=_follow, args=[os.environ[LAUNCHER]], daemon=True).start()
