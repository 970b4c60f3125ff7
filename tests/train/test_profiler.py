"""The profiler's window: whole steps, those that were asked for and no others, and a trace that can be read."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from elmo_jax.config import Watch
from elmo_jax.errors import UserError
from elmo_jax.telemetry import Clock
from elmo_jax.train.profiler import ProfilerWindow


@jax.jit
def add(state, batch):
    return state + batch, {"sum": (state * batch).sum()}


def train(directory, first, number, *, start=0, stop=6, until=6):
    """Steps ``start`` to ``stop`` under a window; returns the final state and the clock."""
    clock = Clock()
    window = ProfilerWindow(Watch(profile_first_step=first, profile_steps=number), until, directory, clock)
    step, state = window.around(add, start), jnp.full(4, float(start))
    for _ in range(start, stop):
        state, _ = step(state, jnp.ones(4))
    window.close()
    window.close()
    return float(state[0]), clock


def steps_of(directory):
    """The numbers of the steps in the trace, which has both of the forms that tools read."""
    (trace,) = directory.rglob("*.trace.json.gz")
    assert trace.with_name(trace.name.replace(".trace.json.gz", ".xplane.pb")).stat().st_size > 0
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    return sorted(int(event["args"]["step_num"]) for event in events if "step_num" in event.get("args", {}))


@pytest.mark.parametrize(
    ("window", "start", "stop", "traced"),
    [
        ((3, 2), 0, 6, [3, 4]),
        ((1, 1), 0, 6, [1]),
        ((5, 9), 0, 6, [5, 6]),
        ((2, 3), 2, 6, [3, 4]),
        ((4, 3), 0, 5, [4, 5]),
    ],
    ids=["inside", "from the first step", "beyond the end", "resumed inside", "stopped inside"],
)
def test_the_steps_of_the_window_are_traced(tmp_path, capsys, window, start, stop, traced):
    state, clock = train(tmp_path, *window, start=start, stop=stop)
    assert state == stop
    assert steps_of(tmp_path) == traced
    assert clock.seconds["profiler"] > 0
    said = capsys.readouterr().out
    assert said.startswith(f"profile of {len(traced)} steps from step {traced[0]} in {tmp_path}: open its ")


@pytest.mark.parametrize(("window", "start"), [((3, 0), 0), ((1, 2), 2), ((2, 2), 5)])
def test_without_a_window_ahead_steps_are_as_they_were(tmp_path, window, start):
    profiler = ProfilerWindow(Watch(profile_first_step=window[0], profile_steps=window[1]), 6, tmp_path, Clock())
    assert profiler.around(add, start) is add
    profiler.close()
    assert not any(tmp_path.iterdir())


def test_a_window_after_the_end_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config.watch.profile_first_step is 7: the run has only 6 steps; choose"):
        train(tmp_path, 7, 1)
