"""The one training loop. It knows no model: a state, a step, batches, and what to do every so often."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax

from elmo_jax.telemetry import Clock

State = TypeVar("State")

# Steps dispatched but not yet known to be done: one runs, one waits, and the device never idles.
IN_FLIGHT = 2


@dataclass(frozen=True)
class Hooks(Generic[State]):
    """What a task does besides stepping.

    Attributes:
        report: called with (step, metrics) for every step, in order, a little after it ran. Metrics are ready device
            arrays.
        evaluate: called with (step, state); returns the number by which the best checkpoint is chosen, or None.
        save: called with (step, state, position, that number or None).
        evaluate_every: steps between evaluations; the last step is always evaluated.
        save_every: steps between checkpoints; there is one after every evaluation and at the end besides.
        stop: asked after every step, and after its evaluation if there is one; True saves and ends the loop.
    """

    report: Callable[[int, Any], None]
    evaluate: Callable[[int, State], float | None]
    save: Callable[[int, State, Any, float | None], None]
    evaluate_every: int
    save_every: int
    stop: Callable[[], bool]


def run(
    state: State,
    step_fn: Callable[[State, Any], tuple[State, Any]],
    batches: Iterator[tuple[Any, Any]],
    *,
    start: int,
    until: int,
    hooks: Hooks[State],
    clock: Clock,
) -> tuple[State, int]:
    """Train from step ``start`` to step ``until``.

    The loop does not wait for the step it has just dispatched, but for the one two before it, which bounds how far the
    host runs ahead.

    Args:
        state: donated to ``step_fn``.
        step_fn: ``(state, batch) -> (state, metrics)``.
        batches: yields ``(batch, position)``, where the position is that of the data after the batch.
        start: steps already done.
        until: steps in all.
        hooks: reports, evaluation, checkpoints, and when to stop early.
        clock: learns where the time goes.

    Returns:
        The state and the number of steps done: less than ``until`` when stopped.
    """
    running: deque[tuple[int, Any]] = deque()

    def settle(allowed: int) -> None:
        with clock.measure("step"):
            while len(running) > allowed:
                number, metrics = running.popleft()
                hooks.report(number, jax.block_until_ready(metrics))

    step = start
    while step < until:
        with clock.measure("input"):
            batch, position = next(batches)
        # The first call traces and compiles before it returns.
        with clock.measure("compile" if step == start else "step"):
            state, metrics = step_fn(state, batch)
        step += 1
        running.append((step, metrics))
        settle(IN_FLIGHT)
        score = None
        # Also before stopping: a resumed run starts after this step and would never make up for it.
        evaluating = step % hooks.evaluate_every == 0 or step == until
        if evaluating:
            settle(0)
            with clock.measure("evaluation"):
                score = hooks.evaluate(step, state)
        stopping = hooks.stop()
        if evaluating or stopping or step % hooks.save_every == 0:
            settle(0)
            with clock.measure("checkpoint"):
                hooks.save(step, state, position, score)
        if stopping:
            break
    settle(0)
    return state, step
