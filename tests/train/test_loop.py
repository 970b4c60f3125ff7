"""The loop, with a toy task: order of reports, bounded run-ahead, when it evaluates and saves, how it stops."""

import jax.numpy as jnp

from elmo_jax.telemetry import Clock
from elmo_jax.train import loop


def toy(until, *, start=0, stop_at=None, stop_below=0.0, evaluate_every=4, save_every=3):
    """Counts up by the batch; returns the state, the steps done and what happened, in order."""
    events, scores = [], []

    def batches():
        for number in range(start + 1, until + 100):
            events.append(("batch", number))
            yield number, f"position {number}"

    def evaluate(step, state):
        events.append(("evaluate", step, int(state)))
        scores.append(100.0 - step)
        return scores[-1]

    hooks = loop.Hooks(
        report=lambda step, metrics: events.append(("report", step, int(metrics))),
        evaluate=evaluate,
        save=lambda step, state, position, score: events.append(("save", step, int(state), position, score)),
        evaluate_every=evaluate_every,
        save_every=save_every,
        stop=lambda: ("batch", stop_at) in events or bool(scores and scores[-1] < stop_below),
    )
    clock = Clock()
    state, step = loop.run(
        jnp.int32(0), lambda s, b: (s + b, s + b), batches(), start=start, until=until, hooks=hooks, clock=clock
    )
    return int(state), step, events, clock


def of(kind, events):
    return [event[1] for event in events if event[0] == kind]


def test_every_step_is_reported_once_in_order_with_its_own_metrics():
    state, step, events, _ = toy(10)
    assert (state, step) == (55, 10)
    assert [e for e in events if e[0] == "report"] == [("report", n, n * (n + 1) // 2) for n in range(1, 11)]


def test_it_runs_at_most_two_steps_ahead_of_what_is_known_to_be_done():
    _, _, events, _ = toy(12, evaluate_every=100, save_every=100)
    ahead = 0
    for kind, *_ in events:
        ahead += {"batch": 1, "report": -1}.get(kind, 0)
        assert ahead <= loop.IN_FLIGHT + 1


def test_it_evaluates_and_saves_when_due_and_at_the_end_and_saves_after_every_evaluation():
    _, _, events, _ = toy(10)
    assert of("evaluate", events) == [4, 8, 10]
    assert of("save", events) == [3, 4, 6, 8, 9, 10]
    assert ("save", 8, 36, "position 8", 92.0) in events
    assert ("save", 9, 45, "position 9", None) in events


def test_what_is_saved_has_been_reported():
    _, _, events, _ = toy(10)
    for i, event in enumerate(events):
        if event[0] == "save":
            assert of("report", events[:i])[-1] == event[1]


def test_a_stop_saves_at_once():
    state, step, events, _ = toy(10, stop_at=5)
    assert (state, step) == (15, 5)
    assert of("save", events)[-1] == 5
    assert of("evaluate", events) == [4]
    assert of("report", events) == [1, 2, 3, 4, 5]


def test_a_stop_does_not_skip_an_evaluation_that_is_due():
    _, step, events, _ = toy(10, stop_at=4)
    assert step == 4
    assert ("save", 4, 10, "position 4", 96.0) in events


def test_an_evaluation_may_be_the_reason_to_stop_and_is_saved_first():
    state, step, events, _ = toy(20, stop_below=93.0)
    assert (state, step) == (36, 8)
    assert of("evaluate", events) == [4, 8]
    assert events[-1] == ("save", 8, 36, "position 8", 92.0)
    assert of("report", events) == list(range(1, 9))


def test_it_goes_on_from_a_step():
    state, step, events, _ = toy(6, start=4)
    assert (state, step) == (11, 6)
    assert of("report", events) == [5, 6]


def test_the_clock_knows_where_the_time_went():
    _, _, _, clock = toy(10)
    assert {"input", "compile", "step", "evaluation", "checkpoint"} <= set(clock.seconds)
