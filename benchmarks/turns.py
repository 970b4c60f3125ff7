"""Programs that take turns: each in a process of its own, which waits for orders on a pipe."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

# Read when a process starts: huge pages for the allocators of glibc and PyTorch, and threads of OpenMP that do not spin
# while they wait. Fresh memory is dear on virtual machines, and a thread that spins takes its core from the others.
ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "THP_MEM_ALLOC_ENABLE": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
# Threads of the other program that spin for a moment after their work have stopped by then.
REST_SECONDS = 1.0


class Runner(Protocol):
    """What takes a turn."""

    def seconds(self, n_steps: int) -> float:
        """Run so many steps, and how long they took."""
        ...


class Program:
    """A Python program that answers each line of its standard input with a line of JSON, and begins with one.

    Args:
        arguments: the file and its arguments.
        environment: variables besides ``ENVIRONMENT`` and those of this process.

    Attributes:
        about: its first line.
        start_seconds: from the start of the process to that line.
    """

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT, **(environment or {})},
        )
        self._name = arguments[0]
        self.about = self._answer()
        self.start_seconds = time.perf_counter() - begin

    def __call__(self, order: str) -> dict[str, Any]:
        """Give an order and wait for the answer."""
        assert self._process.stdin is not None
        print(order, file=self._process.stdin, flush=True)
        return self._answer()

    def seconds(self, n_steps: int) -> float:
        """The order ``time``: run so many steps, and how long they took."""
        return float(self(f"time {n_steps}")["seconds"])

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self.close()
            raise SystemExit(f"{self._name} ended with status {self._process.returncode}; its error is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def take_turns(
    runners: Mapping[str, Runner], rounds: int, *, turn_seconds: float = 2.0, rest: float = REST_SECONDS
) -> dict[str, float]:
    """Seconds of a step of each program: medians over the rounds, in each of which every one has a turn.

    A first turn of three steps warms up, and the last of them says how many steps fill a turn; one step before each
    turn brings caches and clocks back and is not counted.

    Args:
        runners: by name; they take turns in this order.
        rounds: turns of each that count.
        turn_seconds: how long a turn should be; it has one step at least.
        rest: seconds between turns.
    """
    counts: dict[str, int] = {}
    for name, runner in runners.items():
        runner.seconds(2)
        counts[name] = max(1, round(turn_seconds / runner.seconds(1)))
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, runner in runners.items():
            time.sleep(rest)
            runner.seconds(1)
            times[name].append(runner.seconds(counts[name]) / counts[name])
    return {name: statistics.median(values) for name, values in times.items()}
