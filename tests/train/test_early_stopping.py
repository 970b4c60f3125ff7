"""Training ends where brute force over its evaluations says, interrupted or not, and goes on when it is told to."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from elmo_jax import checkpoint
from elmo_jax.checkpoint_files import read_meta
from elmo_jax.train.early_stopping import EarlyStopping
from elmo_jax.train.pretrain import pretrain
from tests.train.small import changed, config
from tests.train.stopping import stop_at

UNTIL, PATIENCE = 12, 2


def expected_stop(perplexities, patience):
    """How many evaluations there are when the last ``patience`` of them are all no better than the best before."""
    for n in range(patience + 1, len(perplexities) + 1):
        if patience and min(perplexities[n - patience : n]) >= min(perplexities[: n - patience]):
            return n
    return None


@pytest.mark.parametrize("patience", [0, 1, 2, 5])
def test_it_is_due_where_brute_force_says_also_when_it_was_restored(patience):
    rng = random.Random(patience)
    stopped = set()
    for _ in range(300):
        # Few values, so that there are ties.
        perplexities = [float(rng.randint(1, 9)) for _ in range(12)]
        early, seen = EarlyStopping(patience), 0
        while seen < len(perplexities) and not early.due:
            seen += 1
            early(10 * seen, perplexities[seen - 1])
            restored = EarlyStopping(patience)
            restored.restore(json.loads(json.dumps(early.state())))
            early = restored
        wanted = expected_stop(perplexities, patience)
        assert (seen if early.due else None) == wanted
        stopped.add(wanted)
    assert len(stopped) > 3 or not patience


def test_the_reason_names_the_evaluations_and_the_best():
    early = EarlyStopping(2)
    for step, perplexity in ((100, 9.0), (200, 8.0), (300, 8.0), (400, 8.5)):
        early(step, perplexity)
    assert early.reason == "2 evaluations in a row were no better than 8.00 at step 200"
    early = EarlyStopping(1)
    early(1000, 9.0)
    early(2000, 9.5)
    assert early.reason == "1 evaluation was no better than 9.00 at step 1,000"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A run whose learning rate is far too high, so that it gets worse and better, evaluated at every step."""
    c = config(
        tmp_path_factory.mktemp("unbroken"),
        optimizer={"learning_rate": 2.0},
        train={"n_steps": UNTIL},
        evaluation={"every_steps": 1, "max_tokens": 60},
    )
    assert pretrain(c) == 0
    return c


def evaluations(run_dir):
    lines = map(json.loads, (Path(run_dir) / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["eval/perplexity"] for line in lines if "eval/perplexity" in line}


def summary(run_dir):
    return json.loads((Path(run_dir) / "summary.json").read_text())


def learnt(run_dir):
    """Digests of all that the newest checkpoint holds."""
    checkpoints = Path(run_dir) / "checkpoints"
    return read_meta(checkpoints, max(int(path.name) for path in checkpoints.iterdir()))["leaves"]


def test_a_run_without_patience_is_complete(unbroken):
    assert summary(unbroken.run_dir)["stopped_early"] is False
    assert summary(unbroken.run_dir)["steps"] == UNTIL


@pytest.fixture(scope="module")
def stopped(unbroken, tmp_path_factory):
    """That run with patience, and what ends it."""
    c = changed(unbroken, run_dir=str(tmp_path_factory.mktemp("stopped") / "run"), evaluation={"patience": PATIENCE})
    assert pretrain(c) == 0
    perplexity = evaluations(unbroken.run_dir)
    return c, expected_stop(list(perplexity.values()), PATIENCE), perplexity


def test_it_ends_where_brute_force_says_with_the_best_weights(stopped):
    c, step, perplexity = stopped
    assert step < UNTIL
    seen = {s: p for s, p in perplexity.items() if s <= step}
    assert evaluations(c.run_dir) == seen
    best = min(seen, key=seen.__getitem__)
    assert best < step
    found = summary(c.run_dir)
    assert (found["steps"], found["stopped_early"], found["best_step"]) == (step, True, best)
    assert checkpoint.restore_params(Path(c.run_dir) / "checkpoints")[0] == best
    assert (Path(c.run_dir) / "export" / "weights.hdf5").exists()


def test_the_same_command_does_not_train_on_but_finishes(stopped, tmp_path, capsys):
    c, step, _ = stopped
    moved = changed(c, run_dir=str(tmp_path / "run"))
    shutil.copytree(c.run_dir, moved.run_dir)
    shutil.rmtree(Path(moved.run_dir) / "export")
    (Path(moved.run_dir) / "summary.json").unlink()
    before = learnt(c.run_dir)
    assert pretrain(moved) == 0
    assert learnt(moved.run_dir) == before
    assert {**summary(moved.run_dir), "seconds": 0} == {**summary(c.run_dir), "seconds": 0}
    assert (Path(moved.run_dir) / "export" / "weights.hdf5").exists()
    said = f"stopped early at step {step} of {UNTIL}: {PATIENCE} evaluations in a row were no better than"
    assert said in capsys.readouterr().out


def test_interrupted_while_it_waits_it_ends_at_the_same_step(stopped, tmp_path, monkeypatch):
    c, step, perplexity = stopped
    broken = changed(c, run_dir=str(tmp_path / "run"))
    with monkeypatch.context() as patched:
        stop_at(patched, step - 1)
        assert pretrain(broken) == 143
    assert max(evaluations(broken.run_dir)) == step - 1
    assert perplexity[step - 1] > min(list(perplexity.values())[: step - 1])
    assert pretrain(broken) == 0
    assert evaluations(broken.run_dir) == evaluations(c.run_dir)
    assert learnt(broken.run_dir) == learnt(c.run_dir)


def test_a_signal_at_that_very_step_is_obeyed_and_the_same_command_finishes(stopped, tmp_path, monkeypatch):
    c, step, _ = stopped
    broken = changed(c, run_dir=str(tmp_path / "run"))
    with monkeypatch.context() as patched:
        stop_at(patched, step, signal.SIGINT)
        assert pretrain(broken) == 130
    assert learnt(broken.run_dir) == learnt(c.run_dir)
    assert not (Path(broken.run_dir) / "summary.json").exists()
    assert pretrain(broken) == 0
    assert {**summary(broken.run_dir), "seconds": 0} == {**summary(c.run_dir), "seconds": 0}


def test_with_more_patience_it_goes_on_as_if_it_had_had_it_from_the_start(unbroken, stopped, tmp_path):
    patient = changed(stopped[0], run_dir=str(tmp_path / "run"), evaluation={"patience": 0})
    shutil.copytree(stopped[0].run_dir, patient.run_dir)
    assert pretrain(patient) == 0
    assert evaluations(patient.run_dir) == evaluations(unbroken.run_dir)
    assert learnt(patient.run_dir) == learnt(unbroken.run_dir)
    assert summary(patient.run_dir)["stopped_early"] is False
