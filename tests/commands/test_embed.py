"""``elmo embed`` and ``elmo tokens``: what they write, what they refuse, and a kill in the middle."""

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.filesystems import contents, small_disk
from tests.scoring.models import FULL, WORDS, pretrained, reference, saved, sentences

ROOT = Path(__file__).resolve().parents[2]
LINES = [" ".join(sentence) for sentence in sentences(12)]
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pretrained directory, and the independent implementation of its model."""
    made = replace(pretrained(**FULL), step=1)  # its training is known, and so how its text was cut
    return saved(tmp_path_factory.mktemp("model") / "small", made), reference(made)[0]


@pytest.fixture(autouse=True)
def text(folder):
    """Two shards of text."""
    for name, lines in (("a.txt", LINES[:5]), ("b.txt", LINES[5:])):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def check(path, numpy_model, lines=LINES):
    """That a dump holds the layers of every line."""
    with h5py.File(path) as file:
        assert sorted(file, key=int) == [str(i) for i in range(len(lines))]
        for i, line in enumerate(lines):
            [layers], _ = numpy_model([line.split()])
            np.testing.assert_allclose(file[str(i)][...], layers[:, 1:-1], **TOLERANCE)


def test_all_shards_with_their_lines_numbered_through(elmo, model):
    status, out, _ = elmo("embed", model[0], "*.txt", "out.hdf5")
    assert (status, out) == (0, f"out.hdf5: 12 lines, 12 sentences, {sum(map(len, map(str.split, LINES)))} tokens\n")
    check("out.hdf5", model[1])
    assert elmo("embed", model[0], "b.txt", "out.hdf5", "--overwrite", "--layers", "top", "--dtype", "float16")[0] == 0
    with h5py.File("out.hdf5") as file:
        assert (len(file), file["0"].dtype, file["0"].ndim) == (7, np.float16, 2)


def test_text_for_a_model_from_elsewhere_is_cut_as_is_asked(elmo, folder):
    model = saved(folder / "theirs", pretrained(**FULL))
    (folder / "raw.txt").write_text("One. Two, three.\n")
    assert elmo("embed", model, "raw.txt", "out.hdf5", "--tokenizer", "unicode", "--sentences", "unicode")[0] == 0
    with h5py.File("out.hdf5") as file:
        assert [file[f"0/{n}"].shape[1] for n in range(2)] == [2, 4]


def test_standard_input(model, folder):
    command = [sys.executable, "-m", "elmo_jax.cli", "embed", model[0], "-", "out.hdf5"]
    subprocess.run(command, input="\n".join(LINES).encode(), check=True, capture_output=True, env=environment())
    check(folder / "out.hdf5", model[1])


def environment():
    """Of a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_a_killed_process_is_gone_on_with(elmo, model, folder):
    """A real SIGKILL, while it commits after every line."""
    many = LINES * 100
    (folder / "many.txt").write_text("".join(f"{line}\n" for line in many), encoding="utf-8")
    program = (
        "import sys; from elmo_jax import cli; from elmo_jax.embed import dump; dump.COMMIT_SECONDS = 0.0; "
        "cli.main(sys.argv[1:])"
    )
    command = [sys.executable, "-c", program, "embed", model[0], "many.txt", "out.hdf5"]
    journal = folder / "out.hdf5.journal"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    deadline = time.monotonic() + 120
    while not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "out.hdf5").exists()
    status, out, err = elmo("embed", model[0], "many.txt", "out.hdf5")
    assert status == 0, err
    resumed = int(out.split("of which ")[1].split()[0].replace(",", ""))
    assert 1 <= resumed < len(many)
    check("out.hdf5", model[1], many)
    assert not [path for path in folder.iterdir() if path.name.startswith("out.hdf5.")]


def test_a_full_disk(elmo, model, folder):
    (folder / "many.txt").write_text("".join(f"{line}\n" for line in LINES * 100), encoding="utf-8")
    with small_disk(folder / "disk", "1m"):
        (folder / "disk" / "filler").write_bytes(b"x" * 700_000)
        status, out, err = elmo("embed", model[0], "many.txt", "disk/out.hdf5")
        assert (status, out) == (2, "")
        assert err.startswith("elmo: cannot write disk/out.hdf5: No space left on device; make room or choose another")
        assert list(contents(folder / "disk")) == ["filler"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "a.txt", "out.hdf5"], "there is no nowhere: give a run"),
        (["MODEL", "nothing.txt", "out.hdf5"], "no text file matches 'nothing.txt': check the path"),
        (["MODEL", "a.txt", "b.txt"], "b.txt exists already: name another file, or replace it with --overwrite"),
        (["MODEL", "a.txt", "out.hdf5", "--layers", "3"], "layers is 3: use 'all', 'top', 'average'"),
        (["MODEL", "a.txt", "out.hdf5", "--layers", "first"], "--layers is 'first': use all, top, average, mix, or"),
        (["MODEL", "a.txt", "out.hdf5", "--layers", "mix"], " has no learnt mixture of layers"),
        (["MODEL", "a.txt", "out.hdf5", "--mix", "1,2"], "the mixture has 2 weights: the model has 3 layers"),
        (
            ["MODEL", "a.txt", "out.hdf5", "--mix", "1,x,2"],
            "--mix is '1,x,2' with gamma 1.0: numbers separated by commas",
        ),
        (
            ["MODEL", "a.txt", "out.hdf5", "--mix", "1,nan,2"],
            "--mix is '1,nan,2' with gamma 1.0: numbers separated by commas",
        ),
        (["MODEL", "a.txt", "out.hdf5", "--gamma", "2"], "--gamma belongs to --mix"),
        (["MODEL", "a.txt", "out.hdf5", "--layers", "top", "--mix", "1,2,3"], "--layers top and --mix are two wishes"),
        (["MODEL", "a.txt", "out.hdf5", "--tokenizer", "moses"], "--tokenizer is 'moses', and the model was trained"),
        (["MODEL", "bad.txt", "out.hdf5"], "bad.txt:2: invalid UTF-8 at byte 6 of the file"),
        (["MODEL", "marks.txt", "out.hdf5"], "marks.txt:1: the token <S> is the mark of a sentence boundary"),
    ],
)
def test_mistakes_are_one_line(mistake, model, folder, arguments, message):
    (folder / "bad.txt").write_bytes(b"w1 w2\n\xff\n")
    (folder / "marks.txt").write_bytes(b"w1 <S> w2\n")
    assert message in mistake("embed", *(model[0] if word == "MODEL" else word for word in arguments))


def test_tokens(elmo, model, folder):
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in WORDS), encoding="utf-8")
    status, out, _ = elmo("tokens", model[0], "words.txt", "out.hdf5")
    assert (status, out) == (0, "out.hdf5: 30 words, 6 numbers each\n")
    wanted = [model[1].token_encoding(word) for word in WORDS]
    with h5py.File("out.hdf5") as file:
        np.testing.assert_allclose(file["embedding"][...], wanted, **TOLERANCE)
    (folder / "some.txt").write_text("w1\nother\n")
    status, out, _ = elmo("tokens", model[0], "some.txt", "some.hdf5")
    assert status == 0
    assert "note: <S> and </S> not in the list" in out
    assert elmo("tokens", model[0], "some.txt", "some.txt.vectors", "--format", "text")[0] == 0
    found = np.loadtxt(io.StringIO((folder / "some.txt.vectors").read_text()), dtype=str)
    assert found[:, 0].tolist() == ["w1", "other"]
    np.testing.assert_allclose(found[0, 1:].astype(float), wanted[WORDS.index("w1")], **TOLERANCE)


@pytest.mark.parametrize(
    ("words", "message"),
    [("w1\n\nw2\n", "words.txt: empty at line 2"), ("w1\nw1\n", "words.txt:2: 'w1' is already at line 1")],
)
def test_lists_that_are_none(mistake, model, folder, words, message):
    (folder / "words.txt").write_text(words)
    assert message in mistake("tokens", model[0], "words.txt", "out.hdf5")
