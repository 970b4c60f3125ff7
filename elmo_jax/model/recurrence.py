"""The recurrence of the LSTM layers over a window, and its gradient, which is written by hand.

The loop back in time carries the gradient of the state only, and every weight gradient is one product over all steps
afterwards. What a step reads and what it writes are different arrays: XLA copies one that it does both with.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from elmo_jax.model.products import contract, outer_product

Params = dict[str, jax.Array]
# Cell state and projected output of the last step: {"cell": [D, B, C], "hidden": [D, B, P]}, float32.
Carry = dict[str, jax.Array]


class Settings(NamedTuple):
    """What does not change while a program runs.

    Attributes:
        cell_clip: bound on the cell state, or None.
        proj_clip: bound on the projected output, or None.
        dtype: of the products.
        hoisted: the inputs of all steps are one product outside of the loop. Otherwise a step multiplies its input
            and the state before it together.
        recompute_gates: the loop back in time computes the gates of its step again; otherwise those of all steps are
            kept.
        turned: the loop forward multiplies with its kernel turned and on the left, as the loop back does with the
            kernel as it is.
    """

    cell_clip: float | None
    proj_clip: float | None
    dtype: Any
    hoisted: bool
    recompute_gates: bool = False
    turned: bool = False


class _Weights(NamedTuple):
    """What the loops multiply by: the kernel of the state, and of the input unless hoisted, and the projection.

    The kernel is ``[D, Q, 4C]``; turned, ``[D, 4C, Q]``.
    """

    kernel: jax.Array
    bias_D1G: jax.Array
    projection_DCP: jax.Array | None


class _Saved(NamedTuple):
    """What the backward pass needs besides the parameters; gates unless it computes them again."""

    x_DTBP: jax.Array
    gates_DTBG: jax.Array | None
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
    advance, u_DTBX = _stepper(settings, params), _loop_inputs(settings, params, x_DTBP)

    def step(carry: Carry, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
        t, reset_B1, keep_B1 = now
        _, new = advance(_at(u_DTBX, t), carry, reset_B1, keep_B1)
        return new, jnp.where(keep_B1, new["hidden"], 0)

    carry, y_TDBP = jax.lax.scan(step, carry, (jnp.arange(keep_TB1.shape[0]), reset_TB1, keep_TB1))
    return y_TDBP.swapaxes(0, 1), carry


def _forward(
    settings: Settings, params: Params, x_DTBP: jax.Array, carry: Carry, reset_TB1: jax.Array, keep_TB1: jax.Array
) -> tuple[tuple[jax.Array, Carry], tuple[Params, _Saved]]:
    advance, u_DTBX = _stepper(settings, params), _loop_inputs(settings, params, x_DTBP)

    def step(loop: Any, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, None]:
        state, saved = loop
        t, reset_B1, keep_B1 = now
        gates_DBG, state = advance(_at(u_DTBX, t), state, reset_B1, keep_B1)
        new = {"gates": gates_DBG, **state}
        return (state, {name: _put(saved[name], t, new[name]) for name in saved}), None

    sizes = {name: value.shape[-1] for name, value in carry.items()}
    if not settings.recompute_gates:
        sizes["gates"] = params["bias"].shape[-1]
    empty, times = _empty(sizes, x_DTBP, carry["cell"].dtype), jnp.arange(x_DTBP.shape[1])
    (end, saved), _ = jax.lax.scan(step, (carry, empty), (times, reset_TB1, keep_TB1))
    y_DTBP = jnp.where(keep_TB1, saved["hidden"], 0)
    kept = _Saved(x_DTBP, saved.get("gates"), saved["cell"], saved["hidden"], carry, reset_TB1, keep_TB1)
    return (y_DTBP, end), (params, kept)


def _backward(settings: Settings, residuals: tuple[Params, _Saved], cotangents: tuple[jax.Array, Carry]) -> Any:
    params, saved = residuals
    dy_DTBP, d_carry = cotangents
    kernel_DQG, _, projection_DCP = _weights(settings._replace(turned=False), params)
    gates_at = _gate_reader(settings, params, saved)

    def step(loop: Any, now: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[Any, None]:
        d_state, written = loop
        t, reset_B1, keep_B1 = now
        d_hidden = jnp.where(keep_B1, _at(dy_DTBP, t) + d_state["hidden"], 0)
        d_out = d_hidden
        if projection_DCP is not None:
            d_hidden = _clipped(d_hidden, _at(saved.hidden_DTBP, t), settings.proj_clip)
            d_out = _product_t(d_hidden, projection_DCP)
        cells = _before(saved.cell_DTBC, saved.carry["cell"], t, reset_B1), _at(saved.cell_DTBC, t)
        d_cell = jnp.where(keep_B1, d_state["cell"], 0)
        dz_DBG, d_cell_before, out_DBC = _cell_gradient(settings, gates_at(t, reset_B1), cells, d_out, d_cell)
        d_inside = _product_t(dz_DBG, kernel_DQG)
        # Unless hoisted, the gradient of the input comes first.
        *dx, d_hidden_before = jnp.split(d_inside, 1 if settings.hoisted else 2, axis=-1)
        new = {"z": dz_DBG, "out": out_DBC, "hidden": d_hidden, **dict(zip(["x"], dx, strict=False))}
        # Padding passes the gradient of the state on, a reset stops it.
        d_before = {"cell": d_cell_before, "hidden": d_hidden_before}
        d_state = {name: jnp.where(keep_B1, jnp.where(reset_B1, 0, d_before[name]), d_state[name]) for name in d_before}
        return (d_state, {name: _put(written[name], t, new[name]) for name in written}), None

    steps = (jnp.arange(saved.keep_TB1.shape[0]), saved.reset_TB1, saved.keep_TB1)
    c, p = d_carry["cell"].shape[-1], saved.x_DTBP.shape[-1]
    sizes = {"z": 4 * c} | ({} if settings.hoisted else {"x": p})
    sizes |= {} if projection_DCP is None else {"out": c, "hidden": p}
    empty = _empty(sizes, saved.x_DTBP, d_carry["cell"].dtype)
    (d_carry, written), _ = jax.lax.scan(step, (d_carry, empty), steps, reverse=True)
    grads, dx_DTBP = _weight_gradients(settings, params, saved, written)
    return grads, dx_DTBP.astype(saved.x_DTBP.dtype), d_carry, None, None


recurrence.defvjp(_forward, _backward)


def _stepper(settings: Settings, params: Params) -> Any:
    """A step forward: from what the loop reads and the state, the gates ``[D, B, 4C]`` and the new state."""
    weights = _weights(settings, params)
    projection_DCP = weights.projection_DCP

    def advance(u_DBX: jax.Array, carry: Carry, reset_B1: jax.Array, keep_B1: jax.Array) -> tuple[jax.Array, Carry]:
        i, j, f, o = _gates(settings, weights, u_DBX, jnp.where(reset_B1, 0, carry["hidden"]))
        cell = _clip(f * jnp.where(reset_B1, 0, carry["cell"]) + i * j, settings.cell_clip)
        hidden = o * jnp.tanh(cell)
        if projection_DCP is not None:
            hidden = _clip(_product(hidden, projection_DCP), settings.proj_clip)
        new = {"cell": jnp.where(keep_B1, cell, carry["cell"]), "hidden": jnp.where(keep_B1, hidden, carry["hidden"])}
        return jnp.concatenate([i, j, f, o], axis=-1), new

    return advance


def _gates(settings: Settings, weights: _Weights, u_DBX: jax.Array, before_DBP: jax.Array) -> list[jax.Array]:
    """The gates i, j, f, o ``[D, B, C]`` of a step, from what the loop reads and the hidden state before."""
    before_DBP = before_DBP.astype(settings.dtype)
    multiply = _product_t if settings.turned else _product
    if settings.hoisted:
        z_DBG = u_DBX + multiply(before_DBP, weights.kernel)
    else:
        z_DBG = multiply(jnp.concatenate([u_DBX, before_DBP], axis=-1), weights.kernel) + weights.bias_D1G
    i, j, f, o = jnp.split(z_DBG, 4, axis=-1)
    return [jax.nn.sigmoid(i), jnp.tanh(j), jax.nn.sigmoid(f + 1), jax.nn.sigmoid(o)]


def _gate_reader(settings: Settings, params: Params, saved: _Saved) -> Any:
    """The gates ``[D, B, 4C]`` at a step, for the loop back in time: those kept, or computed again.

    Computed again, a step multiplies its input and the state before it together, however it was done forward: what
    the inputs of all steps contribute is as large as the gates.
    """
    if saved.gates_DTBG is not None:
        return lambda t, _: _at(saved.gates_DTBG, t)
    settings = settings._replace(hoisted=False)
    weights, u_DTBP = _weights(settings, params), _loop_inputs(settings, params, saved.x_DTBP)

    def again(t: jax.Array, reset_B1: jax.Array) -> jax.Array:
        before_DBP = _before(saved.hidden_DTBP, saved.carry["hidden"], t, reset_B1)
        return jnp.concatenate(_gates(settings, weights, _at(u_DTBP, t), before_DBP), axis=-1)

    return again


def _cell_gradient(
    settings: Settings, gates_DBG: jax.Array, cells: tuple[jax.Array, jax.Array], d_out: jax.Array, d_cell: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients of the sums z ``[D, B, 4C]`` and of the cell state before, and the output before its projection."""
    before, cell = cells
    i, j, f, o = jnp.split(gates_DBG, 4, axis=-1)
    tanh_cell = jnp.tanh(cell)
    d_cell = _clipped(d_cell + d_out * o * (1 - tanh_cell**2), cell, settings.cell_clip)
    d_gates = (d_cell * j * i * (1 - i), d_cell * i * (1 - j**2), d_cell * before * f * (1 - f))
    dz_DBG = jnp.concatenate([*d_gates, d_out * tanh_cell * o * (1 - o)], axis=-1)
    return dz_DBG, d_cell * f, o * tanh_cell


def _weight_gradients(
    settings: Settings, params: Params, saved: _Saved, written: dict[str, jax.Array]
) -> tuple[Params, jax.Array]:
    """Gradients of the parameters and of the inputs, from what the loop back in time has written."""
    before_DTBP = jnp.concatenate([saved.carry["hidden"][:, None], saved.hidden_DTBP[:, :-1]], axis=1)
    before_DTBP = jnp.where(saved.reset_TB1, 0, before_DTBP)
    dz_DNG = _flat(written["z"]).astype(settings.dtype)
    # One product, as the gradient of the gates is by far the largest array here.
    inside_DTBQ = jnp.concatenate([saved.x_DTBP.astype(before_DTBP.dtype), before_DTBP], axis=-1)
    kernels_DQG = outer_product(_flat(inside_DTBQ).astype(settings.dtype), dz_DNG)
    input_kernel, recurrent_kernel = jnp.split(kernels_DQG, [saved.x_DTBP.shape[-1]], axis=1)
    grads = {
        "input_kernel": input_kernel,
        "recurrent_kernel": recurrent_kernel,
        "bias": written["z"].sum(axis=(1, 2)),
    }
    if "projection" in params:
        d_hidden_DNP, out_DNC = (_flat(written[name]).astype(settings.dtype) for name in ("hidden", "out"))
        grads["projection"] = outer_product(d_hidden_DNP, out_DNC).swapaxes(1, 2)
    if "x" in written:
        return grads, written["x"]
    dx_DNP = _product_t(dz_DNG, params["input_kernel"].astype(settings.dtype))
    return grads, dx_DNP.reshape(saved.x_DTBP.shape)


def _weights(settings: Settings, params: Params) -> _Weights:
    kernels = [params["recurrent_kernel"]] if settings.hoisted else [params["input_kernel"], params["recurrent_kernel"]]
    kernel = jnp.concatenate([kernel.astype(settings.dtype) for kernel in kernels], axis=1)
    if settings.turned:
        kernel = kernel.swapaxes(1, 2)
    projection = params.get("projection")
    projection = None if projection is None else projection.astype(settings.dtype)
    return _Weights(kernel, params["bias"][:, None], projection)


def _loop_inputs(settings: Settings, params: Params, x_DTBP: jax.Array) -> jax.Array:
    """What the loop reads: the inputs ``[D, T, B, P]``, or what they contribute to the gates ``[D, T, B, 4C]``."""
    x_DTBP = x_DTBP.astype(settings.dtype)
    if not settings.hoisted:
        return x_DTBP
    z_DNG = _product(_flat(x_DTBP), params["input_kernel"].astype(settings.dtype)) + params["bias"][:, None]
    return z_DNG.reshape(*x_DTBP.shape[:-1], z_DNG.shape[-1])


def _at(x_DTBX: jax.Array, t: jax.Array) -> jax.Array:
    return jax.lax.dynamic_index_in_dim(x_DTBX, t, axis=1, keepdims=False)


def _put(x_DTBX: jax.Array, t: jax.Array, x_DBX: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_index_in_dim(x_DTBX, x_DBX, t, axis=1)


def _before(x_DTBX: jax.Array, start_DBX: jax.Array, t: jax.Array, reset_B1: jax.Array) -> jax.Array:
    """The state that step ``t`` starts from, of the states after all steps and that before the window."""
    before_DBX = jnp.where(t == 0, start_DBX, _at(x_DTBX, jnp.maximum(t - 1, 0)))
    return jnp.where(reset_B1, 0, before_DBX)


def _empty(sizes: dict[str, int], like_DTBX: jax.Array, dtype: Any) -> dict[str, jax.Array]:
    """Arrays ``[D, T, B, size]`` for a loop to write into."""
    return {name: jax.lax.empty((*like_DTBX.shape[:-1], size), dtype) for name, size in sizes.items()}


def _flat(x_DTBX: jax.Array) -> jax.Array:
    """All steps of all rows one after the other, ``[D, T * B, X]``."""
    d, t, b, x = x_DTBX.shape
    return x_DTBX.reshape(d, t * b, x)


def _product(a_DNX: jax.Array, weights_DXY: jax.Array) -> jax.Array:
    """``a @ weights`` direction by direction."""
    return contract(a_DNX.astype(weights_DXY.dtype), weights_DXY, 2, 1)


def _product_t(a_DNY: jax.Array, weights_DXY: jax.Array) -> jax.Array:
    """``a @ weights^T``. The right side of a product is rearranged each time on CPU: so weights stand on the left."""
    return contract(weights_DXY, a_DNY.astype(weights_DXY.dtype), 2, 2).swapaxes(1, 2)


def _clip(x: jax.Array, limit: float | None) -> jax.Array:
    return x if limit is None else jnp.clip(x, -limit, limit)


def _clipped(gradient: jax.Array, x: jax.Array, limit: float | None) -> jax.Array:
    """The gradient of what was clipped to ``x``."""
    return gradient if limit is None else jnp.where(jnp.abs(x) < limit, gradient, 0)
