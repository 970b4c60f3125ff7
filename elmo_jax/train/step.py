"""One training step and one evaluation step, as pure functions of one device's share of a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from elmo_jax.data.batches import Batch
from elmo_jax.model.bilm import BiLM
from elmo_jax.model.lstm import Carry
from elmo_jax.parallel import AXIS, BY_ROWS, REPLICATED

Metrics = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything a step changes.

    Attributes:
        step: int32 scalar, steps done.
        params: float32 parameter tree.
        opt_state: of the Optax optimiser.
        carry: LSTM state of every row, ``{"cell": [B, L, D, C], "hidden": [B, L, D, P]}``.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Carry


# How a TrainState is spread over devices.
_SPECS: dict[str, Any] = {"step": REPLICATED, "params": REPLICATED, "opt_state": REPLICATED, "carry": BY_ROWS}
STATE_SPECS = TrainState(**_SPECS)


def make_train_step(
    model: BiLM, optimizer: optax.GradientTransformation, *, loss_scale: float, seed: int, parts: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step ``(state, batch) -> (state, metrics)`` for one device.

    The loss is the mean over both directions and all kept positions of all devices, in nats; the gradient is that of
    ``loss_scale`` times it (bilm-tf multiplies by the window length). Dropout masks depend on (seed, step, global
    row) and sampled words on (seed, step), nothing on devices.

    Args:
        model: the network.
        optimizer: from ``make_optimizer``.
        loss_scale: factor of the loss whose gradient is taken.
        seed: of the run.
        parts: gradient-accumulation parts a device works off one after the other.

    Returns:
        A function for ``DataParallel.wrap``. Its metrics are sums over all devices: ``nll_forward``, ``nll_backward``
        (nats), ``count`` (kept positions); and the global norms ``gradient_norm`` of the scaled gradient before
        clipping, ``update_norm`` of what the optimiser adds to the parameters, and ``parameter_norm`` of their sum.
    """

    def part_sums(params: Any, batch: Batch, carry: Carry, key: jax.Array) -> tuple[jax.Array, Any]:
        keys_B = jax.vmap(lambda row: jax.random.fold_in(key, row + 1))(batch.row)
        layers, carry = _run(model, params, batch, carry, keys_B)
        nll_DTB: Any = model.apply(
            {"params": params}, layers[-1], _time_major(batch.targets), jax.random.fold_in(key, 0), method="nll"
        )
        sums = _sums(nll_DTB, batch)
        return sums["nll_forward"] + sums["nll_backward"], (sums, carry)

    gradient = jax.grad(part_sums, has_aux=True)

    def device_sums(params: Any, batch: Batch, carry: Carry, key: jax.Array) -> Any:
        if parts == 1:
            return gradient(params, batch, carry, key)

        def body(totals: Any, part: Any) -> Any:
            grads, (sums, new_carry) = gradient(params, *part, key)
            return jax.tree.map(jnp.add, totals, (grads, sums)), new_carry

        cut = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), (batch, carry))
        zeros = jax.tree.map(
            jnp.zeros_like, (params, dict.fromkeys(("nll_forward", "nll_backward", "count"), jnp.zeros(())))
        )
        (grads, sums), carry = jax.lax.scan(body, zeros, cut)
        return grads, (sums, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), carry))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, (sums, carry) = device_sums(state.params, batch, state.carry, key)
        grads, sums = jax.lax.psum((grads, sums), AXIS)
        factor = loss_scale / (2 * jnp.maximum(sums["count"], 1))
        grads = jax.tree.map(lambda g: g * factor, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        carry = jax.lax.stop_gradient(carry)
        trees = {"gradient_norm": grads, "update_norm": updates, "parameter_norm": params}
        metrics = {**sums, **{name: optax.tree.norm(tree) for name, tree in trees.items()}}
        return TrainState(state.step + 1, params, opt_state, carry), metrics

    return step


class EvalState(struct.PyTreeNode):
    """What an evaluation step needs: parameters and the carry of its own rows."""

    params: Any
    carry: Carry


EVAL_SPECS = EvalState(params=_SPECS["params"], carry=_SPECS["carry"])


def make_eval_step(model: BiLM) -> Callable[[EvalState, Batch], tuple[Carry, Metrics]]:
    """The step ``(state, batch) -> (carry, sums)`` for one device, without dropout and with the exact distribution.

    Sums are ``nll_forward``, ``nll_backward`` (nats) and ``count`` over all devices.
    """

    def step(state: EvalState, batch: Batch) -> tuple[Carry, Metrics]:
        layers, carry = _run(model, state.params, batch, state.carry, None)
        targets = _time_major(batch.targets)
        log_prob_DTB: Any = model.apply({"params": state.params}, layers[-1], targets, method="log_prob")
        return carry, jax.lax.psum(_sums(-log_prob_DTB, batch), AXIS)

    return step


def _run(
    model: BiLM, params: Any, batch: Batch, carry: Carry, keys_B: jax.Array | None
) -> tuple[list[jax.Array], Carry]:
    outputs: Any = model.apply(
        {"params": params},
        batch.chars,
        batch.n_types[0],
        _time_major(batch.index),
        batch.reset.T,
        batch.keep.T,
        carry,
        keys_B,
    )
    return outputs


def _time_major(x_BDT: Any) -> jax.Array:
    return x_BDT.transpose(1, 2, 0)


def _sums(nll_DTB: jax.Array, batch: Batch) -> Metrics:
    keep_TB = batch.keep.T.astype(jnp.float32)
    forward, backward = (nll_DTB * keep_TB).sum(axis=(1, 2))
    return {"nll_forward": forward, "nll_backward": backward, "count": keep_TB.sum()}
