"""How benchmarks take times, and what memory programs take."""

import statistics
import time
from collections.abc import Callable
from typing import Any


def seconds(work: Callable[[], object]) -> float:
    """The shortest of three runs."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def in_turn(
    programs: dict[Any, Any], rounds: int, *, turn_seconds: float = 0.0
) -> tuple[dict[Any, float], dict[Any, float]]:
    """Median milliseconds of a run of every program by the clock, and of the processor.

    Args:
        programs: compiled programs of JAX and their inputs, by name; each runs twice before.
        rounds: turns of each that count.
        turn_seconds: how long a turn should be; a program runs once at least.
    """

    import jax  # other benchmarks do without it

    def milliseconds(program: Any, inputs: Any, n: int) -> tuple[float, float]:
        start = time.perf_counter(), time.process_time()
        for _ in range(n):
            jax.block_until_ready(program(*inputs))
        return 1000 * (time.perf_counter() - start[0]) / n, 1000 * (time.process_time() - start[1]) / n

    counts: dict[Any, int] = {}
    times: dict[Any, list[tuple[float, float]]] = {name: [] for name in programs}
    for name, each in programs.items():
        milliseconds(*each, 1)
        counts[name] = max(1, round(1000 * turn_seconds / milliseconds(*each, 1)[0]))
    for _ in range(rounds):
        for name, each in programs.items():
            times[name].append(milliseconds(*each, counts[name]))
    clock, processor = ({name: statistics.median(t[i] for t in each) for name, each in times.items()} for i in (0, 1))
    return clock, processor


def memory(program: Any) -> dict[str, float]:
    """MiB that a compiled program works in, and those of its results."""
    plan = program.memory_analysis()
    return {
        "working_mib": round(plan.temp_size_in_bytes / 2**20, 1),
        "gradient_mib": round(plan.output_size_in_bytes / 2**20, 1),
    }
