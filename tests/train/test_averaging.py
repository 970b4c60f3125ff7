"""The moving average equals brute force, is what a run evaluates and hands on, and disturbs nothing."""

import json
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax import checkpoint, parallel
from elmo_jax.checkpoint_files import nested, read_arrays, read_meta
from elmo_jax.digest import leaves_by_path
from elmo_jax.errors import UserError
from elmo_jax.train import trained
from elmo_jax.train.averaging import moving_average
from elmo_jax.train.evaluate import Evaluator
from elmo_jax.train.inputs import gather
from elmo_jax.train.pretrain import pretrain
from tests.train.small import changed, config
from tests.train.stopping import stop_at

UNTIL, DECAY = 8, 0.7


def brute_force(weights, decay):
    """The mean of w_1 .. w_t, in which each counts ``decay`` times as much as the one after it; float64."""
    factors = decay ** np.arange(len(weights) - 1, -1, -1.0)
    return np.tensordot(factors / factors.sum(), np.stack(weights).astype(np.float64), axes=1)


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.9999])
def test_it_is_the_weighted_mean_of_all_weights_so_far(decay):
    rng = np.random.default_rng(0)
    trajectory = np.cumsum(rng.normal(size=(50, 7)), axis=0).astype(np.float32)
    update = jax.jit(lambda average, params, step: moving_average(average, params, decay, step))
    average = {"kernel": jnp.zeros(7)}
    for step, weights in enumerate(trajectory, 1):
        average = update(average, {"kernel": weights}, jnp.int32(step))
        wanted = brute_force(trajectory[:step], decay)
        np.testing.assert_allclose(average["kernel"], wanted, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run without an average, with every checkpoint."""
    c = config(
        tmp_path_factory.mktemp("plain"),
        train={"n_steps": UNTIL},
        evaluation={"every_steps": 4},
        checkpoint={"every_steps": 1, "keep": UNTIL},
    )
    assert pretrain(c) == 0
    return c


@pytest.fixture(scope="module")
def averaged(plain, tmp_path_factory):
    """The same run with one."""
    c = changed(plain, run_dir=str(tmp_path_factory.mktemp("averaged") / "run"), optimizer={"ema_decay": DECAY})
    assert pretrain(c) == 0
    return c


def digests(c, step=UNTIL):
    return read_meta(Path(c.run_dir) / "checkpoints", step)["leaves"]


def raw_weights(c, step):
    """The weights that training goes on with."""
    folder = Path(c.run_dir) / "checkpoints"
    document = read_meta(folder, step)
    likes: dict = {"params": {}, "state": {}}
    for name, (dtype, shape, _) in document["leaves"].items():
        item, path = name.split("/", 1)
        likes[item][path] = np.zeros(shape, dtype)
    found = read_arrays(folder, document, likes)["state"]
    return nested({path.removeprefix("raw/"): x for path, x in found.items() if path.startswith("raw/")})


def learnt(c, step=None):
    return checkpoint.restore_params(Path(c.run_dir) / "checkpoints", step=step)[1]


def test_without_it_there_is_nothing_in_memory_or_in_a_checkpoint(plain):
    parts = {"/".join(name.split("/")[:2]) for name in digests(plain) if name.startswith("state/")}
    assert parts == {"state/step", "state/opt_state", "state/carry", "state/position"}


def test_training_goes_on_from_the_weights_themselves(plain, averaged):
    ours, theirs = digests(averaged), digests(plain)
    for name, value in theirs.items():
        assert ours[name.replace("params/", "state/raw/", 1) if name.startswith("params/") else name] == value
    assert len(ours) == len(theirs) + len([name for name in theirs if name.startswith("params/")])


def test_a_checkpoint_holds_the_average_of_all_weights_so_far(averaged):
    trajectory = []
    for step in range(1, UNTIL + 1):
        trajectory.append(leaves_by_path(raw_weights(averaged, step)))
        for path, average in leaves_by_path(learnt(averaged, step)).items():
            wanted = brute_force([weights[path] for weights in trajectory], DECAY)
            np.testing.assert_allclose(average, wanted, rtol=1e-5, atol=1e-6)


def test_evaluation_and_export_are_of_the_average(averaged):
    lines = map(json.loads, (Path(averaged.run_dir) / "metrics.jsonl").read_text().splitlines())
    reported = {line["step"]: line["eval/perplexity"] for line in lines if "eval/perplexity" in line}
    inputs, run = gather(averaged, progress=False), trained.load(Path(averaged.run_dir), 4)
    evaluate = Evaluator(run.model, run.config, run.vocabulary, parallel.DataParallel())
    perplexity = [evaluate(w, inputs.heldout, streams=4).average for w in (run.params, raw_weights(averaged, 4))]
    assert perplexity[0] == reported[4]
    assert abs(perplexity[1] - reported[4]) > 1e-3
    with h5py.File(Path(averaged.run_dir) / "export" / "weights.hdf5") as file:
        np.testing.assert_array_equal(file["char_embed"][:], learnt(averaged)["encoder"]["char_embed"])


def test_resumed_equals_never_stopped(averaged, tmp_path, monkeypatch):
    c = changed(averaged, run_dir=str(tmp_path / "run"))
    with monkeypatch.context() as patched:
        stop_at(patched, 3)
        assert pretrain(c) == 143
    assert pretrain(c) == 0
    assert digests(c) == digests(averaged)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_a_run_goes_on_only_with_its_own_decay(averaged, decay):
    with pytest.raises(UserError, match=r"belongs to a run with config\.optimizer\.ema_decay = 0\.7, but this command"):
        pretrain(changed(averaged, optimizer={"ema_decay": decay}))


def test_another_run_starts_from_the_average_under_pmap_too(averaged, tmp_path):
    c = changed(
        averaged,
        run_dir=str(tmp_path / "run"),
        init_from=averaged.run_dir,
        parallel={"mode": "pmap"},
        # Weights have nothing to do with dropout.
        model={"dropout_places": ("output",), "dropout_mask": "window"},
        train={"n_steps": 1},
        optimizer={"learning_rate": 1e-12},
    )
    assert pretrain(c) == 0
    for weights in (learnt(c), raw_weights(c, 1)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8), weights, learnt(averaged))
