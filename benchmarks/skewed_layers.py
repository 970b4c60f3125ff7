"""Two LSTM layers whose cells advance together: the second one a position behind the first.

The second layer at a position needs the first one's output there and nothing later, so both layers of both directions
are four cells of one loop, which takes a step more. Its gradient is written by hand as that of one layer is
(``elmo_jax/model/recurrence.py``), so that the order of the steps alone is compared. S is the axis of the cells, layer
by layer, and R that of the products of a step: those of the states of all cells, then those of the second layer's
input.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from elmo_jax.model import recurrence as plain
from elmo_jax.model.lstm import lstm
from elmo_jax.model.recurrence import Carry, Params, Settings

State = list[Carry]


def stack(
    settings: Settings, layers: list[Params], x_DTBP: jax.Array, carry: State, reset_TB: jax.Array, keep_TB: jax.Array
) -> tuple[jax.Array, State]:
    """One layer after the other, as ``BiLM.stack`` has them: the second one with a skip connection, no dropout."""
    options: dict[str, Any] = {"cell_clip": settings.cell_clip, "proj_clip": settings.proj_clip}
    options |= {"dtype": settings.dtype, "stepwise": not settings.hoisted}
    y_DTBP, first = lstm(layers[0], x_DTBP, carry[0], reset_TB, keep_TB, **options)
    top_DTBP, second = lstm(layers[1], y_DTBP, carry[1], reset_TB, keep_TB, **options)
    return top_DTBP + y_DTBP, [first, second]


def skewed(
    settings: Settings, layers: list[Params], x_DTBP: jax.Array, carry: State, reset_TB: jax.Array, keep_TB: jax.Array
) -> tuple[jax.Array, State]:
    """The same as ``stack``, up to rounding; both layers have a projection."""
    together: Carry = jax.tree.map(lambda *values: jnp.concatenate(values), *carry)
    masks = (_shifted(*[mask_TB[None, ..., None].repeat(len(x_DTBP), 0)] * 2) for mask_TB in (reset_TB, keep_TB))
    y_STBP, end = _cells(settings, layers, x_DTBP, together, *masks)
    first, second = _layers(y_STBP)
    return first + second, [{name: value[part] for name, value in end.items()} for part in _halves(end["cell"])]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _cells(settings: Settings, layers: list[Params], x_DTBP: jax.Array, carry: Carry, *masks: jax.Array) -> Any:
    return _forward(settings, layers, x_DTBP, carry, *masks)[0]


def _forward(
    settings: Settings,
    layers: list[Params],
    x_DTBP: jax.Array,
    carry: Carry,
    reset_STB1: jax.Array,
    keep_STB1: jax.Array,
) -> Any:
    n, length = len(x_DTBP), x_DTBP.shape[1]
    kernel_RPG, bias_S1G, projection_SCP = _weights(settings, layers)
    u_DTBG = plain._loop_inputs(settings._replace(hoisted=True), layers[0], x_DTBP)

    def step(loop: Any, t: jax.Array) -> Any:
        state, saved = loop
        reset_SB1, keep_SB1 = plain._at(reset_STB1, t), plain._at(keep_STB1, t)
        before = {name: jnp.where(reset_SB1, 0, value) for name, value in state.items()}
        z_RBG = plain._product(jnp.concatenate([before["hidden"], state["hidden"][:n]]), kernel_RPG)
        # The first layer has nothing to do at the last step, whatever it reads there.
        first = z_RBG[:n] + plain._at(u_DTBG, jnp.minimum(t, length - 1))
        second = z_RBG[n : 2 * n] + z_RBG[2 * n :] + bias_S1G[n:]
        i, j, f, o = jnp.split(jnp.concatenate([first, second]), 4, axis=-1)
        i, j, f, o = jax.nn.sigmoid(i), jnp.tanh(j), jax.nn.sigmoid(f + 1), jax.nn.sigmoid(o)
        cell = plain._clip(f * before["cell"] + i * j, settings.cell_clip)
        hidden = plain._clip(plain._product(o * jnp.tanh(cell), projection_SCP), settings.proj_clip)
        state = {
            "cell": jnp.where(keep_SB1, cell, state["cell"]),
            "hidden": jnp.where(keep_SB1, hidden, state["hidden"]),
        }
        new = {"gates": jnp.concatenate([i, j, f, o], axis=-1), **state}
        return (state, {name: plain._put(saved[name], t, new[name]) for name in saved}), None

    sizes = {"gates": bias_S1G.shape[-1], **{name: value.shape[-1] for name, value in carry.items()}}
    empty = plain._empty(sizes, keep_STB1, carry["cell"].dtype)
    (end, saved), _ = jax.lax.scan(step, (carry, empty), jnp.arange(length + 1))
    y_STBP = jnp.where(keep_STB1, saved["hidden"], 0)
    return (y_STBP, end), (layers, x_DTBP, carry, reset_STB1, keep_STB1, saved)


def _backward(settings: Settings, residuals: Any, cotangents: Any) -> Any:
    layers, x_DTBP, carry, reset_STB1, keep_STB1, saved = residuals
    dy_STBP, d_carry = cotangents
    n, length = len(x_DTBP), x_DTBP.shape[1]
    kernel_RPG, _, projection_SCP = _weights(settings, layers)

    def step(loop: Any, t: jax.Array) -> Any:
        d_state, written = loop
        reset_SB1, keep_SB1 = plain._at(reset_STB1, t), plain._at(keep_STB1, t)
        d_hidden = jnp.where(keep_SB1, plain._at(dy_STBP, t) + d_state["hidden"], 0)
        d_hidden = plain._clipped(d_hidden, plain._at(saved["hidden"], t), settings.proj_clip)
        cells = plain._before(saved["cell"], carry["cell"], t, reset_SB1), plain._at(saved["cell"], t)
        d_out, d_cell = plain._product_t(d_hidden, projection_SCP), jnp.where(keep_SB1, d_state["cell"], 0)
        gates_SBG = plain._at(saved["gates"], t)
        dz_SBG, d_cell_before, out_SBC = plain._cell_gradient(settings, gates_SBG, cells, d_out, d_cell)
        d_inside = plain._product_t(jnp.concatenate([dz_SBG, dz_SBG[n:]]), kernel_RPG)
        d_before = {"cell": d_cell_before, "hidden": d_inside[: 2 * n]}
        d_state = {
            name: jnp.where(keep_SB1, jnp.where(reset_SB1, 0, d_before[name]), d_state[name]) for name in d_before
        }
        # What the second layer read is the state of the first one as it was left.
        below, above = jnp.split(d_state["hidden"], 2)
        d_state["hidden"] = jnp.concatenate([below + d_inside[2 * n :], above])
        new = {"z": dz_SBG, "out": out_SBC, "hidden": d_hidden}
        return (d_state, {name: plain._put(written[name], t, new[name]) for name in written}), None

    sizes = {"z": kernel_RPG.shape[-1], "out": carry["cell"].shape[-1], "hidden": carry["hidden"].shape[-1]}
    empty = plain._empty(sizes, keep_STB1, d_carry["cell"].dtype)
    (d_carry, written), _ = jax.lax.scan(step, (d_carry, empty), jnp.arange(length + 1), reverse=True)
    both = {name: jnp.concatenate([layers[0][name], layers[1][name]]) for name in layers[0]}
    # The inputs of both layers, as their cells read them.
    x_STBP = _shifted(x_DTBP, jnp.where(keep_STB1, saved["hidden"], 0)[:n, :length])
    kept = plain._Saved(x_STBP, None, saved["cell"], saved["hidden"], carry, reset_STB1, keep_STB1)
    grads, _ = plain._weight_gradients(settings, both, kept, written)
    dz_DNG = plain._flat(written["z"][:n, :length])
    dx_DNP = plain._product_t(dz_DNG, layers[0]["input_kernel"].astype(settings.dtype))
    each = [{name: value[part] for name, value in grads.items()} for part in _halves(x_STBP)]
    return each, dx_DNP.reshape(x_DTBP.shape).astype(x_DTBP.dtype), d_carry, None, None


_cells.defvjp(_forward, _backward)


def _weights(settings: Settings, layers: list[Params]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The kernels ``[R, P, G]`` of a step, biases ``[S, 1, G]`` and projections ``[S, C, P]``."""
    kernels = [layer["recurrent_kernel"] for layer in layers] + [layers[1]["input_kernel"]]
    bias_SG, projection_SCP = (jnp.concatenate([layer[name] for layer in layers]) for name in ("bias", "projection"))
    kernel_RPG = jnp.concatenate(kernels).astype(settings.dtype)
    return kernel_RPG, bias_SG[:, None], projection_SCP.astype(settings.dtype)


def _shifted(first_DTBX: jax.Array, second_DTBX: jax.Array) -> jax.Array:
    """What both layers have at each step of the loop, ``[S, T + 1, B, X]``: the second one's a step later."""
    after, before = ((0, 0), (0, 1), (0, 0), (0, 0)), ((0, 0), (1, 0), (0, 0), (0, 0))
    return jnp.concatenate([jnp.pad(first_DTBX, after), jnp.pad(second_DTBX, before)])


def _layers(y_STBX: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The inverse of ``_shifted``."""
    first, second = _halves(y_STBX)
    return y_STBX[first, :-1], y_STBX[second, 1:]


def _halves(x_SX: jax.Array) -> tuple[slice, slice]:
    """The cells of the first layer, and of the second."""
    n = len(x_SX) // 2
    return slice(0, n), slice(n, 2 * n)
