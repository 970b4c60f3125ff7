"""`--beam` of `elmo vocab` and `elmo encode`: what it says, and what it does not take."""

import sys

import pytest

from tests.data.beam.conftest import IN_THIS_PROCESS
from tests.filesystems import contents

TEXT = "the cat sat on the mat\r\n\nthe\u2003end"
BEAM = f"--beam={IN_THIS_PROCESS}"


@pytest.fixture(autouse=True)
def shards(folder):
    (folder / "a.txt").write_text(TEXT, encoding="utf-8", newline="")
    (folder / "b.txt").write_text(TEXT[::-1], encoding="utf-8", newline="")


@pytest.mark.parametrize("command", [("vocab", "--output", "v.txt"), ("encode", "--output", "encoded")])
def test_a_missing_package_is_one_line(mistake, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setitem(sys.modules, "apache_beam.io.filesystems", None)
    said = mistake(*command, "--text", "*.txt", "--beam")
    assert said.startswith("--beam takes Apache Beam (")
    assert said.endswith("): pip install 'elmo-jax[beam]'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("vocab", "--beam", "--text", "a.txt", "--output", "v.txt", "--report", "r"), "--report takes encoded text"),
        (("vocab", "--beam", "--text", "a.txt", "--output", "v.txt", "--cache-dir", "c"), "--cache-dir takes encoded"),
        (("encode", "--beam", "--tfds", "lm1b", "--split", "train", "--output", "e"), "--beam reads --text; --tfds is"),
        (
            ("encode", "--text", "a.txt, gs://b/*", "--output", "e"),
            "a pipeline reads gs://...: give --beam, see --help",
        ),
        (
            ("vocab", "--text", "hdfs://b/*", "--output", "v.txt"),
            "a pipeline reads hdfs://...: give --beam, see --help",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(mistake, arguments, said):
    assert said in mistake(*arguments)


def test_vocab_says_and_writes_the_same(elmo, folder):
    pytest.importorskip("apache_beam", reason="Apache Beam is absent: pip install 'elmo-jax[beam]'")
    command = ("vocab", "--text", "*.txt", "--min-count", "2")
    _, out, _ = elmo(*command, "--output", "plain/v.txt")
    assert elmo(*command, "--output", "beam/v.txt", BEAM)[:2] == (
        0,
        out.splitlines()[0].replace("plain", "beam") + "\n",
    )
    assert contents(folder / "beam") == contents(folder / "plain")
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt", "beam", "plain"}


def test_encode_says_and_writes_the_same_and_reports(elmo, folder):
    pytest.importorskip("apache_beam", reason="Apache Beam is absent: pip install 'elmo-jax[beam]'")
    status, out, _ = elmo("encode", "--text", "*.txt", "--output", "plain", "--report", "plain.json")
    assert elmo("encode", "--text", "*.txt", "--output", "beam", "--report", "beam.json", BEAM)[:2] == (
        status,
        out.replace("plain", "beam", 1),
    )
    assert contents(folder / "beam") == contents(folder / "plain")
    assert (folder / "beam.json").read_text() == (folder / "plain.json").read_text()
