"""SIGTERM and Ctrl-C end a run at the next step instead of in the middle of one."""

import signal
import sys
import threading
from types import FrameType, TracebackType

from elmo_jax.exit_status import COMPLETE, INTERRUPTED, TERMINATED

# As shells have it: 128 + the signal's number.
STATUS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class Interruption:
    """While in effect, the first SIGTERM or SIGINT is only noted; a second one acts as usual.

    Signals reach the main thread alone: in another one this does nothing.

    Attributes:
        signal: number of the signal received, None so far.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in STATUS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def exit_status(self) -> int:
        """143 for SIGTERM, 130 for Ctrl-C; 0 without one."""
        return COMPLETE if self.signal is None else STATUS[signal.Signals(self.signal)]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()
        sys.stderr.write("\nstopping after this step; once more to stop without saving\n")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
