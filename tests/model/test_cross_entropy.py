"""The cross entropy in chunks and blocks equals the plain one, in values and gradients, for any chunks and blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model import cross_entropy
from elmo_jax.model.cross_entropy import linear_cross_entropy

N, WIDTH, WORDS = 7, 5, 23


def example(targets="mixed"):
    rng = np.random.default_rng(0)
    layer = [jnp.asarray(3 * rng.normal(size=s), jnp.float32) for s in ((N, WIDTH), (WORDS, WIDTH), WORDS)]
    target = {"mixed": rng.integers(0, WORDS, N), "all first": np.zeros(N, int), "all last": np.full(N, WORDS - 1)}
    return layer, jnp.asarray(target[targets]), jnp.asarray(rng.normal(size=N), jnp.float32)


def plain(layer, target):
    """Loss of every position, and the gradients of their sum weighted by ``weight``, in float64."""
    hidden, kernel, bias = (np.asarray(x, np.float64) for x in layer)
    logits = hidden @ kernel.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(hidden))

    def gradients(weight):
        slope = (probability - np.eye(kernel.shape[0])[target]) * np.asarray(weight, np.float64)[:, None]
        return slope @ kernel, slope.T @ hidden, slope.sum(axis=0)

    return -np.log(probability[rows, target]), gradients


@pytest.fixture(params=[(1, 1), (3, 4), (7, 7), (4, 22), (2, WORDS), (50, WORDS)], ids=str)
def cut(request, monkeypatch):
    """Positions of a chunk and words of a block; the last ones have all words in one block."""
    monkeypatch.setattr(cross_entropy, "chunk_and_block", lambda size, words, whole=True: request.param)


@pytest.mark.parametrize("targets", ["mixed", "all first", "all last"])
@pytest.mark.parametrize(("first", "n"), [(0, N), (0, 0), (3, 1), (2, 4), (N, 0)])
def test_equals_log_softmax_where_it_counts_and_is_zero_elsewhere(cut, targets, first, n):
    layer, target, weight = example(targets)
    counts = np.arange(N) - first
    counts = (counts >= 0) & (counts < n)

    def loss(layer, first, n):
        return linear_cross_entropy(*layer, target, weight, n, first)

    (total, nll), got = jax.jit(jax.value_and_grad(loss, has_aux=True))(layer, jnp.int32(first), jnp.int32(n))
    wanted, gradients = plain(layer, target)
    np.testing.assert_allclose(nll, np.where(counts, wanted, 0), atol=2e-5)
    np.testing.assert_allclose(total, (wanted * weight)[counts].sum(), atol=5e-5)
    for ours, theirs in zip(got, gradients(weight * counts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
    # Without a gradient there is another path.
    np.testing.assert_allclose(jax.jit(loss)(layer, jnp.int32(first), jnp.int32(n))[1], nll, atol=2e-6)


def test_the_gradient_scales_with_what_follows(cut):
    layer, target, weight = example()
    _, gradients = plain(layer, target)
    got = jax.jit(jax.grad(lambda layer: jnp.tanh(1e-3 * linear_cross_entropy(*layer, target, weight)[0])))(layer)
    total = linear_cross_entropy(*layer, target, weight)[0]
    factor = 1e-3 * (1 - np.tanh(1e-3 * total) ** 2)
    for ours, theirs in zip(got, gradients(weight), strict=True):
        np.testing.assert_allclose(ours, factor * theirs, atol=1e-7)


def test_products_are_bfloat16_where_hidden_vectors_are_and_results_float32(cut):
    (hidden, kernel, bias), target, weight = example()
    # Values that bfloat16 holds exactly: only the slopes of the logits are rounded.
    hidden, kernel = (x.astype(jnp.bfloat16).astype(jnp.float32) for x in (hidden, kernel))
    wanted, gradients = plain((hidden, kernel, bias), target)

    def loss(hidden, kernel, bias):
        return linear_cross_entropy(hidden, kernel, bias, target, weight)

    value = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))
    (total, nll), got = value(hidden.astype(jnp.bfloat16), kernel, bias)
    assert [x.dtype for x in (total, nll, *got)] == [jnp.float32] * 2 + [jnp.bfloat16] + [jnp.float32] * 2
    np.testing.assert_allclose(nll, wanted, atol=2e-5)
    for ours, theirs in zip(got, gradients(weight), strict=True):
        np.testing.assert_allclose(ours.astype(jnp.float32), theirs, atol=2**-7 * np.abs(theirs).max())


def test_huge_logits_stay_finite(monkeypatch):
    hidden, kernel = jnp.full((1, 1), 1e4), jnp.array([[1.0], [-1.0], [0.5]])
    for block in (2, 3):
        monkeypatch.setattr(cross_entropy, "chunk_and_block", lambda size, words, whole=True, block=block: (1, block))
        loss, gradient = jax.value_and_grad(
            lambda h: linear_cross_entropy(h, kernel, jnp.zeros(3), jnp.array([1]), jnp.ones(1))[0]
        )(hidden)
        assert loss == 2e4
        np.testing.assert_allclose(gradient, [[2.0]])


@pytest.mark.parametrize("words", [1, 1000, cross_entropy.CPU.words, cross_entropy.CPU.words + 1, 793_471])
@pytest.mark.parametrize("size", [1, 5, 5120])
def test_chunks_and_blocks_fit_what_there_is_and_few_logits_are_alive(words, size):
    for whole in (True, False):
        chunk, block = cross_entropy.chunk_and_block(size, words, whole)
        assert 1 <= chunk <= size
        assert 1 <= block <= words
        assert chunk * block <= cross_entropy.CPU.logits
        assert whole or chunk <= cross_entropy.CPU.part


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("words", [4_000, 100_000])
def test_memory_is_that_of_the_gradients_and_of_a_chunk(words, dtype):
    """No logits of all positions, and no second table: neither a cast one nor a second sum of its gradient."""
    size, width = 5120, 32
    inputs = [
        jax.ShapeDtypeStruct(shape, kind)
        for shape, kind in [((size, width), dtype), ((words, width), jnp.float32), ((words,), jnp.float32)]
    ]
    target, weight = jax.ShapeDtypeStruct((size,), jnp.int32), jax.ShapeDtypeStruct((size,), jnp.float32)

    gradient = jax.jit(jax.grad(linear_cross_entropy, (0, 1, 2), has_aux=True)).lower(*inputs, target, weight).compile()
    plan = gradient.memory_analysis()
    table, logits = 4 * words * width, 4 * size * words
    assert plan.output_size_in_bytes < 1.1 * table + 4 * words + 8 * size * width
    chunk, block = cross_entropy.chunk_and_block(size, words)
    assert plan.temp_size_in_bytes < 16 * chunk * block + 16 * size * width + (3 * table if block == words else 0)
    assert plan.temp_size_in_bytes < logits / 2
