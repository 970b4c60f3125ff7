"""The curves of a run are what its metrics.jsonl has, however it was interrupted."""

import json
import math

import numpy as np
import pytest

from elmo_jax import config_io
from elmo_jax.analysis import curves
from elmo_jax.config import Config, Data, Train
from elmo_jax.errors import UserError

CONFIG = Config(data=Data(source="pydoc"), train=Train(batch_size=8, unroll_steps=5))


def make_run(path, lines, end=""):
    path.mkdir(parents=True)
    (path / "config.json").write_text(config_io.to_json(CONFIG))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return path


def training(step, tokens, speed=10.0):
    return {"step": step, "time": 0.0, "train/tokens": tokens, "speed/tokens_per_second": speed}


def load_one(path):
    (run,) = curves.load([path])
    return run


def test_a_curve_has_every_number_of_its_metric_at_its_step(tmp_path):
    rng = np.random.default_rng(0)
    lines = [{"step": 10 * n, "time": 5.0, "a": float(rng.normal()), "b": n} for n in range(1, 50)]
    lines += [{"step": 10 * n, "c": float(rng.normal())} for n in range(5, 50, 5)]
    run = load_one(make_run(tmp_path / "run", lines))
    assert set(run.curves) == {"a", "b", "c"}
    for name, curve in run.curves.items():
        wanted = {line["step"]: line[name] for line in lines if name in line}
        assert dict(zip(curve.steps.tolist(), curve.values.tolist(), strict=True)) == wanted
        assert (np.diff(curve.steps) > 0).all()


def test_a_living_run_a_torn_line_and_what_is_no_number(tmp_path):
    lines = [
        {"step": 1, "a": 1.0, "state": "carried"},
        {"step": 2, "a": "nan"},
        {"step": 3, "a": "inf"},
        {"step": 4, "a": 4.0},
        {"step": 5, "a": 5.0},
        {"step": 4, "a": 4.5},
    ]
    run = load_one(make_run(tmp_path / "run", lines, end='[1]\n7\n\n{"a": 9.0}\n{"step": 6, "a": 6'))
    assert set(run.curves) == {"a"}
    assert run.curves["a"].steps.tolist() == [1, 4, 5]
    assert run.curves["a"].values.tolist() == [1.0, 4.5, 5.0]


def test_tokens_are_those_of_the_lines_of_training_and_between_them_in_proportion(tmp_path):
    run = load_one(make_run(tmp_path / "run", [training(10, 400), training(20, 700), {"step": 15, "eval/x": 1.0}]))
    steps = np.array([0, 5, 10, 15, 20, 30])
    assert run.along("tokens", steps).tolist() == [0, 200, 400, 550, 700, 1000]
    assert run.along("steps", steps).tolist() == steps.tolist()


def test_tokens_before_the_first_line_of_training_follow_the_configuration(tmp_path):
    run = load_one(make_run(tmp_path / "run", [{"step": 3, "eval/perplexity": 7.0}]))
    assert run.along("tokens", np.array([3, 4])).tolist() == [3 * 40, 4 * 40]
    with pytest.raises(UserError, match="run has no training speed yet, which tells the hours; choose another"):
        run.along("hours", np.array([3]))


def test_hours_are_the_tokens_of_each_interval_at_its_speed(tmp_path):
    lines = [training(10, 3600, speed=1.0), training(20, 10800, speed=2.0), training(30, 18000, speed=0.5)]
    run = load_one(make_run(tmp_path / "run", lines))
    assert run.along("hours", np.array([0, 5, 10, 20, 30])).tolist() == pytest.approx([0, 0.5, 1.0, 2.0, 6.0])


@pytest.mark.parametrize(("n", "half_width"), [(1, 0), (1, 5), (2, 1), (30, 0), (30, 4), (30, 100)])
def test_smoothing_against_the_plain_mean(n, half_width):
    values = np.random.default_rng(n).normal(size=n)
    wanted = []
    for i in range(n):
        left = min(half_width, i)
        right = min(left, n - 1 - i)
        wanted.append(math.fsum(values[i - left : i + right + 1]) / (left + right + 1))
    np.testing.assert_allclose(curves.smoothed(values, half_width), wanted, atol=1e-12)


def test_names_are_as_short_as_tells_runs_apart(tmp_path):
    runs = [make_run(tmp_path / name, [{"step": 1, "a": 1}]) for name in ("x/small", "y/small", "y/large")]
    assert [run.name for run in curves.load(runs)] == ["x/small", "y/small", "y/large"]
    assert [run.name for run in curves.load(runs[1:])] == ["small", "large"]


def test_what_is_no_run_or_has_nothing_to_show_is_named(tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path}/none is not a run directory"):
        curves.load([tmp_path / "none"])
    run = make_run(tmp_path / "run", [], end='{"step": 1')
    with pytest.raises(UserError, match=r"run/metrics.jsonl has no metrics yet: a run writes the first after"):
        curves.load([run])
    (run / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match="has no metrics yet"):
        curves.load([run])
    with pytest.raises(UserError, match="run is given twice; name each run once"):
        curves.load([run, run / ".." / "run"])


def test_metrics_are_chosen_from_those_there_are(tmp_path):
    runs = curves.load([make_run(tmp_path / n, [{"step": 1, n: 1, "x": 2}]) for n in ("a", "b")])
    assert curves.choose(runs, None, ("b", "c", "a")) == ["b", "a"]
    assert curves.choose(runs, ["x", "a", "x"], ("b",)) == ["x", "a"]
    with pytest.raises(UserError, match="no run has the metric 'y'; there are a, b, x"):
        curves.choose(runs, ["a", "y"], ())
    with pytest.raises(UserError, match=r"no run has any of c, d: choose from a, b, x with --metrics"):
        curves.choose(runs, None, ("c", "d"))
