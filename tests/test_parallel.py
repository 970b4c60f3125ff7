"""Rows are shared evenly, or the message says what would do."""

import jax
import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.parallel import BY_ROWS, REPLICATED, DataParallel


def test_a_batch_that_does_not_divide_is_refused_with_ones_that_do():
    with pytest.raises(UserError, match=r"batch_size is 100: it must be divisible by 8 devices; use 96 or 104"):
        DataParallel().rows(100)
    with pytest.raises(UserError, match=r"8 devices x 3 gradient accumulation parts; use 24"):
        DataParallel().rows(8, parts_per_device=3)


def test_rows_of_one_process_are_all():
    assert DataParallel().rows(16) == range(16)


@pytest.mark.parametrize("mode", ["shard_map", "pmap"])
def test_a_state_placed_and_taken_back_is_the_same(mode):
    devices = DataParallel(mode, jax.devices()[:4])
    rng = np.random.default_rng(0)
    specs = {"whole": REPLICATED, "rows": BY_ROWS}
    state = {"whole": {"a": rng.normal(size=(3,)), "n": np.int32(5)}, "rows": [rng.normal(size=(8, 2))]}
    state = jax.tree.map(lambda x: np.asarray(x, getattr(x, "dtype", None)), state)
    placed = jax.device_put(state, devices.shardings(state, specs))
    step = devices.wrap(
        lambda state, batch: (jax.tree.map(lambda x: x + 1, state), {}), specs, outputs=(specs, REPLICATED)
    )
    batch = devices.place_batch({"x": np.zeros((8, 1))})
    moved, _ = step(devices.place_state(placed, specs), batch)
    back = devices.global_state(moved, specs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b + 1, rtol=1e-6), back, state)
    assert all(leaf.shape == np.shape(x) for leaf, x in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True))


def test_local_rows_come_back_in_order():
    devices = DataParallel()
    rows = np.arange(48, dtype=np.int32).reshape(16, 3)
    np.testing.assert_array_equal(devices.local_rows(devices.from_local_rows(rows)), rows)
