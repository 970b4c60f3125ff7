"""The blocked cross entropy equals the plain one, in values and gradients, for any blocks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model.cross_entropy import linear_cross_entropy

N, WIDTH, WORDS = 7, 5, 23


@pytest.mark.parametrize("max_logits", [1, N * 4, N * 7, N * 22, 10_000])
@pytest.mark.parametrize("targets", ["mixed", "all first", "all last"])
def test_equals_log_softmax(max_logits, targets):
    rng = np.random.default_rng(0)
    hidden, kernel, bias = (
        jnp.asarray(3 * rng.normal(size=s), jnp.float32) for s in ((N, WIDTH), (WORDS, WIDTH), WORDS)
    )
    target = {"mixed": rng.integers(0, WORDS, N), "all first": np.zeros(N, int), "all last": np.full(N, WORDS - 1)}[
        targets
    ]
    weight = jnp.asarray(rng.normal(size=N), jnp.float32)

    def plain(hidden, kernel, bias):
        return -jax.nn.log_softmax(hidden @ kernel.T + bias)[jnp.arange(N), target]

    def blocked(hidden, kernel, bias):
        return linear_cross_entropy(hidden, kernel, bias, jnp.asarray(target), max_logits)

    np.testing.assert_allclose(blocked(hidden, kernel, bias), plain(hidden, kernel, bias), atol=2e-5)
    gradients = [
        jax.grad(lambda *a, f=f: (f(*a) * weight).sum(), (0, 1, 2))(hidden, kernel, bias) for f in (blocked, plain)
    ]
    for got, wanted in zip(*gradients, strict=True):
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_huge_logits_stay_finite():
    hidden, kernel = jnp.full((1, 1), 1e4), jnp.array([[1.0], [-1.0], [0.5]])
    loss, gradient = jax.value_and_grad(
        lambda h: linear_cross_entropy(h, kernel, jnp.zeros(3), jnp.array([1]), 2).sum()
    )(hidden)
    assert loss == 2e4
    np.testing.assert_allclose(gradient, [[2.0]])
