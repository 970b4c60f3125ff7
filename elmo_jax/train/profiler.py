"""A window of steps in which JAX's profiler records what host and devices do."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from elmo_jax.config import Watch
from elmo_jax.errors import UserError
from elmo_jax.telemetry import Clock, message

log = logging.getLogger(__name__)

Step = Callable[[Any, Any], tuple[Any, Any]]


class ProfilerWindow:
    """Traces the steps that ``config.watch`` names, counted from the beginning of the run.

    Steps that an earlier part of a resumed run has done are not traced again. What began before the window is done
    when the trace starts, and its steps are done when it stops: the trace has whole steps, and nothing else.

    Args:
        watch: first step and number of steps.
        until: steps of the run.
        directory: where the trace goes.
        clock: counts the time of starting and stopping as ``profiler``.

    Raises:
        UserError: when the run has ended before the window begins.
    """

    def __init__(self, watch: Watch, until: int, directory: Path, clock: Clock) -> None:
        if watch.profile_steps and watch.profile_first_step > until:
            raise UserError(
                f"config.watch.profile_first_step is {watch.profile_first_step}: the run has only {until} steps; "
                "choose an earlier one, or set --config.watch.profile_steps=0"
            )
        self._window = range(watch.profile_first_step, min(watch.profile_first_step + watch.profile_steps, until + 1))
        self._directory, self._clock = directory, clock
        self._tracing, self._traced = False, range(0)

    def around(self, step_fn: Step, start: int) -> Step:
        """``step_fn`` with the trace around its calls of the window; ``start`` steps are done already."""
        if not self._window or start + 1 >= self._window.stop:
            return step_fn
        number = start

        def step(state: Any, batch: Any) -> tuple[Any, Any]:
            nonlocal number
            number += 1
            if number not in self._window:
                return step_fn(state, batch)
            if not self._tracing:
                self._start(state, number)
            with jax.profiler.StepTraceAnnotation("train", step_num=number):
                results = step_fn(state, batch)
            self._traced = range(self._traced.start, number + 1)
            if number == self._window[-1]:
                jax.block_until_ready(results)
                self.close()
            return results

        return step

    def close(self) -> None:
        """Stop the trace if it runs, and say where it is."""
        if not self._tracing:
            return
        self._tracing = False
        with self._clock.measure("profiler"):
            try:
                jax.profiler.stop_trace()
            except (OSError, RuntimeError) as error:
                log.warning("no profile in %s: %s", self._directory, error)
                return
        message(
            f"profile of {len(self._traced)} steps from step {self._traced.start} in {self._directory}: open its "
            "*.trace.json.gz at https://ui.perfetto.dev, or "
            f"`pip install tensorboard xprof` and `tensorboard --logdir {self._directory}`"
        )

    def _start(self, state: Any, number: int) -> None:
        jax.block_until_ready(state)
        options = jax.profiler.ProfileOptions()
        # Recording every Python call would slow down what is measured.
        options.python_tracer_level = 0
        with self._clock.measure("profiler"):
            jax.profiler.start_trace(self._directory, profiler_options=options)
        self._tracing, self._traced = True, range(number, number)
