"""Whole runs: what is resumed equals what was never stopped; what is learnt is what there is to learn."""

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import elmo_jax
from elmo_jax import checkpoint, cli
from elmo_jax.checkpoint_files import read_meta
from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Data, Evaluation, Model, Optimizer, Softmax, Train
from elmo_jax.errors import BusyError, UserError
from elmo_jax.train import run_lock
from elmo_jax.train.pretrain import pretrain
from elmo_jax.train.report import TrainingReport
from tests.filesystems import contents, fill, small_disk
from tests.shared import shared
from tests.train.small import MODEL, changed, config
from tests.train.stopping import stop_at


def result(run_dir):
    """Everything a run has learnt and read: parameters, optimiser, carry, position (as digests) and its metrics."""
    folder = Path(run_dir)
    step, _, meta = checkpoint.restore_params(folder / "checkpoints", step=12)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    untimed = [{k: v for k, v in line.items() if not k.startswith(("time", "speed/"))} for line in lines]
    return step, read_meta(folder / "checkpoints", 12)["leaves"], meta, untimed


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    c = config(tmp_path_factory.mktemp("unbroken"))
    assert pretrain(c) == 0
    return c, result(c.run_dir)


def elsewhere(unbroken, tmp_path, **changes):
    """The configuration of the unbroken run, on the same text, in another directory."""
    return changed(unbroken[0], run_dir=str(tmp_path / "run"), **changes)


def test_the_run_directory_describes_the_run(unbroken):
    folder = Path(unbroken[0].run_dir)
    assert {
        "config.json",
        "vocab.txt",
        "vocab.counts.txt",
        "vocab.tokenizer.txt",
        "checkpoints",
        "metrics.jsonl",
        "export",
        "summary.json",
    } == {path.name for path in folder.iterdir()}
    assert {p.name for p in (folder / "export").iterdir()} == {"weights.hdf5", "options.json", "vocab.txt"}
    lines = unbroken[1][3]
    assert [line["step"] for line in lines if "train/loss" in line] == [3, 6, 9, 12]
    assert [line["step"] for line in lines if "eval/perplexity" in line] == [6, 12]
    assert lines[0]["train/tokens"] == 3 * 8 * 5


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal_and_resumed_equals_never_stopped(unbroken, tmp_path, monkeypatch, capsys, number, status):
    c = elsewhere(unbroken, tmp_path)
    with monkeypatch.context() as patched:
        stop_at(patched, 5, number)
        assert pretrain(c) == status
    assert "the same command goes on" in capsys.readouterr().out
    assert pretrain(c) == 0
    assert result(c.run_dir) == unbroken[1]


class Killed(BaseException):
    pass


def train_and_die(monkeypatch, c):
    """Train until step 11 is reported, and leave nothing that was not saved before."""

    def die(self, step, metrics, plain=TrainingReport.__call__):
        plain(self, step, metrics)
        if step == 11:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(TrainingReport, "__call__", die)
        with pytest.raises(Killed):
            pretrain(c)


def test_killed_between_checkpoints_and_resumed_equals_never_stopped(unbroken, tmp_path, monkeypatch):
    c = elsewhere(unbroken, tmp_path)
    train_and_die(monkeypatch, c)
    assert pretrain(c) == 0
    assert result(c.run_dir) == unbroken[1]


# Kinds of models and windows, with sizes that nobody would choose.
KINDS = {
    "words, shared table, P = C, three layers": (
        {
            "input": "words",
            "share_embedding_softmax": True,
            "softmax": Softmax("sampled", n_negative_samples_batch=9),
            "lstm": LSTM(dim=6, projection_dim=6, n_layers=3, use_skip_connections=False),
        },
        {"unroll_steps": 7},
    ),
    "forward only, windows of one token": (
        {
            "bidirectional": False,
            "char_cnn": {"max_characters_per_token": 70, "n_highway": 0},
            "lstm": LSTM(dim=7, projection_dim=5, n_layers=1, cell_clip=None),
        },
        {"unroll_steps": 1},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_model_resumes_as_if_never_stopped_and_names_the_directions_it_has(
    kind, tmp_path, monkeypatch, capsys
):
    model, train = KINDS[kind]
    model = changed(MODEL, **model)
    whole = config(tmp_path, model=model, train=train)
    broken = changed(whole, run_dir=str(tmp_path / "broken"))
    assert pretrain(whole) == 0
    train_and_die(monkeypatch, broken)
    assert pretrain(broken) == 0
    assert result(broken.run_dir) == result(whole.run_dir)

    said, run = capsys.readouterr().out, Path(whole.run_dir)
    assert command("eval", run, "--text", whole.data.heldout, "--streams", 4) == 0
    said += capsys.readouterr().out
    written = "".join((run / name).read_text() for name in ("metrics.jsonl", "summary.json"))
    for text in (said, written):
        assert "perplexity" in text
        assert ("backward" in text) == model.bidirectional
    assert contents(run / "export")["weights.hdf5"] == contents(Path(broken.run_dir) / "export")["weights.hdf5"]


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(unbroken, tmp_path, monkeypatch, caplog):
    c = elsewhere(unbroken, tmp_path)
    with monkeypatch.context() as patched:
        stop_at(patched, 9)
        assert pretrain(c) == 143
    checkpoints = Path(c.run_dir) / "checkpoints"
    newest = max(int(p.name) for p in checkpoints.iterdir())
    shutil.rmtree(checkpoints / str(newest) / "state")
    with caplog.at_level(logging.WARNING, "elmo_jax"):
        assert pretrain(c) == 0
    assert f"checkpoint {newest} in {checkpoints} is damaged" in caplog.text
    assert result(c.run_dir) == unbroken[1]


def test_a_full_disk_is_one_clear_error_and_once_there_is_room_the_run_goes_on(unbroken, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", "8m"):
        c = changed(unbroken[0], run_dir=str(tmp_path / "disk" / "run"))
        with monkeypatch.context() as patched:
            stop_at(patched, 5)
            assert pretrain(c) == 143
        fill(tmp_path / "disk")
        with pytest.raises(UserError, match=r"could not be saved in .*No space left.* 6, is intact"):
            pretrain(c)
        (tmp_path / "disk" / "filler").unlink()
        assert pretrain(c) == 0
        assert result(c.run_dir) == unbroken[1]


def test_raising_the_number_of_steps_trains_a_finished_run_longer(unbroken, tmp_path):
    short = elsewhere(unbroken, tmp_path, train={"n_steps": 6})
    assert pretrain(short) == 0
    assert pretrain(elsewhere(unbroken, tmp_path)) == 0
    assert result(short.run_dir) == unbroken[1]


def test_fewer_steps_than_are_done_are_refused(unbroken):
    before = (Path(unbroken[0].run_dir) / "config.json").read_bytes()
    with pytest.raises(
        UserError, match=r"has done 12 steps, and this command asks for 5: raise --config.train.n_steps"
    ):
        pretrain(changed(unbroken[0], train={"n_steps": 5}))
    assert (Path(unbroken[0].run_dir) / "config.json").read_bytes() == before


def test_training_that_diverges_is_an_error_and_is_not_saved(unbroken, tmp_path):
    c = elsewhere(unbroken, tmp_path, optimizer={"learning_rate": 1e38})
    with pytest.raises(
        UserError, match=r"at step \d: training has diverged; start a new run with a lower --config.opt"
    ):
        pretrain(c)
    assert not any((Path(c.run_dir) / "checkpoints").iterdir())


def test_a_finished_run_is_left_as_it_is(unbroken):
    before = result(unbroken[0].run_dir)
    assert pretrain(unbroken[0]) == 0
    assert result(unbroken[0].run_dir) == before


def test_a_run_goes_on_the_same_with_gates_that_are_computed_again(unbroken, tmp_path, monkeypatch):
    c = elsewhere(unbroken, tmp_path)
    with monkeypatch.context() as patched:
        stop_at(patched, 5, signal.SIGTERM)
        assert pretrain(c) == 143
    assert pretrain(changed(c, train={"recompute_gates": True})) == 0
    last, wanted = result(c.run_dir)[3][-1], unbroken[1][3][-1]
    assert last["eval/perplexity"] == pytest.approx(wanted["eval/perplexity"], rel=1e-6)


def test_pmap_trains_as_shard_map_does(unbroken, tmp_path):
    c = elsewhere(unbroken, tmp_path, parallel={"mode": "pmap"})
    assert pretrain(c) == 0
    last, wanted = result(c.run_dir)[3][-1], unbroken[1][3][-1]
    assert last["eval/perplexity"] == pytest.approx(wanted["eval/perplexity"], rel=1e-4)


def test_debugging_changes_nothing_but_the_time(unbroken, tmp_path):
    c = elsewhere(unbroken, tmp_path, debug=True)
    assert pretrain(c) == 0
    assert result(c.run_dir) == unbroken[1]


def test_memory_that_runs_out_is_an_error_with_a_remedy(unbroken, tmp_path, monkeypatch):
    def full(self, step, metrics):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1024 bytes.")

    monkeypatch.setattr(TrainingReport, "__call__", full)
    with pytest.raises(UserError, match=r"^out of memory: Out of .*; lower --config.train.batch_size \(it is 8\)"):
        pretrain(elsewhere(unbroken, tmp_path))


def test_a_second_process_in_the_same_directory_is_refused_and_changes_nothing(unbroken):
    folder = Path(unbroken[0].run_dir)
    with run_lock.hold(folder):
        before = contents(folder)
        with pytest.raises(BusyError, match=rf"^{folder} is in use by process \d+ on "):
            pretrain(unbroken[0])
        assert contents(folder) == before


def test_init_from_starts_from_the_best_weights_of_another_run(unbroken, tmp_path):
    source = unbroken[0].run_dir
    c = elsewhere(
        unbroken,
        tmp_path,
        init_from=source,
        train={"n_steps": 1},
        optimizer={"learning_rate": 1e-12},
        model={"dropout": 0.0},
    )
    assert pretrain(c) == 0
    _, theirs, _ = checkpoint.restore_params(Path(source) / "checkpoints")
    _, ours, _ = checkpoint.restore_params(Path(c.run_dir) / "checkpoints")
    np.testing.assert_allclose(ours["lstm_1"]["input_kernel"], theirs["lstm_1"]["input_kernel"], atol=1e-9)
    np.testing.assert_allclose(ours["softmax"]["head_kernel"], theirs["softmax"]["head_kernel"], atol=1e-9)


def command(*arguments):
    """The exit status of ``elmo``."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(map(str, arguments)))
    return stopped.value.code


@pytest.mark.parametrize("how", [["--streams", 4], ["--stateless"]])
def test_elmo_eval_measures_what_the_run_did(unbroken, tmp_path, monkeypatch, capsys, how):
    monkeypatch.chdir(tmp_path)
    c = unbroken[0]
    assert command("eval", c.run_dir, "--text", c.data.heldout, "--json", *how) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = json.loads((Path(c.run_dir) / "summary.json").read_text())["heldout"][how == ["--stateless"]]
    assert {name: found[name] for name in wanted} == wanted
    assert found["step"] == 12
    assert not any(tmp_path.iterdir())
    assert command("eval", c.run_dir, "--text", c.data.heldout, *how) == 0
    assert f"perplexity     {wanted['perplexity']:.3f}" in capsys.readouterr().out


def test_elmo_export_writes_what_the_run_did_from_any_checkpoint(unbroken, tmp_path, capsys):
    run = Path(unbroken[0].run_dir)
    assert command("export", run, tmp_path / "best") == 0
    assert contents(tmp_path / "best") == contents(run / "export")
    assert command("export", run, tmp_path / "other", "--step", 8) == 0
    assert contents(tmp_path / "other")["weights.hdf5"] != contents(run / "export")["weights.hdf5"]
    assert command("export", run, tmp_path / "none", "--step", 7) == 2
    assert "no checkpoint 7" in capsys.readouterr().err


def test_a_pretrained_directory_of_a_run_is_the_run(unbroken, tmp_path, capsys):
    run = Path(unbroken[0].run_dir)
    assert command("export", run, tmp_path / "elmo", "--format", "pretrained", "--license", "mit") == 0
    ours, theirs = elmo_jax.from_pretrained(tmp_path / "elmo"), elmo_jax.from_pretrained(run)
    jax.tree.map(np.testing.assert_array_equal, ours.params, theirs.params)
    assert ours.step == theirs.step == 12
    assert ours.about == {**theirs.about, "license": "mit"}
    assert ours.about["tokens_seen"] == 480
    assert ours.about["heldout"] == json.loads((run / "summary.json").read_text())["heldout"]
    text = (tmp_path / "elmo" / "README.md").read_text()
    assert str(run.parent) not in text
    for result in ours.about["heldout"]:
        assert f"| {result['perplexity']:.2f} |" in text
    # And it measures the same as the run.
    text = unbroken[0].data.heldout
    assert command("eval", tmp_path / "elmo", "--text", text, "--stateless", "--json") == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["perplexity"] == ours.about["heldout"][1]["perplexity"]


def test_a_run_goes_on_only_with_its_own_text(unbroken, tmp_path, monkeypatch):
    c = config(tmp_path)
    with monkeypatch.context() as patched:
        stop_at(patched, 5)
        assert pretrain(c) == 143
    before = (Path(c.run_dir) / "config.json").read_bytes()
    text = Path(c.data.train)
    text.write_text(text.read_text() + "one more sentence\n")
    with pytest.raises(UserError, match=r"the training text of .* has changed since step"):
        pretrain(c)
    assert (Path(c.run_dir) / "config.json").read_bytes() == before


def learner(folder, text, heldout, **changes):
    """A run that is large enough to learn small text well."""
    base = Config(
        run_dir=str(folder / "run"),
        model=Model(
            char_cnn=CharCNN(embedding=CharEmbedding(8), filters=((1, 16), (2, 16), (3, 32)), n_highway=1),
            lstm=LSTM(dim=32, projection_dim=16),
            softmax=Softmax("full"),
            dropout=0.0,
        ),
        data=Data(train=str(text), heldout=str(heldout), cache_dir=str(folder / "encoded")),
        train=Train(batch_size=16, unroll_steps=10),
        optimizer=Optimizer("adamw", learning_rate=0.01, schedule="cosine", warmup_steps=20, loss_scale=1.0),
        evaluation=Evaluation(every_steps=10_000),
    )
    return changed(base, **changes)


def heldout_perplexity(c):
    assert pretrain(c) == 0
    summary = json.loads((Path(c.run_dir) / "summary.json").read_text())
    return {entry["state"]: entry for entry in summary["heldout"]}


@pytest.mark.parametrize(
    "softmax", [["kind=adaptive", "cutoffs=(8,16)"], ["kind=sampled", "n_negative_samples_batch=16"]]
)
def test_a_model_of_five_lines_reaches_a_perplexity_under_twenty(tmp_path, softmax):
    """bilm-tf's own test, through the command line: 50 epochs in two rows, then less than 20 on the same text."""
    folder = shared("fixtures/bilm_tf/train")
    fields = {
        "run_dir": tmp_path / "run",
        "data.train": folder / "data.txt",
        "data.heldout": folder / "data.txt",
        "data.vocabulary": folder / "vocab.txt",
        "model.char_cnn.filters": "((1,8),(2,8),(3,16))",
        "model.lstm.dim": 16,
        "model.lstm.projection_dim": 8,
        "train.batch_size": 2,
        "train.unroll_steps": 10,
        "train.n_epochs": 50,
        "optimizer.all_clip_norm_val": 1.0,
        **dict(f"model.softmax.{field}".split("=") for field in softmax),
    }
    arguments = [f"--config.{name}={value}" for name, value in fields.items()]
    one_device = {**os.environ, "XLA_FLAGS": ""}
    program = [sys.executable, str(Path(__file__).parents[2] / "train.py"), "--config", "elmo_tiny", *arguments]
    subprocess.run(program, check=True, env=one_device, stdout=subprocess.DEVNULL)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["heldout"][0]["perplexity"] < 20


def grammar(rng, sentences):
    """Sentences of a Markov chain over ten words, and the probability of each prediction that makes them up."""
    words = [f"{a}{b}" for a in ["ka", "lo", "mi", "ne", "su"] for b in ("", "r")]
    chain = np.random.default_rng(11).dirichlet(np.full(11, 0.25), size=11)  # the last state is the boundary
    chain[10, 10] = 0
    chain = 0.9 * chain / chain.sum(axis=1, keepdims=True)
    chain[:10, 10] += 0.1
    chain[10, :10] += 0.01
    chain[10, 10] = 0
    chain /= chain.sum(axis=1, keepdims=True)
    lines, log_prob, count = [], 0.0, 0
    while len(lines) < sentences:
        state, line = 10, []
        while True:
            following = rng.choice(11, p=chain[state])
            log_prob += math.log(chain[state, following])
            count += 1
            if following == 10:
                break
            line.append(words[following])
            state = following
        lines.append(" ".join(line))
    return lines, math.exp(-log_prob / count)


def test_a_grammar_of_known_entropy_is_learnt_to_within_five_per_cent(tmp_path):
    """The chain's own perplexity on the held-out text bounds that of any model, in both directions alike."""
    rng = np.random.default_rng(5)
    train, heldout = tmp_path / "train.txt", tmp_path / "heldout.txt"
    train.write_text("\n".join(grammar(rng, 6000)[0]) + "\n")
    lines, true = grammar(rng, 600)
    heldout.write_text("\n".join(lines) + "\n")
    found = heldout_perplexity(learner(tmp_path, train, heldout, train={"n_epochs": 4.0}))
    assert true > 2.5
    for state in ("carried", "stateless"):
        for direction in ("forward", "backward"):
            assert 0.97 * true < found[state][f"perplexity_{direction}"] < 1.05 * true
