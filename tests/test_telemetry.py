"""What a run says about itself."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.telemetry import Clock, MetricsWriter, Progress, message, parameter_table, summary_table


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, *steps):
    with MetricsWriter(path) as metrics:
        for step in steps:
            metrics.write(step, {"loss": 1.0})


def test_a_line_can_be_read_as_soon_as_it_is_written(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    with MetricsWriter(path) as metrics:
        metrics.write(3, {"train/loss": 4.5, "tokens": np.int64(7), "what": "eval", "x": np.float32(0.5)})
        (line,) = lines(path)
    assert line.pop("time") > 1e9
    assert line == {"step": 3, "train/loss": 4.5, "tokens": 7, "what": "eval", "x": 0.5}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_numbers_that_json_has_not_are_strings_that_float_reads(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as metrics:
        metrics.write(1, {"loss": value})
    text = lines(path)[0]["loss"]
    assert isinstance(text, str)
    np.testing.assert_equal(float(text), float(value))


def test_a_resumed_run_has_every_step_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2, 3, 4)
    with path.open("a") as file:
        file.write('{"step": 2, "lo')
    with MetricsWriter(path) as metrics:
        metrics.truncate_after(2)
        metrics.write(3, {"loss": 2.0})
    assert [line["step"] for line in lines(path)] == [1, 2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("torn", ['{"step": 2}', '{"step": 2, "lo', "[1]\n", '{"loss": 1}\n', "\n"])
def test_a_torn_line_is_dropped(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    write(path, 1)
    with path.open("a") as file:
        file.write(torn)
    with MetricsWriter(path) as metrics:
        metrics.truncate_after(5)
        metrics.write(2, {})
    assert [line["step"] for line in lines(path)] == [1, 2]


def test_nothing_to_drop_leaves_the_file_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, 1, 2)
    before = path.stat().st_ino
    with MetricsWriter(path) as metrics:
        metrics.truncate_after(2)
    assert path.stat().st_ino == before
    with MetricsWriter(path) as metrics:
        metrics.truncate_after(0)
    assert path.read_text() == ""


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*metrics.jsonl: Is a directory; .*run_dir"):
        MetricsWriter((tmp_path / "metrics.jsonl").mkdir() or tmp_path / "metrics.jsonl")
    with (
        pytest.raises(UserError, match=r"/dev/full: No space left on device"),
        MetricsWriter(Path("/dev/full")) as full,
    ):
        full.write(1, {})


class FakeTime:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_a_second_counts_for_the_innermost_part():
    time = FakeTime()
    clock = Clock(time)
    time.now += 1
    for _ in range(2):
        with clock.measure("step"):
            time.now += 1
            with clock.measure("input"):
                time.now += 2
            time.now += 0.5
    assert clock.seconds == {"step": 3.0, "input": 4.0}
    assert clock.total == 8.0
    assert clock.shares() == {"step": 3 / 8, "input": 4 / 8, "other": 1 / 8}
    with clock.measure("step"):
        time.now += 2
        assert clock.read() == {"step": 5.0, "input": 4.0, "other": 1.0}


def test_an_error_ends_the_measurement():
    time = FakeTime()
    clock = Clock(time)
    with pytest.raises(ZeroDivisionError), clock.measure("step"):
        raise ZeroDivisionError
    time.now += 1
    assert clock.seconds == {"step": 0.0}


def test_lines_in_a_log(monkeypatch):
    time = FakeTime()
    monkeypatch.setattr("elmo_jax.telemetry.time.monotonic", time)
    log = io.StringIO()
    with Progress(total=10_000, start=2_000, stream=log, every=60.0) as progress:
        for done in range(2_100, 4_100, 100):
            time.now += 10
            progress.update(done, {"loss": 4.56789, "epoch": 1})
    shown = log.getvalue().splitlines()
    assert len(shown) == 5
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d 21.0 %, 2.10k of 10.0k tokens, 10 tokens/s, 13:10 left, loss 4.568, epoch 1", shown[0]
    )
    assert "40.0 %, 4.00k of 10.0k tokens, 10 tokens/s, 10:00 left" in shown[-1]


def test_a_log_without_progress_is_empty():
    log = io.StringIO()
    Progress(total=10, start=10, stream=log).close()
    assert log.getvalue() == ""


def test_a_bar_on_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    with Progress(total=1000, start=500, stream=screen) as progress:
        progress.update(750, {"loss": 1.5})
    last = screen.getvalue().split("\r")[-1]
    assert "75%" in last
    assert "750/1.00k" in last
    assert "tokens/s, loss=1.5]" in last


def test_tables():
    array = np.zeros
    params = {
        "encoder": {"char_embed": array((261, 4)), "cnn_0": {"kernel": array((1, 4, 32)), "bias": array(32)}},
        "lstm_0": {"bias": array((2, 16))},
    }
    assert parameter_table(params) == "\n".join(
        [
            "encoder/char_embed  [261, 4]                      1,044",
            "encoder/cnn_0       kernel [1, 4, 32], bias [32]    160",
            "lstm_0              bias [2, 16]                     32",
            "-" * 55,
            "total                                             1,236",
        ]
    )
    assert summary_table({"run": "runs/a", "steps": "10"}) == "run    runs/a\nsteps  10"
    assert summary_table({}) == ""


def test_a_message_goes_to_standard_output(capsys):
    message("hello")
    assert capsys.readouterr().out == "hello\n"
