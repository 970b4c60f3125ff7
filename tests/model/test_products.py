"""Products and their gradients against plain ones, in both dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model.highway import highway
from elmo_jax.model.products import outer_product, product


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("leading", [(), (4,), (3, 5)], ids=str)
def test_a_product_and_its_gradients_are_the_plain_ones(leading, dtype, bound):
    x, weights, weight = arrays((*leading, 7), (7, 6), (*leading, 6))

    def loss(multiply):
        return lambda x, w: (multiply(x.astype(dtype), w.astype(dtype)).astype(jnp.float32) * weight).sum()

    got, wanted = (jax.value_and_grad(loss(f), (0, 1))(x, weights) for f in (product, jnp.matmul))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=4 * bound, rtol=bound), got, wanted)
    assert product(x.astype(dtype), weights.astype(dtype)).dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_an_outer_product_sums_over_rows_in_float32(dtype):
    a, b = (x.astype(dtype) for x in arrays((2, 9, 3), (2, 9, 4)))
    wanted = np.einsum("dnx,dny->dxy", np.asarray(a, np.float64), np.asarray(b, np.float64))
    np.testing.assert_allclose(outer_product(a, b), wanted, atol=1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(jnp.float32, 1e-5), (jnp.bfloat16, 5e-2)])
def test_a_highway_layer_and_its_gradients_are_those_of_its_equation(dtype, bound):
    names = ("carry_kernel", "transform_kernel", "carry_bias", "transform_bias")
    *values, x, weight = arrays((6, 6), (6, 6), (6,), (6,), (9, 6), (9, 6))
    params = dict(zip(names, values, strict=True))

    def plain(params, x):
        gate = jax.nn.sigmoid(x @ params["carry_kernel"] + params["carry_bias"])
        return gate * jax.nn.relu(x @ params["transform_kernel"] + params["transform_bias"]) + (1 - gate) * x

    def loss(layer):
        return lambda params, x: (layer(params, x) * weight).sum()

    functions = (lambda params, x: highway(dtype, params, x)), plain
    got, wanted = (jax.value_and_grad(loss(f), (0, 1))(params, x) for f in functions)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=10 * bound, rtol=bound), got, wanted)
