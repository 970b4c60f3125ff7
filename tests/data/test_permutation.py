import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data.permutation import chance, epoch_key, permute


def shuffled(n: int, seed: int, epoch: int) -> list[int]:
    return permute(np.arange(n), n, epoch_key(seed, np.full(n, epoch))).tolist()


@given(st.integers(1, 3000), st.integers(0, 2**31 - 1), st.integers(0, 1000))
def test_every_size_is_permuted(n, seed, epoch):
    assert sorted(shuffled(n, seed, epoch)) == list(range(n))


@pytest.mark.parametrize("n", [2**k + d for k in range(1, 12) for d in (-1, 0, 1)])
def test_sizes_about_powers_of_two(n):
    assert sorted(shuffled(n, 3, 5)) == list(range(n))


def test_seeds_and_epochs_give_different_orders():
    orders = {tuple(shuffled(50, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


def test_points_of_different_epochs_are_permuted_together():
    epochs = np.arange(20)[:, None] * np.ones(30, np.int64)
    together = permute(np.tile(np.arange(30), (20, 1)), 30, epoch_key(7, epochs))
    assert together.tolist() == [shuffled(30, 7, epoch) for epoch in range(20)]


def test_large_sizes_stay_within_range():
    n = 2**40 + 12345
    index = np.random.default_rng(0).integers(0, n, 10_000)
    result = permute(index, n, epoch_key(0, np.zeros(len(index), int)))
    assert result.min() >= 0
    assert result.max() < n
    assert len(set(result.tolist())) == len(set(index.tolist()))


def test_every_point_goes_everywhere_equally_often():
    # Chi-squared of 11 x 11 cells over 20000 keys; the chance of more than 200 with 100 degrees of freedom is 1e-8.
    n, keys = 11, 20_000
    results = permute(np.tile(np.arange(n), (keys, 1)), n, epoch_key(1, np.arange(keys)[:, None] * np.ones(n, int)))
    cells = np.stack([np.bincount(results[:, i], minlength=n) for i in range(n)])
    assert ((cells - keys / n) ** 2 / (keys / n)).sum() < 200


def test_neighbours_are_torn_apart():
    n = 100_000
    order = np.array(shuffled(n, 0, 0))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(order, np.arange(n))[0, 1]) < 0.02


def test_chances_are_uniform_and_differ_by_key():
    keys = epoch_key(3, np.arange(4))[:, None]
    drawn = chance(np.arange(50_000)[None], keys)
    assert drawn.shape == (4, 50_000)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.stack([np.histogram(row, bins=20, range=(0, 1))[0] for row in drawn])
    # 2,500 expected in each; six standard deviations of a binomial count are 292.
    assert np.abs(counts - 2500).max() < 292
    assert np.abs(np.corrcoef(drawn) - np.eye(4)).max() < 0.03
