"""`compact` and `keeping` equal the plain function on the rows in use, in values and gradients; the rest is zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model.compact import compact
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


@pytest.mark.parametrize("way", [compact, keeping])
@pytest.mark.parametrize("chunk", [1, 3, 4, 11, 50])
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
