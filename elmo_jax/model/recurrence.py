"""The recurrence of the LSTM layers over a window, and its gradient, which is written by hand.

The inputs of all steps are one product outside of the loop. The loop back in time carries the gradient of the state
only, and every weight gradient is one product over all steps afterwards.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Params = dict[str, jax.Array]
# Cell state and projected output of the last step: {"cell": [D, B, C], "hidden": [D, B, P]}, float32.
Carry = dict[str, jax.Array]
# The recurrent kernel [D, P, 4C] and the projection [D, C, P] or None.
Weights = tuple[jax.Array, jax.Array | None]


class Settings(NamedTuple):
    """What does not change while a program runs: bounds on cell state and output, and the dtype of the products."""

    cell_clip: float | None
    proj_clip: float | None
    dtype: Any


class _Saved(NamedTuple):
    """What the backward pass needs besides the parameters."""

    x_DTBP: jax.Array
    gates_DTBG: jax.Array
    cell_DTBC: jax.Array
    hidden_DTBP: jax.Array
    carry: Carry
    reset_TB1: jax.Array
    keep_TB1: jax.Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrence(
    settings: Settings, params: Params, x_DTBP: jax.Array, carry: Carry, reset_TB1: jax.Array, keep_TB1: jax.Array
) -> tuple[jax.Array, Carry]:
    """Outputs ``[D, T, B, P]`` and the state after the window; see ``lstm``."""
    weights = _weights(params, settings.dtype)

    def step(carry: Carry, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
        t, reset_B1, keep_B1 = now
        _, new = _advance(settings, weights, _at(z_DTBG, t), carry, reset_B1, keep_B1)
        return new, jnp.where(keep_B1, new["hidden"], 0)

    z_DTBG = _gate_inputs(settings, params, x_DTBP)
    carry, y_TDBP = jax.lax.scan(step, carry, (jnp.arange(len(keep_TB1)), reset_TB1, keep_TB1))
    return y_TDBP.swapaxes(0, 1), carry


def _forward(
    settings: Settings, params: Params, x_DTBP: jax.Array, carry: Carry, reset_TB1: jax.Array, keep_TB1: jax.Array
) -> tuple[tuple[jax.Array, Carry], tuple[Params, _Saved]]:
    weights = _weights(params, settings.dtype)
    z_DTBG = _gate_inputs(settings, params, x_DTBP)
    d, t, b, _ = x_DTBP.shape
    states = {name: jnp.zeros((d, t, b, value.shape[-1]), value.dtype) for name, value in carry.items()}

    def step(loop: Any, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, None]:
        state, gates_DTBG, states = loop
        t, reset_B1, keep_B1 = now
        gates_DBG, state = _advance(settings, weights, _at(gates_DTBG, t), state, reset_B1, keep_B1)
        states = {name: _put(states[name], t, state[name]) for name in states}
        return (state, _put(gates_DTBG, t, gates_DBG), states), None

    steps = (jnp.arange(t), reset_TB1, keep_TB1)
    (end, gates_DTBG, states), _ = jax.lax.scan(step, (carry, z_DTBG, states), steps)
    y_DTBP = jnp.where(keep_TB1, states["hidden"], 0)
    saved = _Saved(x_DTBP, gates_DTBG, states["cell"], states["hidden"], carry, reset_TB1, keep_TB1)
    return (y_DTBP, end), (params, saved)


def _backward(settings: Settings, residuals: tuple[Params, _Saved], cotangents: tuple[jax.Array, Carry]) -> Any:
    params, saved = residuals
    (dy_DTBP, d_carry), (cell_clip, proj_clip, dtype) = cotangents, settings
    weights = _weights(params, dtype)
    kernel_DPG, projection_DCP = weights

    def step(loop: Any, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, None]:
        d_state, written = loop
        t, reset_B1, keep_B1 = now
        i, j, f, o = jnp.split(_at(saved.gates_DTBG, t), 4, axis=-1)
        cell, before = _at(saved.cell_DTBC, t), _at(saved.cell_DTBC, jnp.maximum(t - 1, 0))
        before = jnp.where(t == 0, saved.carry["cell"], before)
        before = jnp.where(reset_B1, 0, before)
        tanh_cell = jnp.tanh(cell)
        d_hidden = jnp.where(keep_B1, _at(dy_DTBP, t) + d_state["hidden"], 0)
        d_out = d_hidden
        if projection_DCP is not None:
            d_hidden = _clipped(d_hidden, _at(saved.hidden_DTBP, t), proj_clip)
            d_out = _product_t(d_hidden.astype(dtype), projection_DCP)
        d_cell = jnp.where(keep_B1, d_state["cell"], 0) + d_out * o * (1 - tanh_cell**2)
        d_cell = _clipped(d_cell, cell, cell_clip)
        d_gates = (d_cell * j * i * (1 - i), d_cell * i * (1 - j**2), d_cell * before * f * (1 - f))
        dz_DBG = jnp.concatenate([*d_gates, d_out * tanh_cell * o * (1 - o)], axis=-1)
        passed = jnp.where(keep_B1, 0, 1.0)
        ahead = jnp.where(reset_B1, 0, 1.0)
        d_state = {
            "cell": passed * d_state["cell"] + ahead * d_cell * f,
            "hidden": passed * d_state["hidden"] + ahead * _product_t(dz_DBG.astype(dtype), kernel_DPG),
        }
        new = {"z": dz_DBG, "out": o * tanh_cell, "hidden": d_hidden}
        return (d_state, {name: _put(written[name], t, new[name]) for name in written}), None

    steps = (jnp.arange(len(saved.keep_TB1)), saved.reset_TB1, saved.keep_TB1)
    # What a step reads and what it writes are apart: XLA copies a buffer at every step that does both here.
    like = {"z": saved.gates_DTBG, "out": saved.cell_DTBC, "hidden": saved.hidden_DTBP}
    if projection_DCP is None:
        del like["out"], like["hidden"]
    loop = (d_carry, jax.tree.map(jnp.zeros_like, like))
    (d_carry, written), _ = jax.lax.scan(step, loop, steps, reverse=True)
    dz_DTBG = written["z"]
    before_DTBP = jnp.concatenate([saved.carry["hidden"][:, None], saved.hidden_DTBP[:, :-1]], axis=1)
    before_DTBP = jnp.where(saved.reset_TB1, 0, before_DTBP)
    dz_DNG = _flat(dz_DTBG).astype(dtype)
    grads = {
        "input_kernel": _outer_product(_flat(saved.x_DTBP).astype(dtype), dz_DNG),
        "recurrent_kernel": _outer_product(_flat(before_DTBP).astype(dtype), dz_DNG),
        "bias": dz_DTBG.sum(axis=(1, 2)),
    }
    if projection_DCP is not None:
        out_DNC, d_hidden_DNP = _flat(written["out"]), _flat(written["hidden"])
        grads["projection"] = _outer_product(out_DNC.astype(dtype), d_hidden_DNP.astype(dtype))
    dx_DTBP = _product_t(dz_DNG, params["input_kernel"].astype(dtype)).reshape(saved.x_DTBP.shape)
    return grads, dx_DTBP.astype(saved.x_DTBP.dtype), d_carry, None, None


recurrence.defvjp(_forward, _backward)


def _weights(params: Params, dtype: Any) -> Weights:
    """What a step multiplies by."""
    projection = params.get("projection")
    return params["recurrent_kernel"].astype(dtype), None if projection is None else projection.astype(dtype)


def _gate_inputs(settings: Settings, params: Params, x_DTBP: jax.Array) -> jax.Array:
    """What the inputs contribute to the gates of all steps: only the recurrent half is left to the loop."""
    kernel_DPG = params["input_kernel"].astype(settings.dtype)
    z_DNG = product(_flat(x_DTBP).astype(settings.dtype), kernel_DPG) + params["bias"][:, None]
    return z_DNG.reshape(*x_DTBP.shape[:-1], z_DNG.shape[-1])


def _advance(
    settings: Settings, weights: Weights, z_DBG: jax.Array, carry: Carry, reset_B1: jax.Array, keep_B1: jax.Array
) -> tuple[jax.Array, Carry]:
    """One step from what its input contributes to the gates; see ``activate``."""
    kernel_DPG, projection_DCP = weights
    hidden_DBP = jnp.where(reset_B1, 0, carry["hidden"]).astype(settings.dtype)
    return activate(settings, projection_DCP, z_DBG + product(hidden_DBP, kernel_DPG), carry, reset_B1, keep_B1)


def activate(
    settings: Settings,
    projection_DCP: jax.Array | None,
    z_DBG: jax.Array,
    carry: Carry,
    reset_B1: jax.Array,
    keep_B1: jax.Array,
) -> tuple[jax.Array, Carry]:
    """One step from the sums z: the gates after their activations ``[D, B, 4C]``, and the state after it."""
    i, j, f, o = jnp.split(z_DBG, 4, axis=-1)
    i, j, f, o = jax.nn.sigmoid(i), jnp.tanh(j), jax.nn.sigmoid(f + 1), jax.nn.sigmoid(o)
    cell = _clip(f * jnp.where(reset_B1, 0, carry["cell"]) + i * j, settings.cell_clip)
    hidden = o * jnp.tanh(cell)
    if projection_DCP is not None:
        hidden = _clip(product(hidden.astype(settings.dtype), projection_DCP), settings.proj_clip)
    new = {"cell": jnp.where(keep_B1, cell, carry["cell"]), "hidden": jnp.where(keep_B1, hidden, carry["hidden"])}
    return jnp.concatenate([i, j, f, o], axis=-1), new


def _at(x_DTBX: jax.Array, t: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x_DTBX, t, axis=1, keepdims=False)


def _put(x_DTBX: jax.Array, t: jax.Array, x_DBX: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(x_DTBX, x_DBX, t, axis=1)


def _flat(x_DTBX: jax.Array) -> jax.Array:
    """All steps of all rows one after the other, ``[D, T * B, X]``."""
    d, t, b, x = x_DTBX.shape
    return x_DTBX.reshape(d, t * b, x)


def product(a_DNX: jax.Array, b_DXY: jax.Array) -> jax.Array:
    """``a @ b`` direction by direction, summed in float32 or better."""
    return _contract(a_DNX, b_DXY, 2, 1)


def _product_t(a_DNY: jax.Array, b_DXY: jax.Array) -> jax.Array:
    return _contract(a_DNY, b_DXY, 2, 2)


def _outer_product(a_DNX: jax.Array, b_DNY: jax.Array) -> jax.Array:
    return _contract(a_DNX, b_DNY, 1, 1)


def _contract(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    """The product over one axis of each, direction by direction."""
    dimensions = (((axis_a,), (axis_b,)), ((0,), (0,)))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def _clip(x: jax.Array, limit: float | None) -> jax.Array:
    return x if limit is None else jnp.clip(x, -limit, limit)


def _clipped(gradient: jax.Array, x: jax.Array, limit: float | None) -> jax.Array:
    """The gradient of what was clipped to ``x``."""
    return gradient if limit is None else jnp.where(jnp.abs(x) < limit, gradient, 0)
