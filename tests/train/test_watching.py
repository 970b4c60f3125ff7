"""A watched run: every place shows the same numbers, and the documentation knows every one of them."""

import json
import re
import signal
import sys
from pathlib import Path

import pytest

from elmo_jax.errors import UserError
from elmo_jax.train.pretrain import pretrain
from elmo_jax.train.report import TrainingReport
from tests.event_files import shown, texts
from tests.train.small import config

DOCUMENTATION = Path(__file__).resolve().parents[2] / "docs" / "watching.md"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was stopped after step 5 and went on, with TensorBoard and a profile of steps 4 to 9."""
    watch = {"tensorboard": True, "profile_first_step": 4, "profile_steps": 6}
    c = config(tmp_path_factory.mktemp("watched"), watch=watch)

    def stop_after_five(self, step, metrics, plain=TrainingReport.__call__):
        plain(self, step, metrics)
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TrainingReport, "__call__", stop_after_five)
        assert pretrain(c) == 143
    assert pretrain(c) == 0
    return Path(c.run_dir)


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_tensorboard_shows_the_numbers_of_metrics_jsonl(run):
    wanted = {}
    for line in lines_of(run):
        for name, value in line.items():
            if name not in ("step", "time") and not isinstance(value, str):
                wanted.setdefault(name, []).append((line["step"], pytest.approx(value, rel=1e-6)))
    assert [step for step, _ in wanted["train/loss"]] == [3, 6, 9, 12]
    assert shown(run / "tensorboard") == wanted
    assert "optimiser        adagrad" in texts(run / "tensorboard")["start/text_summary"]


def test_shares_of_time_add_up_to_one(run):
    for line in lines_of(run):
        if "train/loss" in line:
            shares = [value for name, value in line.items() if name.startswith("time/")]
            assert len(shares) == 5
            assert sum(shares) == pytest.approx(1)


def test_both_parts_of_a_stopped_run_left_a_profile_of_their_steps(run):
    assert len(list((run / "profile").rglob("*.xplane.pb"))) == 2


def test_every_metric_is_documented(run):
    documented = set(re.findall(r"^\| `([^`]+)`", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == {name for line in lines_of(run) for name in line}


def test_what_cannot_be_watched_is_told_before_anything_is_done(tmp_path, monkeypatch):
    c = config(tmp_path, watch={"profile_first_step": 13, "profile_steps": 1})
    with pytest.raises(UserError, match="profile_first_step is 13: the run has only 12 steps"):
        pretrain(c)
    assert not Path(c.run_dir).exists()
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="needs tensorboardX"):
        pretrain(config(tmp_path, watch={"tensorboard": True}, data={"cache_dir": str(tmp_path / "untouched")}))
    assert not (tmp_path / "untouched").exists()
