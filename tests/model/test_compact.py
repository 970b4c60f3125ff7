"""`compact` and `keeping` equal the plain function on the rows in use, in values and gradients; the rest is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model.compact import compact, weighted_sum
from elmo_jax.model.keeping import keeping

ROWS = 11


def affine(params, rows):
    """Integer leaves on both sides: a choice of column and a sign for each row."""
    return jnp.tanh(rows["x"] @ params["kernel"])[:, params["columns"]] * rows["sign"][:, None]


def example():
    rng = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32), "columns": jnp.array([2, 0, 1])}
    rows = {
        "x": jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32),
        "sign": jnp.asarray(rng.choice([-1, 1], ROWS), jnp.int32),
    }
    return params, rows, jnp.asarray(rng.normal(size=(ROWS, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("way", "chunk"), [*((compact, chunk) for chunk in (1, 3, 4, 11, 50)), (keeping, 4), (keeping, 50)]
)
@pytest.mark.parametrize("n", [0, 1, 4, 10, 11])
def test_equals_the_plain_function_on_the_first_rows_and_zero_on_the_rest(n, chunk, way):
    params, rows, weight = example()
    used = (jnp.arange(ROWS) < n)[:, None]

    def loss(function, kernel, x):
        return (function({**params, "kernel": kernel}, {**rows, "x": x}) * weight).sum()

    def plain(params, rows):
        return jnp.where(used, affine(params, rows), 0)

    def compacted(params, rows):
        return way(affine, params, rows, jnp.int32(n), chunk)

    got = jax.jit(compacted)(params, rows)
    np.testing.assert_allclose(got, jax.jit(plain)(params, rows), atol=1e-6)
    assert not got[n:].any()
    arguments = (params["kernel"], rows["x"])
    got = jax.jit(jax.grad(loss, (1, 2)), static_argnums=0)(compacted, *arguments)
    wanted = jax.jit(jax.grad(loss, (1, 2)), static_argnums=0)(plain, *arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), got, wanted)


@pytest.mark.parametrize("chunk", [1, 3, 50])
@pytest.mark.parametrize(("first", "n"), [(0, ROWS), (2, 5), (7, 4), (10, 1), (ROWS, 0)])
def test_a_range_of_rows_and_its_weighted_sum_have_the_values_and_gradients_of_the_plain_function(first, n, chunk):
    params, rows, weight = example()
    row = jnp.arange(ROWS)
    used = (row >= first) & (row < first + n)

    def squares(params, rows):
        return jnp.square(affine(params, rows)).sum(axis=1)

    def plain(kernel, x):
        return jnp.where(used, squares({**params, "kernel": kernel}, {**rows, "x": x}), 0)

    def arguments(kernel, x):
        return squares, {**params, "kernel": kernel}, {**rows, "x": x}

    def compacted(kernel, x):
        return (compact(*arguments(kernel, x), jnp.int32(n), chunk, jnp.int32(first)) * weight[:, 0]).sum()

    def summed(kernel, x):
        total, values = weighted_sum(*arguments(kernel, x), weight[:, 0], jnp.int32(n), chunk, jnp.int32(first))
        return 3 * total, values

    inputs = params["kernel"], rows["x"]
    wanted, slopes = jax.jit(jax.value_and_grad(lambda *a: (plain(*a) * weight[:, 0]).sum(), (0, 1)))(*inputs)
    (total, values), tripled = jax.jit(jax.value_and_grad(summed, (0, 1), has_aux=True))(*inputs)
    np.testing.assert_allclose(values, plain(*inputs), atol=1e-5)
    np.testing.assert_allclose(total, 3 * wanted, atol=1e-5)
    same = jax.jit(jax.grad(compacted, (0, 1)))(*inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), same, slopes)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, 3 * b, atol=3e-5), tripled, slopes)
    # Without a gradient there is another path; and through the values there is none.
    np.testing.assert_allclose(jax.jit(summed)(*inputs)[1], values, atol=1e-6)
    assert not any(g.any() for g in jax.grad(lambda *a: summed(*a)[1].sum(), (0, 1))(*inputs))


def test_the_sum_of_a_range_computes_nothing_twice():
    seen = []

    def counted(params, rows):
        jax.debug.callback(lambda _: seen.append(1), rows[0])
        return rows * params

    def total(params):
        return weighted_sum(counted, params, jnp.ones(100), jnp.ones(100), jnp.int32(25), 10, jnp.int32(40))[0]

    assert jax.jit(jax.grad(total))(jnp.float32(2)) == 25
    jax.effects_barrier()
    assert len(seen) == 3


def test_work_follows_the_rows_in_use():
    seen = []

    def counted(params, rows):
        jax.debug.callback(lambda _: seen.append(1), rows[0, 0])
        return rows * params

    jax.block_until_ready(compact(counted, jnp.float32(2), jnp.ones((100, 1)), jnp.int32(25), 10))
    jax.effects_barrier()
    assert len(seen) == 3


def test_keeping_stores_what_belongs_to_rows_for_every_chunk_and_parameters_once():
    kernel, x = jnp.ones((3, 500)), jnp.ones((64, 3))

    def output(kernel):
        return keeping(lambda w, x: jnp.tanh(x @ w), kernel, x, jnp.int32(20), 8)

    kept = jax.eval_shape(lambda kernel: jax.vjp(output, kernel)[1], kernel)
    shapes = [leaf.shape for leaf in jax.tree.leaves(kept)]
    assert (64 // 8, 8, 500) in shapes
    assert sum(shape[-2:] == kernel.shape for shape in shapes) == 1
