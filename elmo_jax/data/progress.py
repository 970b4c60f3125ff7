"""How far a long job is: a bar on a terminal, elsewhere a log line now and then."""

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

log = logging.getLogger(__name__)
LOG_EVERY_SECONDS = 30.0


class Progress:
    """Progress through ``total`` bytes of files; a context manager.

    Args:
        what: what is done, such as "encoding news".
        total: bytes to go through; None when nobody knows.
        shown: False shows and logs nothing.
    """

    def __init__(self, what: str, total: int | None, shown: bool = True) -> None:
        self._what, self._total, self._done = what, total, 0
        self._logs = shown and not sys.stderr.isatty()
        self._bar = tqdm(
            desc=what, total=total, unit="B", unit_scale=True, disable=not shown or self._logs, dynamic_ncols=True
        )
        self._begin = self._last = time.monotonic()

    def advance(self, n_bytes: int) -> None:
        """Say that ``n_bytes`` more are done."""
        self._done += n_bytes
        self._bar.update(n_bytes)
        now = time.monotonic()
        if self._logs and now - self._last >= LOG_EVERY_SECONDS:
            self._last = now
            if self._total is None:
                log.info("%s: %.1f MB", self._what, self._done / 1e6)
                return
            left = (now - self._begin) * (self._total / max(self._done, 1) - 1)
            log.info("%s: %.0f %%, %.0f s left", self._what, 100 * self._done / max(self._total, 1), max(left, 0))

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
