"""Highway layers (Srivastava et al. 2015), with a gradient that keeps three arrays and no more."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Params = dict[str, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def highway(dtype: Any, params: Params, x_UF: jax.Array) -> jax.Array:
    """``g relu(x W_t + b_t) + (1 - g) x`` with ``g = sigmoid(x W_c + b_c)``, float32 ``[U, F]``.

    bilm-tf calls g the carry gate; it weighs the transformed part.

    Args:
        dtype: of the products; sums are float32 or better.
        params: ``carry_kernel`` and ``transform_kernel`` ``[F, F]``, ``carry_bias`` and ``transform_bias`` ``[F]``.
        x_UF: float32.
    """
    return _forward(dtype, params, x_UF)[0]


def _forward(dtype: Any, params: Params, x_UF: jax.Array) -> tuple[jax.Array, Any]:
    gate_UF = jax.nn.sigmoid(_product(x_UF, params["carry_kernel"], dtype) + params["carry_bias"])
    new_UF = jax.nn.relu(_product(x_UF, params["transform_kernel"], dtype) + params["transform_bias"])
    return gate_UF * new_UF + (1 - gate_UF) * x_UF, (params, x_UF, gate_UF, new_UF)


def _backward(dtype: Any, saved: Any, dy_UF: jax.Array) -> tuple[Params, jax.Array]:
    params, x_UF, gate_UF, new_UF = saved
    d_gate_UF = dy_UF * (new_UF - x_UF) * gate_UF * (1 - gate_UF)
    d_new_UF = jnp.where(new_UF > 0, dy_UF * gate_UF, 0)
    grads = {
        "carry_kernel": _product(x_UF.T, d_gate_UF, dtype),
        "carry_bias": d_gate_UF.sum(axis=0),
        "transform_kernel": _product(x_UF.T, d_new_UF, dtype),
        "transform_bias": d_new_UF.sum(axis=0),
    }
    dx_UF = _product(d_gate_UF, params["carry_kernel"].T, dtype) + _product(
        d_new_UF, params["transform_kernel"].T, dtype
    )
    return grads, dx_UF + dy_UF * (1 - gate_UF)


highway.defvjp(_forward, _backward)


def _product(a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    return jnp.matmul(a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.promote_types(dtype, jnp.float32))
