"""Products with weights, and their gradients: in the dtype of the products, summed in float32 or better."""

from typing import Any

import jax
import jax.numpy as jnp


@jax.custom_vjp
def product(x_NX: jax.Array, weights_XY: jax.Array) -> jax.Array:
    """``x @ weights``; both in the dtype of the products, the sum in float32 or better, ``[..., Y]``.

    Args:
        x_NX: any number of dimensions before the last.
        weights_XY: of the same dtype.
    """
    return jnp.matmul(x_NX, weights_XY, preferred_element_type=_sum_dtype(x_NX))


def _forward(x_NX: jax.Array, weights_XY: jax.Array) -> tuple[jax.Array, Any]:
    return product(x_NX, weights_XY), (x_NX, weights_XY)


def _backward(saved: Any, dy_NY: jax.Array) -> tuple[jax.Array, jax.Array]:
    x_NX, weights_XY = saved
    dy_NY = dy_NY.astype(x_NX.dtype)
    dx_NX = product_t(dy_NY, weights_XY)
    rows = (x.reshape(1, -1, x.shape[-1]) for x in (x_NX, dy_NY))
    return dx_NX.astype(x_NX.dtype), outer_product(*rows)[0].astype(weights_XY.dtype)


product.defvjp(_forward, _backward)


def product_t(x_NY: jax.Array, weights_XY: jax.Array) -> jax.Array:
    """``x @ weights^T``, ``[..., X]``, as ``product``; its gradient is JAX's own.

    Not with ``weights.T``: where a transposition stands before a bfloat16 product, XLA computes it in float32 on CPU.
    """
    dimensions = (((x_NY.ndim - 1,), (1,)), ((), ()))
    return jax.lax.dot_general(x_NY, weights_XY, dimensions, preferred_element_type=_sum_dtype(x_NY))


def outer_product(a_DNX: jax.Array, b_DNY: jax.Array) -> jax.Array:
    """``a^T @ b`` for each d, ``[D, X, Y]``.

    On CPU a bfloat16 product whose left side is to be turned first runs at half the rate. So it is turned before, in
    two halves: one transposition XLA would make part of the product again. And each d is a product of its own: of one
    over several d whose result is turned, XLA (JAX 0.10.2) makes one that it then cannot run.
    """
    if a_DNX.dtype != jnp.bfloat16 or jax.default_backend() != "cpu":
        return contract(a_DNX, b_DNY, 1, 1)
    halves = jnp.array_split(a_DNX, 2, axis=2)
    a_DXN = jnp.concatenate([half.swapaxes(1, 2) for half in halves], axis=1)
    return jnp.concatenate([contract(a_DXN[d : d + 1], b_DNY[d : d + 1], 2, 1) for d in range(len(a_DXN))])


def contract(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    """The product over one axis of each, for each index of their first axis."""
    dimensions = (((axis_a,), (axis_b,)), ((0,), (0,)))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=_sum_dtype(a))


def _sum_dtype(x: jax.Array) -> Any:
    return jnp.promote_types(x.dtype, jnp.float32)
