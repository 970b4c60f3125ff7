"""The lines of training: means over the steps of an interval, shares of the time since the line before."""

import io

import pytest

from elmo_jax.telemetry import Clock, Progress
from elmo_jax.train.report import TrainingReport


class FakeTime:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Lines(list):
    def write(self, step, values):
        self.append({"step": step, **values})


class Devices:
    @staticmethod
    def scalars(metrics):
        return dict(metrics)


def report(lines, time=None, **changes):
    arguments = {"every": 2, "until": 100, "per_epoch": 40, "learning_rate": lambda step: 0.5, "clip_norm": 10.0}
    clock = Clock(time or FakeTime())
    made = TrainingReport(lines, Progress(100, stream=io.StringIO()), Devices, clock, **{**arguments, **changes})
    return made, clock


def metrics(gradient=1.0, update=0.1, parameters=5.0, count=10.0):
    sums = {"nll_forward": 2 * count, "nll_backward": 4 * count, "count": count}
    return {**sums, "gradient_norm": gradient, "update_norm": update, "parameter_norm": parameters}


def test_norms_are_means_over_the_interval_and_the_clipped_share_counts_steps():
    lines = Lines()
    say, _ = report(lines, every=4)
    for step, gradient in enumerate([9.0, 11.0, 10.0, 30.0], start=1):
        say(step, metrics(gradient, update=step / 10, parameters=5.0 + step))
    (line,) = lines
    assert line["train/gradient_norm"] == 15.0
    assert line["train/update_norm"] == pytest.approx(0.25)
    assert line["train/parameter_norm"] == 7.5
    assert line["train/clipped_share"] == 0.5
    assert line["train/loss"] == 3.0


def test_shares_are_of_the_time_since_the_line_before_and_add_up_to_one():
    time, lines = FakeTime(), Lines()
    time.now = 50.0
    say, clock = report(lines, time)

    def spend(part, seconds):
        with clock.measure(part):
            time.now += seconds

    def settle(step, seconds):
        with clock.measure("step"):
            time.now += seconds
            say(step, metrics())

    spend("compile", 6.0)
    spend("input", 1.0)
    settle(1, 1.0)
    settle(2, 2.0)
    spend("evaluation", 3.0)
    spend("checkpoint", 2.0)
    time.now += 1.0
    settle(3, 1.0)
    spend("input", 1.0)
    settle(4, 2.0)
    parts = ("input", "step", "evaluation", "checkpoint", "other")
    first, second = ({part: line[f"time/{part}"] for part in parts} for line in lines)
    assert first == pytest.approx({"input": 0.1, "step": 0.3, "evaluation": 0, "checkpoint": 0, "other": 0.6})
    assert second == pytest.approx({"input": 0.1, "step": 0.3, "evaluation": 0.3, "checkpoint": 0.2, "other": 0.1})
    assert [line["speed/tokens_per_second"] for line in lines] == [20 / 4, 20 / 4]


def test_an_interval_that_goes_on_after_a_resume_is_whole():
    unbroken, broken = Lines(), Lines()
    say, _ = report(unbroken)
    for step in (1, 2):
        say(step, metrics(gradient=6.0 * step))
    first, _ = report(broken)
    first(1, metrics(gradient=6.0))
    second, _ = report(broken)
    second.restore(first.state())
    second(2, metrics(gradient=12.0))

    def untimed(line):
        return {name: value for name, value in line.items() if not name.startswith(("speed/", "time/"))}

    assert [untimed(line) for line in broken] == [untimed(line) for line in unbroken]
    assert broken[0]["train/clipped_share"] == 0.5


def test_a_checkpoint_without_the_sums_of_today_is_gone_on_from():
    lines = Lines()
    say, _ = report(lines)
    old = {"nll_forward": 20.0, "nll_backward": 40.0, "count": 10.0, "gradient_norm": 3.0}
    say.restore({"tokens": 10, "sums": old, "steps": 1})
    for step in (2, 3, 4):
        say(step, metrics(gradient=5.0))
    assert lines[0]["train/gradient_norm"] == 4.0
    assert "train/update_norm" not in lines[0]
    assert "train/clipped_share" not in lines[0]
    assert lines[1]["train/update_norm"] == pytest.approx(0.1)
