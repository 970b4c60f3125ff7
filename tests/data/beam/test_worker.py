"""Worker processes end with their launcher."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from elmo_jax.data.beam.worker import LAUNCHER, workers_end_with_this_block

WORKER = "import elmo_jax.data.beam.worker, sys; print('ready', flush=True); sys.stdin.read()"
LAUNCHING = f"""
import subprocess, sys, time
from elmo_jax.data.beam.worker import workers_end_with_this_block
with workers_end_with_this_block():
    process = subprocess.Popen([sys.executable, "-c", {WORKER!r}], stdin=subprocess.PIPE)
    time.sleep(100)
"""


def start(code: str, **how) -> subprocess.Popen:
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, **how)


def test_a_worker_ends_with_the_block_it_was_started_in():
    with workers_end_with_this_block():
        worker = start(WORKER, stdin=subprocess.PIPE)
        assert worker.stdout.readline() == b"ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(0.2)
    assert worker.wait(20) == 1
    worker.stdin.close()
    worker.stdout.close()


def test_a_worker_that_starts_too_late_ends_at_once(monkeypatch):
    with workers_end_with_this_block():
        gone = os.environ[LAUNCHER]
    assert LAUNCHER not in os.environ
    monkeypatch.setenv(LAUNCHER, gone)
    worker = start(WORKER, stdin=subprocess.PIPE)
    assert worker.wait(20) == 1
    worker.stdin.close()
    worker.stdout.close()


def test_a_worker_ends_when_its_launcher_is_killed():
    launcher = start(LAUNCHING)
    assert launcher.stdout.readline() == b"ready\n"  # says the worker, on the standard output they share
    launcher.send_signal(signal.SIGKILL)
    assert launcher.stdout.read() == b""  # nobody holds it any more
    launcher.wait()
    launcher.stdout.close()
