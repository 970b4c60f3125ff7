"""A dry run does everything but the steps, and leaves the run directory as it is."""

import re
from pathlib import Path

import jax
import pytest

from elmo_jax import cli
from elmo_jax.errors import UserError
from elmo_jax.parallel import REPLICATED, DataParallel
from elmo_jax.train import memory
from elmo_jax.train.dry_run import dry_run
from elmo_jax.train.inputs import gather
from elmo_jax.train.pretrain import pretrain
from elmo_jax.train.program import Program
from elmo_jax.train.step import STATE_SPECS
from tests.filesystems import contents
from tests.test_config import EXPERIMENTS
from tests.train.small import changed, config, write_text

pytestmark = pytest.mark.usefixtures("hastily")

# The others differ from them in sizes and options alone.
QUICK = {"quickstart", "text"}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of four steps."""
    c = config(tmp_path_factory.mktemp("stopped"), train={"n_steps": 4})
    assert pretrain(c) == 0
    return c


def rows_of(out):
    """The rows of a printed table."""
    return dict(re.findall(r"^(\w[\w ]*?)  +(\S.*)$", out, re.MULTILINE))


# The law: every configuration that ships dry-runs


@pytest.mark.parametrize(
    "name", [pytest.param(f.stem, marks=[] if f.stem in QUICK else pytest.mark.long) for f in EXPERIMENTS]
)
def test_every_experiment_that_ships_dry_runs(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # The machine of the tests may be smaller than the model.
    monkeypatch.setattr(memory, "host_memory", lambda: 10**15)
    overrides = []
    if name != "quickstart":
        write_text(tmp_path / "text.txt", 1000)
        write_text(tmp_path / "heldout.txt", 50, seed=1)
        overrides = ["--config.data.train=text.txt", "--config.data.heldout=heldout.txt"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "--config", name, "--dry-run", *overrides])
    assert ended.value.code == 0
    assert not (tmp_path / "runs" / name).exists()
    rows = rows_of(capsys.readouterr().out)
    assert {"steps", "training step", "evaluation step", "memory", "checkpoints"} <= set(rows)


# A new run


def test_a_dry_run_leaves_only_encoded_text(tmp_path, capsys):
    c = config(tmp_path)
    before = contents(tmp_path)
    assert dry_run(c) == 0
    added = set(contents(tmp_path)) - set(before)
    assert added
    assert all(name.split("/")[0] == "encoded" for name in added)
    rows = rows_of(capsys.readouterr().out)
    assert rows["steps"].endswith("; from step 0")
    assert rows["predictions"].startswith("40 a step, ")
    assert rows["predictions"].endswith(" an epoch, 480 in all, each way")


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_what_is_compiled_takes_the_very_state_of_training(tmp_path, mode):
    devices = DataParallel(mode)
    program = Program(gather(config(tmp_path), progress=False), devices)
    whole = program.state_like()
    state = jax.jit(program.initial_state, out_shardings=jax.tree.map(lambda x: x.sharding, whole))()
    state = devices.place_state(state, STATE_SPECS)
    like = devices.state_like(whole, STATE_SPECS)
    described = jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert described == jax.tree.map(lambda x: (x.shape, x.dtype), like)
    batch = devices.place_batch(program.batches.at(program.batches.start())[0])
    step = devices.wrap(program.train_step(), STATE_SPECS, outputs=(STATE_SPECS, REPLICATED))
    lowered = step.lower(like, batch)
    if mode == "shard_map":
        given = memory.tree_bytes([x.addressable_data(0) for x in jax.tree.leaves((state, batch))])
        assert memory.usage(lowered.compile()).arguments == given


# A run that there is


def test_it_tells_from_where_a_run_would_go_on_and_changes_nothing(stopped, capsys):
    folder = Path(stopped.run_dir).parent
    before = contents(folder)
    capsys.readouterr()
    assert dry_run(changed(stopped, train={"n_steps": 9})) == 0
    rows = rows_of(capsys.readouterr().out)
    assert rows["steps"].endswith("; from step 4")
    assert rows["weights from"].startswith("checkpoint of step 4 (")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"n_steps": 4, "seed": 7}}, r"belongs to a run with config.train.seed = 0, but this command has 7"),
        ({"train": {"n_steps": 3}}, r"has done 4 steps, and this command asks for 3: raise"),
        ({"train": {"batch_size": 12}}, r"must be divisible by 8 devices; use 8 or 16"),
    ],
)
def test_it_is_refused_where_training_is(stopped, changes, message):
    folder = Path(stopped.run_dir).parent
    before = contents(folder)
    for command in (dry_run, pretrain):
        with pytest.raises(UserError, match=message):
            command(changed(stopped, **changes))
    assert contents(folder) == before


def test_other_text_is_refused_as_in_training(stopped, tmp_path):
    other = str(write_text(tmp_path / "other.txt", 200, seed=5))
    with pytest.raises(UserError, match=r"the training text of .* has changed since step 4"):
        dry_run(changed(stopped, data={"train": other}))


def test_a_damaged_checkpoint_is_passed_over_as_in_training(stopped, tmp_path, caplog, capsys):
    c = changed(stopped, run_dir=str(tmp_path / "run"))
    run = Path(c.run_dir)
    for name, data in contents(Path(stopped.run_dir)).items():
        if data is not None:
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_bytes(data)
    (run / "checkpoints" / "4" / "meta" / "metadata").write_text("{}")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read: 4 \(its meta/metadata was altered\)"):
        dry_run(c)
    assert "checkpoint 4 in " in caplog.text


def test_weights_of_another_run_are_named(stopped, tmp_path, capsys):
    c = changed(stopped, run_dir=str(tmp_path / "run"), init_from=stopped.run_dir)
    assert dry_run(c) == 0
    assert rows_of(capsys.readouterr().out)["weights from"] == f"{stopped.run_dir}, its best weights"


# Memory


def test_too_little_memory_is_told_after_the_report(stopped, monkeypatch, capsys):
    monkeypatch.setattr(memory, "host_memory", lambda: 80_000)
    with pytest.raises(UserError) as refused:
        dry_run(stopped)
    assert re.fullmatch(
        r"training takes \d.* of each device, which has 10 kB: lower --config.train.batch_size .*8\), or .*; elmo .*",
        str(refused.value),
    )
    assert "training step" in rows_of(capsys.readouterr().out)
