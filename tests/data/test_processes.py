"""Work shared by processes: the results are those of one process, and so are the errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from elmo_jax.data import corpus as corpus_module
from elmo_jax.data import lines, processes
from elmo_jax.data.corpus import prepare
from elmo_jax.data.processes import ordered_map
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import text_source
from elmo_jax.errors import UserError

# No `if __name__ == "__main__"`: the processes must not run it again.
SCRIPT = """
import operator
from elmo_jax.data.processes import ordered_map
print(list(ordered_map(operator.neg, range(5), 2)))
"""


def test_results_are_in_order_and_few_things_are_asked_for_ahead():
    asked = []
    results = ordered_map(abs, (asked.append(-n) or -n for n in range(50)), 2)
    for done in range(50):
        assert next(results) == done
        assert len(asked) <= done + 2 * processes.AHEAD
    assert list(results) == []


def test_an_error_comes_after_the_results_before_it():
    results = ordered_map(int, ["1", "2", "x", "4"], 2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match="'x'"):
        next(results)


def test_a_process_that_dies_is_told():
    with pytest.raises(UserError, match="a helping process ended with status 3"):
        list(ordered_map(os._exit, [3], 1))


def test_what_is_printed_is_no_answer(capfd):
    assert list(ordered_map(print, ["a word"], 1)) == [None]
    assert capfd.readouterr().err == "a word\n"


def test_the_users_program_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[0, -1, -2, -3, -4]\n", "")


# Encoding

TEXT = (
    "\ufeffthe cat\n\r\n\n  \nsat on\u2003the a<S>b\r\nmat é 𝄞\n\n" * 40 + "the end\n\n",
    "\n",
    "more text\nwithout end",
)


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A glob of shards that are read in many small blocks, by two processes."""
    for number, content in enumerate(TEXT):
        (tmp_path / f"{number}.txt").write_text(content, encoding="utf-8", newline="")
    monkeypatch.setattr(lines, "BLOCK_BYTES", 64)
    return str(tmp_path / "*.txt")


@pytest.mark.parametrize("segmentation", [Segmentation(), Segmentation("unicode", "unicode")])
def test_the_corpus_is_the_same_whoever_encodes_it(shards, tmp_path, monkeypatch, segmentation):
    source = text_source(shards, segmentation)
    whole = tmp_path / "whole"
    corpus_module.encode(source.read([].append), whole)
    files = {path.name: path.read_bytes() for path in whole.iterdir()}
    for n in (1, 2, 3):
        monkeypatch.setattr(processes, "available", lambda n=n: n)
        monkeypatch.setattr(corpus_module, "SMALL_TEXT", 0)
        corpus = prepare(source, tmp_path / f"by {n}")
        assert {path.name: path.read_bytes() for path in corpus.directory.iterdir()} == files


@pytest.mark.parametrize("bad", [b"a <S> b\n", b"a \xff\n"])
def test_bad_text_is_told_as_by_one_process_and_leaves_nothing_behind(shards, tmp_path, monkeypatch, bad):
    path = tmp_path / "1.txt"
    path.write_bytes(b"good text\n" * 50 + bad + b"more\n" * 50 + b"\x00\n")
    monkeypatch.setattr(corpus_module, "SMALL_TEXT", 0)
    told = []
    for n in (1, 2):
        monkeypatch.setattr(processes, "available", lambda n=n: n)
        with pytest.raises(UserError, match=r"1\.txt:51: ") as error:
            prepare(text_source(shards), tmp_path / "cache")
        told.append(str(error.value))
        assert not list((tmp_path / "cache").iterdir())
    assert told[0] == told[1]


def test_a_small_text_starts_no_process(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "ordered_map", None)
    assert prepare(text_source(shards), tmp_path / "cache").n_tokens > 0
