"""A run directory is begun only where nothing is lost, and continued only by a command that would learn the same."""

import dataclasses
from pathlib import Path

import pytest

from elmo_jax.config import Config, Data, get_path, leaves
from elmo_jax.config_io import override, to_json
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.train.run_directory import CHANGEABLE, RunDirectory, differences
from tests.filesystems import contents, fill, small_disk

VOCABULARY = Vocabulary(["<S>", "</S>", "<UNK>", "the", "cat"], [9, 9, 0, 5, 4])
CONFIG = Config(data=Data(train="corpus/*.txt", heldout="heldout.txt"))


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "runs" / "a")


def message_of(function, *arguments) -> str:
    """What the UserError says that the call raises: one line."""
    with pytest.raises(UserError) as raised:
        function(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def trained(run):
    """Make it a run that has a checkpoint."""
    run.create(CONFIG, VOCABULARY)
    (run.checkpoints / "1000").mkdir(parents=True)


# A new run


def test_a_new_run_is_there_as_a_whole(run):
    run.check_free()
    assert not run.exists
    assert not run.path.exists()
    run.create(CONFIG, VOCABULARY)
    assert run.exists
    assert set(contents(run.path)) == {"config.json", "vocab.txt", "vocab.counts.txt"}
    assert run.config() == CONFIG
    assert run.vocabulary().words == VOCABULARY.words
    assert run.vocabulary().counts.tolist() == VOCABULARY.counts.tolist()
    run.check_free()
    run.check_same(CONFIG)


def test_an_empty_directory_is_free(run):
    run.path.mkdir(parents=True)
    run.check_free()
    run.create(CONFIG, VOCABULARY)
    assert run.exists


def test_what_a_run_that_was_killed_at_its_beginning_left_is_free(run):
    VOCABULARY.save(run.vocabulary_file)
    for name in ("vocab.txt.0a1b2c3d", "vocab.counts.txt.0a1b2c3d", "config.json.tmp"):
        (run.path / name).write_text("half of")
    run.check_free()
    run.create(CONFIG, VOCABULARY)
    assert run.config() == CONFIG


@pytest.mark.parametrize("stranger", ["thesis.tex", "checkpoints/", ".git/", "vocab.txt.bak", "my.tmp"])
def test_a_directory_with_strangers_is_refused(run, stranger):
    path = run.path / stranger
    path.mkdir(parents=True) if stranger.endswith("/") else (run.path.mkdir(parents=True), path.write_text("mine"))
    before = contents(run.path)
    assert message_of(run.check_free) == (
        f"{run.path} holds {path.name!r} but no config.json: it is not a run directory; "
        "choose another with --config.run_dir=..."
    )
    assert contents(run.path) == before


def test_a_vocabulary_made_by_hand_is_not_overwritten(run):
    Vocabulary(["<S>", "</S>", "<UNK>", "mine"]).save(run.vocabulary_file)
    before = contents(run.path)
    run.check_free()
    message = message_of(run.create, CONFIG, VOCABULARY)
    assert message.startswith(f"{run.vocabulary_file} is another vocabulary than that of this run")
    assert f"--config.data.vocabulary={run.vocabulary_file}" in message
    assert contents(run.path) == before


def test_a_file_in_place_of_the_directory_is_refused(run):
    run.path.parent.mkdir()
    run.path.write_text("mine")
    assert message_of(run.check_free) == f"{run.path} is a file: config.run_dir must name a directory"
    below = RunDirectory(run.path / "b")
    for refused in (message_of(below.check_free), message_of(below.create, CONFIG, VOCABULARY)):
        assert refused.startswith(f"cannot write the run directory {below.path}: ")
        assert refused.endswith("--config.run_dir=...")
    assert run.path.read_text() == "mine"


def test_a_relative_directory_is_free(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RunDirectory(Path("runs/new")).check_free()


# Disks


def test_a_read_only_disk_is_told_before_and_while_writing(tmp_path):
    with small_disk(tmp_path / "disk") as mount:
        begun = RunDirectory(tmp_path / "disk" / "begun")
        trained(begun)
        assert mount("remount", "ro")
        new = RunDirectory(tmp_path / "disk" / "new")
        assert message_of(new.check_free) == (
            f"cannot write the run directory {new.path}: {tmp_path / 'disk'} is not writable; "
            "choose another with --config.run_dir=..."
        )
        assert message_of(new.create, CONFIG, VOCABULARY) == (
            f"cannot write the run directory {new.path}: Read-only file system; "
            "free space there or choose another with --config.run_dir=..."
        )
        begun.create(CONFIG, VOCABULARY)
        message = message_of(begun.create, override(CONFIG, "train.n_steps", "9"), VOCABULARY)
        assert message.startswith(f"cannot write the run directory {begun.path}: Read-only file system; ")
        assert begun.config() == CONFIG


def test_a_full_disk_leaves_no_half_written_file_and_no_run(tmp_path):
    with small_disk(tmp_path / "disk", "64k"):
        run = RunDirectory(tmp_path / "disk" / "run")
        trained(run)
        before = contents(run.path)
        fill(tmp_path / "disk")
        changed = override(CONFIG, "data.train", "corpus/*.txt," * 1000)
        message = message_of(run.create, changed, VOCABULARY)
        assert message.startswith(f"cannot write the run directory {run.path}: No space left on device; free space")
        assert contents(run.path) == before
        new = RunDirectory(tmp_path / "disk" / "new")
        assert "No space left on device" in message_of(new.create, CONFIG, VOCABULARY)
        assert not new.exists
        assert not [name for name in contents(tmp_path / "disk") if name.startswith("new/")]


# Continuing a run


def test_a_run_that_has_learnt_nothing_begins_anew_under_any_configuration(run):
    """After a first attempt that failed, because memory was short for instance, the mended command just works."""
    run.create(CONFIG, VOCABULARY)
    (run.checkpoints / "1000.orbax-checkpoint-tmp").mkdir(parents=True)
    assert not run.has_checkpoint
    changed = override(CONFIG, "train.batch_size", "64")
    run.check_same(changed)
    run.create(changed, Vocabulary(["<S>", "</S>", "<UNK>", "other"]))
    assert run.config() == changed
    assert run.vocabulary().words[3:] == ["other"]
    assert set(contents(run.path)) == {
        "config.json",
        "vocab.txt",
        "checkpoints",
        "checkpoints/1000.orbax-checkpoint-tmp",
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("run_dir", "runs/moved"),
        ("init_from", "runs/other"),
        ("train.n_steps", "100"),
        ("train.n_epochs", "20"),
        ("parallel.mode", "pmap"),
        ("evaluation.every_steps", "7"),
        ("evaluation.patience", "7"),
        ("train.gradient_accumulation", "2"),
        ("train.recompute_gates", "true"),
        ("checkpoint.keep", "9"),
        ("log_every_steps", "1"),
        ("watch.tensorboard", "true"),
        ("debug", "true"),
        ("data.tfds.data_dir", "/elsewhere"),
        ("data.train", "elsewhere/*.txt"),
        ("data.heldout", "valid.txt"),
        ("data.vocabulary", "vocab.txt"),
        ("data.cache_dir", "/cache"),
    ],
)
def test_what_does_not_decide_what_is_learnt_may_change_and_is_kept(run, path, value):
    trained(run)
    changed = override(CONFIG, path, value)
    run.check_same(changed)
    before = run.vocabulary_file.read_bytes()
    run.create(changed, Vocabulary(["<S>", "</S>", "<UNK>", "other"]))
    assert run.config() == changed
    assert run.vocabulary_file.read_bytes() == before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("model.lstm.dim", "1024"),
        ("model.char_cnn.filters", "((1, 8),)"),
        ("model.softmax.cutoffs", "(3, 4)"),
        ("model.lstm.cell_clip", "none"),
        ("model.dropout", "0"),
        ("model.compute_dtype", "bfloat16"),
        ("data.source", "pydoc"),
        ("data.unit", "document"),
        ("data.min_count", "2"),
        ("train.batch_size", "256"),
        ("train.unroll_steps", "5"),
        ("train.state", "sentence"),
        ("evaluation.streams", "0"),
        ("evaluation.max_tokens", "7"),
        ("train.seed", "1"),
        ("optimizer.learning_rate", "0.1"),
        ("optimizer.loss_scale", "1"),
        ("optimizer.ema_decay", "0.9"),
        ("model.dropout_places", "('input',)"),
        ("model.dropout_mask", "window"),
    ],
)
def test_what_decides_what_is_learnt_must_be_the_same(run, path, text):
    trained(run)
    before = contents(run.path)
    changed = override(CONFIG, path, text)
    assert message_of(run.check_same, changed) == (
        f"{run.path} belongs to a run with config.{path} = {get_path(CONFIG, path)!r}, but this command has "
        f"{get_path(changed, path)!r}; give the same value to continue it, or another --config.run_dir to start anew"
    )
    assert contents(run.path) == before


def test_what_may_change_are_fields_of_the_configuration():
    paths = [path for path, _ in leaves(CONFIG)]
    assert all(any(path == name or path.startswith(name + ".") for path in paths) for name in CHANGEABLE)


def test_differences_are_the_leaves_in_which_two_configurations_differ():
    assert differences(CONFIG, CONFIG) == []
    other = CONFIG
    for path, text in (("train.seed", "3"), ("run_dir", "b"), ("model.softmax.cutoffs", "(1, 2)")):
        other = override(other, path, text)
    assert sorted(differences(CONFIG, other)) == [
        ("model.softmax.cutoffs", (), (1, 2)),
        ("run_dir", "runs/elmo", "b"),
        ("train.seed", 0, 3),
    ]
    assert differences(CONFIG.train, dataclasses.replace(CONFIG.train, seed=1)) == [("seed", 0, 1)]


# A damaged run


def test_a_run_without_its_vocabulary_is_refused(run):
    run.create(CONFIG, VOCABULARY)
    run.vocabulary_file.unlink()
    assert message_of(run.vocabulary) == (
        f"{run.vocabulary_file} is missing; put a copy back, or start a new run directory"
    )


@pytest.mark.parametrize("text", ["", "{", to_json(CONFIG)[:-40]])
def test_a_run_with_a_torn_configuration_is_refused(run, text):
    trained(run)
    run.config_file.write_text(text)
    run.check_free()
    for refused in (message_of(run.config), message_of(run.check_same, CONFIG)):
        assert refused.startswith(f"{run.config_file} is not valid JSON (")
        assert refused.endswith("; restore it or start a new run directory")
