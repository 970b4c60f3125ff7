"""Laws of the digest: it is of the bits alone, and no flipped bit leaves it as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from elmo_jax.digest import digest, leaves_by_path

DTYPES = ["float32", "bfloat16", "float16", "int32", "uint32", "int8", "uint16", "float64", "int64", "bool"]


def array_of(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Random bits (all of them, so NaNs too), except that a bool is 0 or 1."""
    kind = np.dtype(dtype)
    bits = np.random.default_rng(seed).integers(0, 256, size=(*shape, kind.itemsize), dtype=np.uint8)
    return (bits[..., 0] % 2).astype(bool) if dtype == "bool" else bits.reshape(-1).view(kind).reshape(shape)


def value(array) -> int:
    return digest({"a": array})["a"]


@settings(max_examples=200, deadline=None)
@given(dtype=st.sampled_from(DTYPES), data=st.data())
def test_any_flipped_bit_changes_it(dtype, data):
    array = array_of(dtype, (3, 5), data.draw(st.integers(0, 2**32 - 1)))
    before = value(array)
    flipped = array.copy()
    byte = data.draw(st.integers(0, flipped.nbytes - 1))
    bit = 0 if dtype == "bool" else data.draw(st.integers(0, 7))
    flipped.reshape(-1).view(np.uint8)[byte] ^= 1 << bit
    assert value(flipped) != before


def test_structured_damage_changes_it():
    ones = np.ones(70_000, np.float32)
    zeroed = [np.where(np.arange(ones.size) // block == 0, 0, ones).astype(np.float32) for block in (512, 4096, 65536)]
    ramp = np.arange(1000, dtype=np.float32)
    values = [value(a) for a in (ones, *zeroed, -ones, ramp, ramp[::-1], np.roll(ramp, 1), np.zeros(1000, np.float32))]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if "64" not in d])
def test_it_is_the_same_under_every_sharding_and_for_numpy(dtype):
    array = array_of(dtype, (8, 16))
    expected = value(array)
    for rows, columns in ((1, 1), (2, 1), (8, 1), (2, 4), (1, 8)):
        mesh = jax.make_mesh(
            (rows, columns), ("r", "c"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[: rows * columns]
        )
        for spec in (PartitionSpec(), PartitionSpec("r"), PartitionSpec("r", "c"), PartitionSpec(None, ("r", "c"))):
            assert value(jax.device_put(array, NamedSharding(mesh, spec))) == expected


def test_64_bit_numbers_keep_all_their_bits():
    array = array_of("float64", (3, 4))
    with jax.enable_x64(True):
        assert value(jnp.asarray(array)) == value(array)
    assert value(np.float64(1.0)) != value(np.float64(1.0 + 2.0**-50))


def test_leaves_of_different_devices_scalars_and_empty_arrays():
    on_three = jax.device_put(jnp.ones(3), jax.devices()[3])
    tree = {"far": on_three, "near": jnp.ones(3), "number": 3, "empty": np.zeros((0, 2), np.float32)}
    found = digest(tree)
    assert list(found) == sorted(tree)
    assert found["far"] == found["near"]
    assert found["empty"] == 0
    assert digest({}) == {}


def test_paths_are_names_indices_and_fields():
    assert leaves_by_path({"a": [1, {"b": 2}], "c": None}) == {"a/0": 1, "a/1/b": 2}
    with pytest.raises(ValueError, match="same path"):
        leaves_by_path({"a/b": 1, "a": {"b": 2}})
