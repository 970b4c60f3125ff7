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
from elmo_jax.parallel import BY_ROWS, REPLICATED, total
from elmo_jax.train.averaging import moving_average

Metrics = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything a step changes.

    Attributes:
        step: int32 scalar, steps done.
        params: float32 parameter tree.
        opt_state: of the Optax optimiser.
        carry: LSTM state of every row, ``{"cell": [B, L, D, C], "hidden": [B, L, D, P]}``.
        average: the moving average of ``params``, when there is one.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    carry: Carry
    average: Any = None

    @property
    def learnt(self) -> Any:
        """The weights that are evaluated, kept as the best and exported: the average, when there is one."""
        return self.params if self.average is None else self.average

    def split(self) -> tuple[Any, dict[str, Any]]:
        """The two trees of a checkpoint: ``learnt``, which every tool reads, and what else training needs to go on."""
        raw = None if self.average is None else self.params
        return self.learnt, {"step": self.step, "opt_state": self.opt_state, "carry": self.carry, "raw": raw}

    @classmethod
    def join(cls, learnt: Any, rest: dict[str, Any]) -> "TrainState":
        """The inverse of ``split``."""
        step, opt_state, carry, raw = (rest[name] for name in ("step", "opt_state", "carry", "raw"))
        if raw is None:
            return cls(step, learnt, opt_state, carry)
        return cls(step, raw, opt_state, carry, average=learnt)


# How a TrainState is spread over devices.
_SPECS: dict[str, Any] = {
    "step": REPLICATED,
    "params": REPLICATED,
    "opt_state": REPLICATED,
    "carry": BY_ROWS,
    "average": REPLICATED,
}
STATE_SPECS = TrainState(**_SPECS)


def make_train_step(
    model: BiLM,
    optimizer: optax.GradientTransformation,
    *,
    loss_scale: float,
    seed: int,
    parts: int = 1,
    ema_decay: float | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The step ``(state, batch) -> (state, metrics)`` for one device.

    The loss is the mean over the directions and all kept positions of all devices, in nats; the gradient is that of
    ``loss_scale`` times it (bilm-tf multiplies by the window length). Dropout masks depend on (seed, step, global
    row) and sampled words on (seed, step), nothing on devices.

    Args:
        model: the network.
        optimizer: from ``make_optimizer``.
        loss_scale: factor of the loss whose gradient is taken.
        seed: of the run.
        parts: gradient-accumulation parts a device works off one after the other.
        ema_decay: of the moving average of the weights; None for a state without one.

    Returns:
        A function for ``DataParallel.wrap``. Its metrics are sums over all devices: ``nll_forward`` and, if there is
        that direction, ``nll_backward`` (nats), ``count`` (kept positions); and the global norms ``gradient_norm`` of
        the scaled gradient before clipping, ``update_norm`` of what the optimiser adds to the parameters, and
        ``parameter_norm`` of their sum.
    """
    names = tuple(f"nll_{direction}" for direction in model.config.directions)

    def part_sums(params: Any, batch: Batch, carry: Carry, key: jax.Array) -> tuple[jax.Array, Any]:
        keys_B = jax.vmap(lambda row: jax.random.fold_in(key, row + 1))(batch.row)
        layers, carry = _run(model, params, batch, carry, keys_B)
        targets = _time_major(batch.targets)
        weight_DTB = jnp.broadcast_to(batch.keep.T.astype(jnp.float32), targets.shape)
        outputs: Any = model.apply(
            {"params": params}, layers[-1], targets, weight_DTB, jax.random.fold_in(key, 0), method="loss"
        )
        loss, nll_DTB = outputs
        return loss, (_sums(model, nll_DTB, batch), carry)

    gradient = jax.grad(part_sums, has_aux=True)

    def device_sums(params: Any, batch: Batch, carry: Carry, key: jax.Array) -> Any:
        if parts == 1:
            return gradient(params, batch, carry, key)

        def body(totals: Any, part: Any) -> Any:
            grads, (sums, new_carry) = gradient(params, *part, key)
            return jax.tree.map(jnp.add, totals, (grads, sums)), new_carry

        cut = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), (batch, carry))
        zeros = jax.tree.map(jnp.zeros_like, (params, dict.fromkeys((*names, "count"), jnp.zeros(()))))
        (grads, sums), carry = jax.lax.scan(body, zeros, cut)
        return grads, (sums, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), carry))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, (sums, carry) = device_sums(state.params, batch, state.carry, key)
        grads, sums = total((grads, sums))
        factor = loss_scale / (len(names) * jnp.maximum(sums["count"], 1))
        grads = jax.tree.map(lambda g: g * factor, grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        average = None if ema_decay is None else moving_average(state.average, params, ema_decay, state.step + 1)
        carry = jax.lax.stop_gradient(carry)
        trees = {"gradient_norm": grads, "update_norm": updates, "parameter_norm": params}
        metrics = {**sums, **{name: optax.tree.norm(tree) for name, tree in trees.items()}}
        return TrainState(state.step + 1, params, opt_state, carry, average), metrics

    return step


class EvalState(struct.PyTreeNode):
    """What an evaluation step needs: parameters and the carry of its own rows."""

    params: Any
    carry: Carry


EVAL_SPECS = EvalState(params=_SPECS["params"], carry=_SPECS["carry"])


def make_eval_step(model: BiLM) -> Callable[[EvalState, Batch], tuple[Carry, Metrics]]:
    """The step ``(state, batch) -> (carry, sums)`` for one device, without dropout and with the exact distribution.

    Sums are ``nll_forward``, ``nll_backward`` (nats; of a forward-only model only the first) and ``count`` over all
    devices.
    """

    def step(state: EvalState, batch: Batch) -> tuple[Carry, Metrics]:
        layers, carry = _run(model, state.params, batch, state.carry, None)
        targets = _time_major(batch.targets)
        log_prob_DTB: Any = model.apply({"params": state.params}, layers[-1], targets, method="log_prob")
        return carry, total(_sums(model, -log_prob_DTB, batch))

    return step


def _run(
    model: BiLM, params: Any, batch: Batch, carry: Carry, keys_B: jax.Array | None
) -> tuple[list[jax.Array], Carry]:
    outputs: Any = model.apply(
        {"params": params},
        batch.types,
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


def _sums(model: BiLM, nll_DTB: jax.Array, batch: Batch) -> Metrics:
    keep_TB = batch.keep.T.astype(jnp.float32)
    nll_D = (nll_DTB * keep_TB).sum(axis=(1, 2))
    sums = {f"nll_{direction}": nll for direction, nll in zip(model.config.directions, nll_D, strict=True)}
    return {**sums, "count": keep_TB.sum()}
