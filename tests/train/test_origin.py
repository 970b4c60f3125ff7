"""Starting from, and evaluating, a model in the files of another program."""

import json
from pathlib import Path

import numpy as np
import pytest

from elmo_jax import checkpoint, cli
from elmo_jax.config import LSTM, Softmax
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.train.inputs import gather
from elmo_jax.train.origin import Origin
from elmo_jax.train.pretrain import pretrain
from tests.interop.test_bilm_tf import VOCABULARY, assert_same_tree, parameter_tree
from tests.train.small import changed, config

FULL = {"softmax": Softmax("full")}


@pytest.fixture
def run(tmp_path):
    """A run of one step, which goes nowhere, from the files of a model."""
    return config(
        tmp_path,
        init_from=str(tmp_path / "files"),
        model={"dropout": 0.0, **FULL},
        train={"n_steps": 1},
        optimizer={"learning_rate": 1e-12},
        evaluation={"max_tokens": 50},
    )


@pytest.fixture
def files(run) -> Path:
    """Those files, with random weights."""
    bilm_tf.export(Path(run.init_from), parameter_tree(run), run, VOCABULARY)
    return Path(run.init_from)


def other_model(run, **changes):
    return changed(run, model={**FULL, **changes})


def said(run) -> str:
    with pytest.raises(UserError) as caught:
        gather(run, progress=False)
    return str(caught.value)


def test_weights_and_words_are_those_of_the_files(run, files):
    inputs = gather(run, progress=False)
    assert inputs.vocabulary.words == VOCABULARY.words
    params, origin = Origin(run.init_from).weights({"softmax": None})
    assert_same_tree(params, parameter_tree(run))
    assert origin == run.init_from


def test_full_and_sampled_have_the_same_weights(run, files):
    gather(other_model(run, softmax=Softmax("sampled", n_negative_samples_batch=4)), progress=False)


def test_a_softmax_that_is_missing_starts_at_random_with_the_words_of_the_text(run, files, capsys):
    (files / "softmax_weights.hdf5").unlink()
    (files / "vocab.txt").write_text("words\nof\nold\n")
    c = other_model(run, softmax=Softmax("adaptive"))
    assert pretrain(c) == 0
    assert f"{files}; its softmax, which it lacks, at random" in capsys.readouterr().out
    _, ours, _ = checkpoint.restore_params(Path(c.run_dir) / "checkpoints")
    theirs = parameter_tree(run)
    np.testing.assert_allclose(ours["encoder"]["char_embed"], theirs["encoder"]["char_embed"], atol=1e-9)
    np.testing.assert_allclose(ours["lstm_1"]["projection"], theirs["lstm_1"]["projection"], atol=1e-9)
    assert len(Vocabulary.load(Path(c.run_dir) / "vocab.txt")) == 33


def test_another_architecture(run, files):
    assert said(other_model(run, lstm=LSTM(dim=9, projection_dim=6))) == (
        f"config.init_from {files} has model.lstm.dim = 8, but this run has 9; weights fit only the same architecture: "
        "use --config.model.lstm.dim=8"
    )


def test_another_kind_of_softmax(run, files):
    adaptive = Softmax("adaptive", cutoffs=(4,))
    assert "has model.softmax.kind = 'full', but this run has 'adaptive'" in said(other_model(run, softmax=adaptive))


def test_another_vocabulary(run, files, tmp_path):
    Vocabulary([*VOCABULARY.words, "more"]).save(tmp_path / "other.txt")
    assert said(changed(run, data={"vocabulary": str(tmp_path / "other.txt")})).startswith(
        f"config.init_from {files} has another vocabulary than this run; leave config.data.vocabulary empty"
    )


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(map(str, arguments)))
    assert stopped.value.code == 0


def test_an_import_is_a_model_for_every_command(run, files, tmp_path, capsys):
    command("import", files, tmp_path / "imported")
    assert "1 highway, 2 LSTM layers of 8 / 6, forward and backward" in capsys.readouterr().out
    command("export", tmp_path / "imported", tmp_path / "again")
    for file in files.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    capsys.readouterr()
    found = []
    for model in (files, tmp_path / "imported"):
        command("eval", model, "--text", tmp_path / "heldout.txt", "--json", "--stateless")
        found.append(json.loads(capsys.readouterr().out))
        assert found[-1].pop("run") == str(model)
    assert found[0] == found[1]
    assert found[0]["step"] is None
