"""Highway layers (Srivastava et al. 2015), with a gradient that keeps three arrays and no more."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from elmo_jax.model.products import outer_product, product, product_t

Params = dict[str, jax.Array]

KERNELS = ("carry_kernel", "transform_kernel")


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
    low_UF, kernels = x_UF.astype(dtype), {name: params[name].astype(dtype) for name in KERNELS}
    gate_UF = jax.nn.sigmoid(product(low_UF, kernels["carry_kernel"]) + params["carry_bias"])
    new_UF = jax.nn.relu(product(low_UF, kernels["transform_kernel"]) + params["transform_bias"])
    return gate_UF * new_UF + (1 - gate_UF) * x_UF, (kernels, x_UF, gate_UF, new_UF)


def _backward(dtype: Any, saved: Any, dy_UF: jax.Array) -> tuple[Params, jax.Array]:
    kernels, x_UF, gate_UF, new_UF = saved
    dz = {
        "carry": dy_UF * (new_UF - x_UF) * gate_UF * (1 - gate_UF),
        "transform": dy_UF * jnp.where(new_UF > 0, gate_UF, 0),
    }
    grads, dx_UF, low_UF = {}, dy_UF * (1 - gate_UF), x_UF.astype(dtype)
    for name, dz_UF in dz.items():
        low_dz_UF = dz_UF.astype(dtype)
        grads[f"{name}_kernel"] = outer_product(low_UF[None], low_dz_UF[None])[0]
        grads[f"{name}_bias"] = dz_UF.sum(axis=0)
        dx_UF += product_t(low_dz_UF, kernels[f"{name}_kernel"])
    return grads, dx_UF


highway.defvjp(_forward, _backward)
