"""A function applied to many things by several processes, with the results in order.

Unlike those of ``multiprocessing`` these processes do not import the user's program, which need not be written for it.
"""

import contextlib
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

from elmo_jax.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

# Things that are with each process or wait for it.
AHEAD = 2


def available() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function: Callable[[T], R], things: Iterable[T], n: int) -> Iterator[R]:
    """``map(function, things)`` in n processes; a few things and results are in memory at once.

    Args:
        function: of a module; what it takes and gives goes through ``pickle``.
        things: asked for in this process.
        n: processes.

    Raises:
        UserError: when a process dies. What the function raises is raised here, after the results before it.
    """
    workers = [_Worker(function) for _ in range(n)]
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def work(thing: T) -> R:
        worker = idle.get()
        try:
            return worker(thing)
        finally:
            idle.put(worker)

    running: deque[Future[R]] = deque()
    threads = ThreadPoolExecutor(n, "ordered_map")
    try:
        for thing in things:
            running.append(threads.submit(work, thing))
            if len(running) >= AHEAD * n:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        # Also on the way out with an error: nobody waits for what is no longer wanted.
        for future in running:
            future.cancel()
        for worker in workers:
            worker.kill()
        threads.shutdown()
        for worker in workers:
            worker.close()


class _Worker:
    """A process that runs ``serve``."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        code = f"from {__name__} import serve; serve()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        # In a session of its own: Ctrl-C is for this process, which ends that one.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._function: Callable[[Any], Any] | None = function

    def __call__(self, thing: Any) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if self._function is not None:
                pickle.dump(self._function, process.stdin)
                self._function = None
            pickle.dump(thing, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            result, error = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as broken:
            raise UserError(
                f"a helping process ended with status {process.wait()}: is there memory for {available()} of them? "
                "With fewer cores (taskset -c 0 ...) there are fewer"
            ) from broken
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        """End it in whatever it does."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Close what leads to it."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):  # it was killed before it had read everything
                pipe and pipe.close()


def serve() -> None:
    """Apply a function to what comes on standard input until it is closed: pickles in, pickles out."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anybody prints is no answer
    try:
        function = pickle.load(requests)
        while True:
            thing = pickle.load(requests)
            try:
                result, failure = function(thing), None
            except Exception as error:  # it is raised where the result is wanted
                result, failure = None, error
            pickle.dump((result, failure), answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
    except (EOFError, BrokenPipeError):
        return
