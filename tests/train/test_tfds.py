"""Training, vocabularies and evaluation on splits of TensorFlow Datasets: what they give on the same text in files."""

import json
import logging
import re
import signal
from pathlib import Path

import pytest

from elmo_jax import checkpoint, cli
from elmo_jax.checkpoint_files import read_meta
from elmo_jax.config import TFDS, Softmax
from elmo_jax.data.lm1b import prepare_lm1b
from elmo_jax.train.inputs import gather
from elmo_jax.train.pretrain import pretrain
from elmo_jax.train.report import TrainingReport
from tests.builders import lm1b_files, prepare_builder, write_files
from tests.train.small import changed, config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A complete run on text, and the same text as the builder ``lm1b``."""
    folder = tmp_path_factory.mktemp("tfds")
    c = config(folder)
    assert pretrain(c) == 0
    (folder / "run").rename(folder / "text")
    train, heldout = ((folder / f"{name}.txt").read_text().splitlines() for name in ("train", "heldout"))
    prepare_lm1b(write_files(folder / "files", lm1b_files([train], [heldout])), str(folder / "builders"))
    return folder


def on_tfds(folder: Path, run_dir: Path, **tfds):
    data = {"source": "tfds", "train": "", "heldout": "", "tfds": TFDS(**{"data_dir": f"{folder}/builders", **tfds})}
    return config(folder, data=data, run_dir=str(run_dir))


def result(run: Path):
    """Everything a run has learnt and read, and its metrics without times."""
    _, _, meta = checkpoint.restore_params(run / "checkpoints", step=12)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    untimed = [{k: v for k, v in line.items() if not k.startswith(("time", "speed/"))} for line in lines]
    return read_meta(run / "checkpoints", 12)["leaves"], meta, untimed


def test_a_run_stopped_and_resumed_equals_the_one_on_text(folder, tmp_path, monkeypatch):
    c = on_tfds(folder, tmp_path / "run")

    def stop(self, step, metrics, plain=TrainingReport.__call__):
        plain(self, step, metrics)
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingReport, "__call__", stop)
        assert pretrain(c) == 143
    assert pretrain(c) == 0
    assert result(tmp_path / "run") == result(folder / "text")
    assert (tmp_path / "run/vocab.txt").read_text() == (folder / "text/vocab.txt").read_text()


def elmo(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(map(str, arguments)))
    return stopped.value.code, *capsys.readouterr()


def test_vocab_encode_and_eval_give_what_they_give_on_text(folder, tmp_path, capsys):
    text = ["--text", folder / "heldout.txt"]
    tfds = ["--tfds", "lm1b", "--split", "test", "--data-dir", folder / "builders"]
    for name, source in (("text", text), ("tfds", tfds)):
        assert elmo(capsys, "vocab", *source, "--output", tmp_path / f"{name}.txt")[0] == 0
    assert (tmp_path / "tfds.txt").read_text() == (tmp_path / "text.txt").read_text()
    assert (tmp_path / "tfds.counts.txt").read_text() == (tmp_path / "text.counts.txt").read_text()
    said = [elmo(capsys, "encode", *source, "--output", tmp_path / "encoded")[1] for source in (text, tfds)]
    assert re.search(r": .*", said[0])[0] == re.search(r": .*", said[1])[0]
    run = [folder / "text", "--cache-dir", tmp_path / "encoded", "--json"]
    scores = [json.loads(elmo(capsys, "eval", *run, *source)[1]) for source in (text, tfds)]
    assert [score.pop("text") for score in scores] == [str(folder / "heldout.txt"), "lm1b, test"]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tfds", "lm1b"], "--tfds lm1b needs a split, such as --split train"),
        (["--text", "a.txt", "--tfds", "lm1b"], "argument --tfds: not allowed with argument --text"),
        (["--text", "a.txt", "--split", "train"], "--split belongs to --tfds; --text does not take it"),
        (["--text", "a.txt", "--data-dir", "x"], "--data-dir belongs to --tfds; --text does not take it"),
        ([], "one of the arguments --text --tfds is required"),
        (["--tfds", "lm1b", "--split", "train", "--data-dir", "none"], "lm1b is not prepared in none: download http"),
    ],
)
@pytest.mark.parametrize("command", [["vocab", "--output", "v.txt"], ["encode", "--output", "encoded"]])
def test_arguments_that_do_not_fit_are_refused(tmp_path, monkeypatch, capsys, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = elmo(capsys, *command, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"elmo: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_prepare_lm1b_says_what_it_made(folder, tmp_path, capsys):
    status, out, _ = elmo(capsys, "prepare-lm1b", folder / "files", "--data-dir", tmp_path)
    assert (status, out) == (0, f"{tmp_path}/lm1b/1.1.0: 200 sentences of train, 30 sentences of test\n")
    status, out, err = elmo(capsys, "prepare-lm1b", folder / "files", "--data-dir", tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"elmo: {tmp_path}/lm1b/1.1.0 exists already")


@pytest.mark.parametrize(
    ("splits", "n"), [({"heldout": "train"}, 200), ({"train": "train[:60%]", "heldout": "train[50%:]"}, 20)]
)
def test_text_that_is_trained_and_held_out_is_told(folder, tmp_path, caplog, splits, n):
    c = on_tfds(folder, tmp_path / "run", **splits)
    with caplog.at_level(logging.WARNING, "elmo_jax"):
        gather(c, progress=False)
    assert caplog.messages == [
        f"lm1b {c.data.tfds.heldout!r} ({n} records of it) is both training and held-out text: its perplexity tells "
        "nothing of new text"
    ]


@pytest.mark.parametrize("heldout", ["", "train[50%:]"])
def test_parts_of_a_split_are_different_texts(folder, tmp_path, caplog, heldout):
    with caplog.at_level(logging.WARNING, "elmo_jax"):
        inputs = gather(on_tfds(folder, tmp_path / "run", train="train[:50%]", heldout=heldout), progress=False)
    assert not caplog.messages
    assert inputs.corpus.n_sentences == 100
    assert (inputs.heldout.n_sentences if heldout else inputs.heldout) == (100 if heldout else None)


def test_the_feature_of_the_configuration_is_read(tmp_path):
    def features(tfds):
        return {"title": tfds.features.Text(), "body": tfds.features.Text()}

    stories = [{"title": f"t{n}", "body": "one two\nthree"} for n in range(20)]
    prepare_builder(tmp_path / "builders", {"train": stories}, features, name="stories")
    c = on_tfds(tmp_path, tmp_path / "run", name="stories", feature="body", heldout="")
    corpus = gather(changed(c, model={"softmax": Softmax("full")}), progress=False).corpus
    assert sorted(corpus.words())[2:] == ["one", "three", "two"]
    assert (corpus.n_documents, corpus.n_sentences) == (20, 40)
