"""The exit statuses are those that docs/running.md tells, and processes end with them."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elmo_jax import exit_status
from elmo_jax.exit_status import BUSY, COMPLETE, CRASH, INTERRUPTED, MEANINGS, TERMINATED, USER_ERROR
from elmo_jax.train import run_lock
from tests.train.small import config

ROOT = Path(__file__).resolve().parents[1]
BROKEN = """
from elmo_jax import cli
from elmo_jax.commands import vocab
def broken(options): raise ZeroDivisionError("no plan for this")
vocab.run = broken
cli.main(["vocab", "--text", "a", "--output", "b"])
"""


def process(*arguments, program=("train.py",), **options):
    return subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(running):
    """Status and standard error of a process."""
    _, err = running.communicate(timeout=250)
    return running.returncode, err


def test_the_table_of_the_documentation_is_that_of_the_program():
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\d+)` \| ([^|]+) \|", text, re.MULTILINE))
    assert {int(status): meaning.strip() for status, meaning in table.items()} == MEANINGS


def test_every_status_has_one_meaning():
    named = {value for value in vars(exit_status).values() if isinstance(value, int)}
    assert named == set(MEANINGS)
    assert len(set(MEANINGS.values())) == len(MEANINGS)


def test_a_command_that_is_complete():
    assert ended(process("--config", "quickstart", "--show-config")) == (COMPLETE, "")


def test_a_mistake():
    status, err = ended(process("--config", "quikstart"))
    assert status == USER_ERROR
    assert re.fullmatch(r"elmo: no configuration 'quikstart': [^\n]+\n", err)


def test_an_error_of_the_program():
    status, err = ended(process(program=("-c", BROKEN)))
    assert status == CRASH
    assert err.startswith("Traceback ")
    assert err.endswith("ZeroDivisionError: no plan for this\n")


def test_a_run_directory_in_use(tmp_path):
    with run_lock.hold(tmp_path / "run"):
        status, err = ended(process("--config", "quickstart", f"--config.run_dir={tmp_path}/run"))
    assert status == BUSY
    assert re.fullmatch(rf"elmo: {tmp_path}/run is in use by process \d+ on [^\n]+\n", err)
    assert not (tmp_path / "encoded").exists()


@pytest.mark.long
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)])
def test_stopped_by_a_signal_and_the_same_command_goes_on(tmp_path, number, status):
    c = config(tmp_path, train={"n_steps": 2000})
    experiment = tmp_path / "experiment.py"
    experiment.write_text(f"from elmo_jax.config import *\n\ndef get_config():\n    return {c!r}\n")
    running = process("--config", str(experiment))
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text()):
        assert running.poll() is None
        time.sleep(0.1)
    running.send_signal(number)
    assert ended(running)[0] == status
    steps = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    again = process("--config", str(experiment), f"--config.train.n_steps={steps + 1}")
    assert ended(again)[0] == COMPLETE
