"""What is watched elsewhere is what metrics.jsonl has, and what goes wrong there is told."""

import json
import logging
import subprocess
import sys
import types
from pathlib import Path

import pytest

from elmo_jax import config_io, trackers
from elmo_jax.config import Config, Watch
from elmo_jax.errors import UserError
from tests.event_files import events, shown, texts

CONFIG = Config(run_dir="runs/a")
TENSORBOARD, WANDB = Watch(tensorboard=True), Watch(wandb_project="elmo")


def lines(run_dir):
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def train(run_dir, watch, start, *steps):
    """A run that goes on after ``start`` and logs these steps."""
    with trackers.Metrics(run_dir, watch) as metrics:
        metrics.begin(start, CONFIG, "model  small\ntext   short")
        for step in steps:
            metrics.write(step, {"train/loss": 1 / step, "eval/state": "carried", "big": float("inf")})


def test_without_trackers_there_is_metrics_jsonl_and_nothing_else(tmp_path):
    train(tmp_path, Watch(), 0, 1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


# A library that is missing


@pytest.mark.parametrize(
    ("watch", "library", "message"),
    [
        (TENSORBOARD, "tensorboardX", r"config\.watch\.tensorboard needs tensorboardX: pip install tensorboardX "),
        (WANDB, "wandb", r"config\.watch\.wandb_project needs wandb: pip install 'elmo-jax\[wandb\]' "),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(monkeypatch, watch, library, message):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserError, match=message):
        trackers.check_installed(watch)
    trackers.check_installed(Watch())


# TensorBoard


def test_tensorboard_shows_the_numbers_of_metrics_jsonl_each_step_once_after_a_crash_too(tmp_path):
    train(tmp_path, TENSORBOARD, 0, 1, 2, 3, 4)
    train(tmp_path, TENSORBOARD, 2, 3, 4, 5)
    written = [(line["step"], pytest.approx(line["train/loss"])) for line in lines(tmp_path)]
    assert [step for step, _ in written] == [1, 2, 3, 4, 5]
    curves = shown(tmp_path / "tensorboard")
    assert curves["train/loss"] == written
    assert set(curves) == {"train/loss", "big"}


def test_tensorboard_has_what_is_written_before_the_run_ends(tmp_path):
    with trackers.Metrics(tmp_path, TENSORBOARD) as metrics:
        metrics.begin(0, CONFIG, "")
        metrics.write(7, {"train/loss": 0.5})
        assert shown(tmp_path / "tensorboard") == {"train/loss": [(7, 0.5)]}


def test_tensorboard_shows_the_configuration_and_what_the_run_said_at_its_start(tmp_path):
    train(tmp_path, TENSORBOARD, 0)
    found = texts(tmp_path / "tensorboard")
    assert found["start/text_summary"] == "    model  small\n    text   short\n"
    config = "".join(line[4:] + "\n" for line in found["config/text_summary"].splitlines())
    assert config_io.from_json(config.replace('"source": "text"', '"source": "pydoc"')).run_dir == "runs/a"
    assert events(tmp_path / "tensorboard")[0].file_version == "brain.Event:2"


def test_event_files_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "tensorboard").write_text("mine")
    with pytest.raises(UserError, match=r"cannot write .*/tensorboard: File exists; .*config.watch.tensorboard=false"):
        train(tmp_path, TENSORBOARD, 0, 1)
    assert (tmp_path / "tensorboard").read_text() == "mine"


# Weights & Biases


class Server:
    """W&B as a module and the runs it knows: as the real one it never takes a step back."""

    def __init__(self):
        self.runs, self.calls, self.failing = {}, [], None

    def init(self, **arguments):
        self.calls.append(arguments)
        if self.failing == "init":
            raise ConnectionError("no route to host")
        history = self.runs.setdefault(arguments["id"], {})
        server = self

        class Run:
            step = max(history, default=-1) + 1
            config = types.SimpleNamespace(update=lambda values, allow_val_change: None)

            def log(self, values, step):
                if server.failing == "log":
                    raise BrokenPipeError("service is gone")
                assert step >= max(history, default=0), "W&B would drop this with a warning"
                history.setdefault(step, {}).update(values)

            def finish(self, exit_code):
                server.calls.append(exit_code)

        return Run()


@pytest.fixture
def server(monkeypatch):
    server = Server()
    module = types.ModuleType("wandb")
    module.init = server.init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return server


def test_a_run_goes_on_as_the_same_run_and_gives_each_step_once(tmp_path, server):
    train(tmp_path / "a", WANDB, 0, 1, 2, 3, 4)
    (tmp_path / "a").rename(tmp_path / "moved")
    train(tmp_path / "moved", WANDB, 2, 3, 4, 5)
    first, _, second, _ = server.calls
    assert first["id"] == second["id"]
    assert (first["project"], first["name"], first["resume"]) == ("elmo", "a", "allow")
    (history,) = server.runs.values()
    assert history == {step: {"train/loss": 1 / step, "big": float("inf")} for step in (1, 2, 3, 4, 5)}


def test_a_run_that_starts_anew_is_another_run(tmp_path, server):
    train(tmp_path, WANDB, 0, 1, 2)
    train(tmp_path, WANDB, 0, 1, 2)
    assert [list(history) for history in server.runs.values()] == [[1, 2], [1, 2]]


def test_training_and_evaluation_at_one_step_are_one_point(tmp_path, server):
    with trackers.Metrics(tmp_path, WANDB) as metrics:
        metrics.begin(0, CONFIG, "")
        metrics.write(5, {"train/loss": 1.0})
        metrics.write(5, {"eval/perplexity": 2.0})
    assert list(server.runs.values()) == [{5: {"train/loss": 1.0, "eval/perplexity": 2.0}}]


def test_the_end_of_a_run_is_told_whether_good_or_bad(tmp_path, server):
    train(tmp_path, WANDB, 0, 1)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, WANDB, 1, 0)
    assert [call for call in server.calls if isinstance(call, int)] == [0, 1]


def test_no_connection_at_the_start_is_an_error_that_knows_a_way_out(tmp_path, server):
    server.failing = "init"
    with pytest.raises(UserError, match=r"wandb_project is 'elmo', .* no route to host; .*wandb login.*WANDB_MODE=off"):
        train(tmp_path, WANDB, 0, 1)


def test_a_failure_later_is_told_once_and_training_goes_on(tmp_path, server, caplog):
    with caplog.at_level(logging.WARNING, "elmo_jax"), trackers.Metrics(tmp_path, WANDB) as metrics:
        metrics.begin(0, CONFIG, "")
        metrics.write(1, {"train/loss": 1.0})
        server.failing = "log"
        metrics.write(2, {"train/loss": 1.0})
        metrics.write(3, {"train/loss": 1.0})
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == [
        "Weights & Biases gets no more of this run: service is gone; training goes on, see metrics.jsonl"
    ]


PROGRAM = """
import json, struct, sys, time
from pathlib import Path
from elmo_jax import trackers
from elmo_jax.config import Config, Watch

run = Path(sys.argv[1])
with trackers.Metrics(run, Watch(wandb_project="elmo")) as metrics:
    metrics.begin(0, Config(), "")
    metrics.write(10, {"train/loss": 1.5, "eval/state": "carried"})
    metrics.write(20, {"train/loss": 1.25})

from wandb.proto.wandb_internal_pb2 import Record

(file,) = (run / "wandb").glob("offline-run-*/*.wandb")


def records():
    # A LevelDB log behind seven bytes: records, cut where a block of 32 KiB ends (kinds 1 and 4 end one).
    data, place, part, whole = file.read_bytes(), 7, b"", []
    while place < len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        part, place = part + data[place + 7 : place + 7 + length], place + 7 + length
        if kind in (1, 4):
            whole, part = [*whole, Record.FromString(part)], b""
    return whole


# Another process of W&B writes it, to the end a moment after this one has finished the run.
while not any(record.WhichOneof("record_type") == "exit" for record in records()):
    time.sleep(0.1)
found = []
for record in records():
    if record.WhichOneof("record_type") == "run":
        identity = record.run.run_id
    if record.WhichOneof("record_type") == "history":
        items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        found.append([items["_step"], {name: value for name, value in items.items() if name[0] != "_"}])
print(json.dumps([identity == (run / "wandb/run_id").read_text(), found]))
"""


def test_the_real_library_offline(tmp_path):
    environment = {"WANDB_MODE": "offline", "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "run")]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, [[10, {"train/loss": 1.5}], [20, {"train/loss": 1.25}]]]
