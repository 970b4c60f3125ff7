"""Laws of saving and restoring: what comes back is what was saved, bit for bit, or an error or a warning says so."""

import contextlib
import json
import logging
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from elmo_jax import checkpoint_files
from elmo_jax.checkpoint import Checkpoints, restore_params
from elmo_jax.errors import UserError
from tests.filesystems import small_disk

META = {"positions": [[0, 1, 2], [3, 4, 5]], "config": {"run_dir": "runs/é"}, "loss": 4.5}


def sharding(n_devices: int, *spec: str) -> NamedSharding:
    mesh = jax.make_mesh((n_devices,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n_devices])
    return NamedSharding(mesh, PartitionSpec(*spec))


class Counters(NamedTuple):
    step: jax.Array
    drawn: np.ndarray


@flax.struct.dataclass
class Carry:
    cell: jax.Array
    hidden: jax.Array


def training_state(n_devices: int, seed: int = 0):
    """Parameters and everything beside them, replicated or cut by rows over the first ``n_devices`` devices."""
    rng = np.random.default_rng(seed)
    everywhere, rows = sharding(n_devices), sharding(n_devices, "data")

    def normal(shape, dtype=np.float32, where=everywhere):
        return jax.device_put(rng.normal(size=shape).astype(dtype), where)

    params = {"encoder": {"kernel": normal((4, 3)), "bias": normal((3,), jnp.bfloat16)}, "softmax": normal((50, 32))}
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adagrad(0.2))
    state = {
        "optimizer": jax.device_put(optimizer.init(params), everywhere),
        "carry": Carry(normal((8, 2, 3), where=rows), normal((8, 2), where=rows)),
        "counters": Counters(jax.device_put(jnp.int32(7 + seed), everywhere), np.arange(3, dtype=np.uint32)),
        "mask": jax.device_put(jnp.array([True, False]), everywhere),
        "exact": rng.normal(size=2),
        "nothing": None,
    }
    return params, state


def like(tree):
    def shape(leaf):
        return (
            jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            if isinstance(leaf, jax.Array)
            else leaf
        )

    return jax.tree.map(shape, tree)


def assert_identical(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert type(a) is type(b)
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_steps(directory: Path, *steps: int, n_devices: int = 1) -> dict:
    """Save one checkpoint per step and return their trees."""
    trees = {step: training_state(n_devices, seed=step) for step in steps}
    with Checkpoints(directory, keep=len(steps)) as checkpoints:
        for step, (params, state) in trees.items():
            checkpoints.save(step, params, state, {**META, "step": step})
    return trees


def saved(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def test_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore(*training_state(1)) is None
        assert checkpoints.latest() is None
        assert checkpoints.best() is None


@pytest.mark.parametrize("n_devices", [1, 2, 4, 8])
def test_a_checkpoint_of_eight_devices_returns_bit_for_bit_on_any_number(tmp_path, n_devices):
    save_steps(tmp_path, 3, n_devices=8)
    params, state = training_state(n_devices, seed=3)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(like(params), like(state))
    assert restored.step == 3
    assert restored.meta == {**META, "step": 3}
    assert_identical(restored.params, params)
    assert_identical(restored.state, state)
    assert restored.state["carry"].cell.sharding == state["carry"].cell.sharding


def test_arrays_may_be_targets(tmp_path):
    params, state = save_steps(tmp_path, 1)[1]
    with Checkpoints(tmp_path) as checkpoints:
        assert_identical(checkpoints.restore(params, state).state, state)


def test_parameters_come_back_without_a_target_on_any_machine(tmp_path):
    params, _ = save_steps(tmp_path, 3, n_devices=8)[3]
    step, found, meta = restore_params(tmp_path)
    assert (step, meta["step"]) == (3, 3)
    assert_identical(found, jax.tree.map(np.asarray, params))


def test_buffers_may_be_donated_and_arrays_changed_once_save_returns(tmp_path):
    update = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0 + 1, tree), donate_argnums=0)
    params = {"w": jnp.arange(300_000.0)}
    positions = np.arange(5)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, params, {"positions": positions}, {})
        positions[:] = -1
        for _ in range(3):
            params = update(params)
        restored = checkpoints_after_wait(checkpoints, {"w": params["w"]}, {"positions": positions})
    np.testing.assert_array_equal(restored.params["w"], np.arange(300_000.0))
    np.testing.assert_array_equal(restored.state["positions"], np.arange(5))


def checkpoints_after_wait(checkpoints, params, state):
    checkpoints.wait()
    return checkpoints.restore(params, state)


def test_the_newest_and_the_best_are_kept(tmp_path):
    params, state = training_state(1)
    perplexity = {1: 90.0, 2: 50.0, 3: None, 4: 70.0, 5: float("nan"), 6: None}
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for step, value in perplexity.items():
            checkpoints.save(step, params, state, {}, perplexity=value, wait=True)
        assert (checkpoints.best(), checkpoints.latest()) == (2, 6)
    assert saved(tmp_path) == ["2", "5", "6"]
    assert restore_params(tmp_path)[0] == 2
    assert restore_params(tmp_path, step=5)[0] == 5
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        assert checkpoints.best() == 2
        checkpoints.save(7, params, state, {}, perplexity=49.0)
    assert saved(tmp_path) == ["7"]


def test_a_step_is_saved_once(tmp_path):
    first, second = training_state(1, seed=1), training_state(1, seed=2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, *first, {})
        checkpoints.save(1, *second, {})
        assert_identical(checkpoints.restore(*first).params, first[0])


def test_leftovers_of_a_killed_save_are_ignored_and_removed(tmp_path):
    params, state = save_steps(tmp_path, 1)[1]
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    assert restore_params(tmp_path)[0] == 1
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(params, state).step == 1
        checkpoints.save(2, params, state, {})
    assert saved(tmp_path) == ["1", "2"]


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_no_damage_to_any_file_goes_unnoticed(tmp_path, caplog, damage):
    """The values of the newest checkpoint or, with a warning that names it, of the one before: never others."""
    trees = save_steps(tmp_path, 10, 20, n_devices=2)
    fallen_back = 0
    for file in sorted(f for f in (tmp_path / "20").rglob("*") if f.is_file()):
        original = file.read_bytes()
        damage(file)
        caplog.clear()
        with Checkpoints(tmp_path) as checkpoints:
            restored = checkpoints.restore(*map(like, trees[10]))
        file.write_bytes(original)
        assert_identical((restored.params, restored.state), trees[restored.step])
        assert restored.meta == {**META, "step": restored.step}
        named = [r for r in caplog.records if r.name == "elmo_jax" and "checkpoint 20" in r.getMessage()]
        assert len(named) == (restored.step == 10), file
        fallen_back += restored.step == 10
    assert fallen_back >= 6


def test_no_flipped_bit_of_the_largest_file_goes_unnoticed(tmp_path, caplog):
    trees = save_steps(tmp_path, 10, 20)
    files = (file for file in (tmp_path / "20" / "params").rglob("*") if file.is_file())
    file = max(files, key=lambda f: f.stat().st_size)
    original = file.read_bytes()
    for position in range(0, len(original), len(original) // 16):
        data = bytearray(original)
        data[position] ^= 1 << position % 8
        file.write_bytes(data)
        with Checkpoints(tmp_path) as checkpoints:
            restored = checkpoints.restore(*map(like, trees[10]))
        assert_identical((restored.params, restored.state), trees[restored.step])
    assert "params/softmax is not what was saved" in caplog.text


@pytest.mark.parametrize("gone", [".", "params", "state", "meta"])
def test_an_empty_directory_or_a_missing_item_is_damage(tmp_path, caplog, gone):
    trees = save_steps(tmp_path, 10, 20)
    shutil.rmtree(tmp_path / "20" / gone)
    (tmp_path / "20").mkdir(exist_ok=True)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        restored = checkpoints.restore(*map(like, trees[10]))
        assert restored.step == checkpoints.latest() == 10
        assert "checkpoint 20" in caplog.text
        # Training goes on: the damaged checkpoint neither blocks its step nor counts as one of the two newest.
        for step in (15, 20):
            checkpoints.save(step, *trees[20], {}, wait=True)
        assert_identical(checkpoints.restore(*map(like, trees[20])).params, trees[20][0])
    assert saved(tmp_path) == ["15", "20"]
    assert restore_params(tmp_path)[0] == 20


def test_arrays_that_no_file_holds_are_not_made(tmp_path, caplog):
    """What the table says is sealed, but anybody can seal; the arrays of a run lie in its files."""
    save_steps(tmp_path, 1)
    path = tmp_path / "1" / "meta" / "metadata"
    document = json.loads(path.read_bytes())
    del document["sha256"]
    name = next(name for name in document["leaves"] if name.startswith("params/"))
    document["leaves"][name][1] = [1 << 20, 1 << 20]
    document["sha256"] = checkpoint_files._seal(document)
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="damaged in"):
        restore_params(tmp_path)
    assert "it declares arrays of 2," in caplog.text


def test_json_of_any_depth_is_damage(tmp_path, caplog):
    save_steps(tmp_path, 1)
    (tmp_path / "1" / "meta" / "metadata").write_text("[" * 100_000)
    with pytest.raises(UserError, match="damaged in"):
        restore_params(tmp_path)
    assert "its meta/metadata cannot be read: RecursionError" in caplog.text


def test_a_damaged_checkpoint_does_not_push_out_a_good_one(tmp_path):
    trees = save_steps(tmp_path, 10, 20)
    flip_a_bit(tmp_path / "20" / "meta" / "metadata")
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.restore(*map(like, trees[10]))
        checkpoints.save(11, *trees[10], {})
    assert saved(tmp_path) == ["11"]


def test_parameters_are_read_from_the_best_undamaged_checkpoint(tmp_path, caplog):
    params, state = training_state(1)
    with Checkpoints(tmp_path, keep=3) as checkpoints:
        for step, perplexity in ((1, 30.0), (2, 20.0), (3, None)):
            checkpoints.save(step, params, state, {}, perplexity=perplexity)
    truncate(max((tmp_path / "2" / "params" / "d").iterdir()))
    shutil.rmtree(tmp_path / "2" / "params" / "ocdbt.process_0")
    assert restore_params(tmp_path)[0] == 1
    assert "checkpoint 2 " in caplog.text
    with pytest.raises(UserError, match="checkpoint 2;"):
        restore_params(tmp_path, step=2)
    with pytest.raises(UserError, match=r"no checkpoint 5 in .*there are 3, 2, 1"):
        restore_params(tmp_path, step=5)
    with pytest.raises(UserError, match=r"no checkpoint in .*train first"):
        restore_params(tmp_path / "absent")


def test_when_all_are_damaged_training_does_not_start_from_scratch(tmp_path):
    trees = save_steps(tmp_path, 10, 20)
    for step in ("10", "20"):
        truncate(tmp_path / step / "meta" / "metadata")
    with Checkpoints(tmp_path) as checkpoints:
        for _ in range(2):
            with pytest.raises(UserError, match=r"20 \(.*10 \(.*put a copy back"):
                checkpoints.restore(*map(like, trees[10]))
    with pytest.raises(UserError, match="damaged"):
        restore_params(tmp_path)


def test_another_configuration_is_refused_with_what_differs(tmp_path):
    params, state = save_steps(tmp_path, 1)[1]
    with Checkpoints(tmp_path) as checkpoints:
        for change, message in (
            ({"softmax": jnp.zeros((60, 32))}, r"params/softmax is float32\[50, 32\] there and float32\[60, 32\] here"),
            ({"softmax": jnp.zeros((50, 32), jnp.bfloat16)}, r"float32\[50, 32\] there and bfloat16\[50, 32\] here"),
            ({"more": jnp.zeros(1)}, r"params/more is absent there and float32\[1\] here"),
        ):
            with pytest.raises(UserError, match=message):
                checkpoints.restore({**params, **change}, state)
        without = {name: leaf for name, leaf in params.items() if name != "softmax"}
        with pytest.raises(UserError, match=r"float32\[50, 32\] there and absent here"):
            checkpoints.restore(without, state)
        assert checkpoints.restore(params, state).step == 1


def test_a_full_disk_harms_no_earlier_checkpoint(tmp_path, caplog):
    params, state = training_state(1)
    large = {**state, "exact": np.random.default_rng(0).normal(size=200_000)}
    with small_disk(tmp_path / "disk"):
        checkpoints = Checkpoints(tmp_path / "disk")
        checkpoints.save(1, params, state, {}, perplexity=9.0)
        checkpoints.save(2, params, large, {}, perplexity=8.0)
        with pytest.raises(UserError, match=r"checkpoint 2 could not be saved in .*No space left.* 1, is intact"):
            checkpoints.close()
        assert checkpoints.best() == 1
        assert not [r for r in caplog.records if r.exc_info]
        with Checkpoints(tmp_path / "disk") as checkpoints:
            assert_identical(checkpoints.restore(params, state).params, params)
            checkpoints.save(2, params, state, {})
        assert saved(tmp_path / "disk") == ["1", "2"]


def test_the_reads_and_writes_beside_one_that_fails_say_nothing_when_they_end():
    """They report at any later time, where nobody can catch it: through this hook."""
    hook, shown = sys.unraisablehook, []
    assert hook.func is checkpoint_files._abandoned_is_silent
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another"), ValueError("Event loop is closed")):
        hook.func(shown.append, SimpleNamespace(exc_type=type(error), exc_value=error, object=None))
    assert [str(told.exc_value) for told in shown] == ["another", "Event loop is closed"]


def test_the_error_of_the_body_wins_over_that_of_the_last_save(tmp_path, caplog):
    params, state = training_state(1)
    large = {**state, "exact": np.random.default_rng(0).normal(size=200_000)}
    with small_disk(tmp_path / "disk"):
        with contextlib.suppress(KeyboardInterrupt), Checkpoints(tmp_path / "disk") as checkpoints:
            checkpoints.save(2, params, large, {})
            raise KeyboardInterrupt
        assert "checkpoint 2 could not be saved" in caplog.text


def test_a_directory_that_cannot_be_written_to(tmp_path):
    params, state = training_state(1)
    with small_disk(tmp_path / "disk") as mount:
        with Checkpoints(tmp_path / "disk") as checkpoints:
            checkpoints.save(1, params, state, {}, wait=True)
            assert mount("remount", "ro")
            with pytest.raises(UserError, match=r"checkpoint 2 could not be saved in .*not writable; .* 1, is intact"):
                checkpoints.save(2, params, state, {})
            assert restore_params(tmp_path / "disk")[0] == 1
        with Checkpoints(tmp_path / "disk") as checkpoints:
            assert checkpoints.restore(params, state).step == 1
        with pytest.raises(UserError, match="cannot keep checkpoints"):
            Checkpoints(tmp_path / "disk" / "below")


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot read checkpoints in .*file: .*Not a directory"):
        Checkpoints(tmp_path / "file")


def test_the_chatter_of_the_writer_is_not_shown(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    save_steps(tmp_path, 1)
    assert not caplog.records
