"""One process at a time: the second is refused with the name of the first, whatever end that has keeps nobody out."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from elmo_jax.errors import BusyError, UserError
from elmo_jax.train import run_lock
from tests.filesystems import contents, fill, small_disk

ROOT = Path(__file__).resolve().parents[2]

# Holds the lock of its argument until a line comes in; says what happened.
HOLDER = """
import sys
from pathlib import Path
from elmo_jax.errors import BusyError
from elmo_jax.train import run_lock
print("ready", flush=True)
sys.stdin.readline()
try:
    with run_lock.hold(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except BusyError as error:
    print("refused", error, flush=True)
"""


class Holder:
    """Another process that takes the lock of a directory when told to."""

    def __init__(self, directory):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.hears() == "ready"

    def go(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def hears(self):
        return self.process.stdout.readline().rstrip()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path):
    holders = []

    def make(directory=tmp_path / "runs" / "a"):
        holders.append(Holder(directory))
        return holders[-1]

    yield make
    for holder in holders:
        holder.end()


@pytest.fixture
def run(tmp_path):
    return tmp_path / "runs" / "a"


def take(directory):
    with run_lock.hold(directory):
        pass


def test_a_second_process_is_refused_and_told_who_is_the_first(start, run):
    first = start()
    first.go()
    assert first.hears() == "held"
    with pytest.raises(BusyError) as refused:
        take(run)
    said = str(refused.value)
    assert said.startswith(f"{run} is in use by process {first.process.pid} on {socket.gethostname()} since 2")
    assert said.endswith(f" (-c {run}): wait for it or stop it, or choose another --config.run_dir")
    assert json.loads((run / "lock").read_text())["pid"] == first.process.pid
    first.go()
    first.process.wait()
    take(run)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_ends_with_its_process_however_that_ends(start, run, number):
    first = start()
    first.go()
    assert first.hears() == "held"
    first.process.send_signal(number)
    first.process.wait()
    assert (run / "lock").exists()
    take(run)
    assert not (run / "lock").exists()


def test_of_four_processes_that_start_at_once_in_a_new_directory_one_wins(start, run):
    several = [start() for _ in range(4)]
    for holder in several:
        holder.go()
    said = [holder.hears() for holder in several]
    assert sorted(word.split()[0] for word in said) == ["held", "refused", "refused", "refused"]
    winner = several[said.index("held")]
    assert all(f"in use by process {winner.process.pid} on" in text for text in said if text != "held")


def test_a_lock_that_its_holder_removes_meanwhile_is_not_taken_for_the_one_there_is(run, monkeypatch):
    """Between opening and locking, the file goes: whoever comes next makes a new one, so the old one guards nothing."""
    run.mkdir(parents=True)
    real, removed = fcntl.flock, []

    def late(descriptor, operation):
        real(descriptor, operation)
        if not removed:
            removed.append((run / "lock").unlink())

    monkeypatch.setattr(fcntl, "flock", late)
    with run_lock.hold(run), pytest.raises(BusyError):
        take(run)
    assert removed


def test_a_directory_that_nothing_was_put_into_is_not_left_behind(tmp_path, run):
    take(run)
    assert contents(tmp_path) == {}
    run.mkdir(parents=True)
    take(run)
    assert contents(tmp_path) == {"runs": None, "runs/a": None}
    with run_lock.hold(run / "b"):
        (run / "b" / "config.json").write_text("{}")
    assert contents(run) == {"b": None, "b/config.json": b"{}"}


def test_an_error_frees_it(run):
    with pytest.raises(ZeroDivisionError), run_lock.hold(run):
        raise ZeroDivisionError
    take(run)


@pytest.mark.parametrize("left", ["", '{"p', '{"pid": 1, "ho'])
def test_what_a_process_left_that_was_killed_while_it_wrote_is_no_hindrance(run, left):
    run.mkdir(parents=True)
    (run / "lock").write_text(left)
    take(run)


def test_a_file_of_that_name_that_is_no_lock_is_not_replaced(run):
    run.mkdir(parents=True)
    (run / "lock").write_text("my own")
    with pytest.raises(UserError, match=r"lock is no lock of elmo, which would replace it: move it"):
        take(run)
    assert (run / "lock").read_text() == "my own"


def test_a_file_system_without_locks_is_told_and_trained_on(run, monkeypatch, caplog):
    def unsupported(descriptor, operation):
        raise OSError(run_lock.errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    take(run)
    assert caplog.messages == [
        f"{run}: the file system has no locks (Function not implemented); see to it yourself that no other process "
        "trains there"
    ]


def test_on_a_full_disk_it_holds_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(run_lock, "PATIENCE_SECONDS", 0.05)
    with small_disk(tmp_path / "disk"):
        run = tmp_path / "disk" / "run"
        run.mkdir()
        fill(tmp_path / "disk")
        with run_lock.hold(run), pytest.raises(BusyError, match="in use by another process: wait"):
            take(run)


def test_a_directory_that_cannot_be_made_or_written(tmp_path, run):
    run.parent.mkdir()
    run.write_text("mine")
    with pytest.raises(UserError, match=rf"cannot lock the run directory {run}/b: .*; make it writable or choose"):
        take(run / "b")
    (tmp_path / "lock").mkdir()
    with pytest.raises(UserError, match="Is a directory"):
        take(tmp_path)
    assert os.path.isdir(tmp_path / "lock")
