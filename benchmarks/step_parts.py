"""Where the time of a training step goes: its parts, each run alone on one device with the data of a step."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from elmo_jax.data.batches import Batch
from elmo_jax.train.program import Program

RUNS = 5


def milliseconds_of_parts(program: Program, state: Any, batch: Batch) -> dict[str, float]:
    """Medians in milliseconds. Encoder and softmax with their gradients; the optimiser with clipping.

    The LSTM's forward pass is that without a gradient; its backward pass is what the gradient takes besides, which
    includes what it has kept. Dropout is part of both.

    Args:
        program: of the run.
        state: of the training; the optimiser takes its parameters away.
        batch: of a step, for one device.
    """
    model, config, params = program.model, program.inputs.config, state.params
    directions, (rows, length) = len(config.model.directions), batch.reset.shape
    x_DTBP = jax.random.normal(jax.random.key(0), (directions, length, rows, config.model.lstm.projection_dim))
    x_DTBP = x_DTBP.astype(model.dtype)
    targets_DTB = jnp.asarray(batch.targets).transpose(1, 2, 0)
    keys_B = jax.random.split(jax.random.key(1), rows)
    flow = jnp.asarray(batch.reset.T), jnp.asarray(batch.keep.T), state.carry, keys_B

    def encoder(params: Any) -> jax.Array:
        encoded: Any = model.apply({"params": params}, batch.types, batch.n_types[0], method="encode")
        return encoded.astype(jnp.float32).sum()

    def stack(params: Any, x_DTBP: jax.Array) -> jax.Array:
        layers, _ = model.apply({"params": params}, x_DTBP, *flow, method="stack")
        top: jax.Array = layers[-1]
        return top.astype(jnp.float32).sum()

    def softmax(params: Any, x_DTBP: jax.Array) -> jax.Array:
        weights, key = jnp.ones(targets_DTB.shape), jax.random.key(0)
        outputs: Any = model.apply({"params": params}, x_DTBP, targets_DTB, weights, key, method="loss")
        total: jax.Array = outputs[0]
        return total

    def part(name: str) -> dict[str, Any]:
        return {key: value for key, value in params.items() if key.startswith(name)}

    forward = _milliseconds(jax.jit(stack), part("lstm"), x_DTBP)
    both = _milliseconds(jax.jit(jax.grad(stack, (0, 1))), part("lstm"), x_DTBP)
    heads = part("softmax") or params  # a table that the encoder shares with the softmax
    return {
        "encoder": _milliseconds(jax.jit(jax.grad(encoder)), part("encoder")),
        "lstm_forward": forward,
        "lstm_backward": both - forward,
        "softmax": _milliseconds(jax.jit(jax.grad(softmax, (0, 1))), heads, x_DTBP.astype(jnp.float32)),
        "optimiser": _optimiser(program, state),
    }


def _optimiser(program: Program, state: Any) -> float:
    """Milliseconds of an update in place."""

    def update(params: Any, opt_state: Any, grads: Any) -> Any:
        updates, opt_state = program.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    compiled = jax.jit(update, donate_argnums=(0, 1))
    grads = jax.tree.map(lambda x: jnp.full_like(x, 1e-3), state.params)
    both, times = (state.params, state.opt_state), []
    for _ in range(RUNS + 2):
        begin = time.perf_counter()
        both = jax.block_until_ready(compiled(*both, grads))
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[2:])


def _milliseconds(function: Callable[..., Any], *arguments: Any) -> float:
    """The median time of a compiled function, which runs twice before."""
    times = []
    for _ in range(RUNS + 2):
        begin = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[2:])
