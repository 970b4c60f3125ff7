"""Cross entropy of a linear output layer, without ever holding all its logits."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Logits alive at once, forward or backward: 2^24 float32 values are 64 MiB.
MAX_LOGITS = 2**24


def linear_cross_entropy(
    hidden_NP: jax.Array, kernel_VP: jax.Array, bias_V: jax.Array, target_N: jax.Array, max_logits: int = MAX_LOGITS
) -> jax.Array:
    """``-log softmax(hidden @ kernel.T + bias)[target]`` for every position.

    The vocabulary is worked off in blocks, with a running log-sum-exp forward and recomputed probabilities backward
    (the online softmax of Milakov and Gimelshein 2018). Products take the dtype of ``hidden_NP``; sums and results
    are float32.

    Args:
        hidden_NP: float ``[positions, width]``.
        kernel_VP: float ``[words, width]``.
        bias_V: float32 ``[words]``.
        target_N: int32 ``[positions]``, each in ``[0, words)``.
        max_logits: largest number of logits held at once.

    Returns:
        float32 ``[positions]``, in nats.
    """
    n_words = kernel_VP.shape[0]
    block = min(n_words, max(1, max_logits // hidden_NP.shape[0]))
    return _cross_entropy(hidden_NP, kernel_VP, bias_V, target_N, block)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _cross_entropy(hidden: jax.Array, kernel: jax.Array, bias: jax.Array, target: jax.Array, block: int) -> jax.Array:
    return _forward(hidden, kernel, bias, target, block)[0]


def _forward(
    hidden: jax.Array, kernel: jax.Array, bias: jax.Array, target: jax.Array, block: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    n = hidden.shape[0]

    def body(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        top, total, chosen = sums
        logits, start, _ = _block_logits(hidden, kernel, bias, i, block)
        new_top = jnp.maximum(top, logits.max(axis=1))
        total = total * jnp.exp(top - new_top) + jnp.exp(logits - new_top[:, None]).sum(axis=1)
        place = target - start
        here = (target >= i * block) & (place < block)
        value = jnp.take_along_axis(logits, jnp.clip(place, 0, block - 1)[:, None], axis=1)[:, 0]
        return new_top, total, jnp.where(here, value, chosen)

    first = (jnp.full(n, -jnp.inf), jnp.zeros(n), jnp.zeros(n))
    top, total, chosen = jax.lax.fori_loop(0, _n_blocks(kernel, block), body, first)
    log_total = top + jnp.log(total)
    return log_total - chosen, (hidden, kernel, bias, target, log_total)


def _backward(block: int, saved: tuple[jax.Array, ...], cotangent_N: jax.Array) -> tuple[Any, ...]:
    hidden, kernel, bias, target, log_total = saved

    def body(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        d_hidden, d_kernel, d_bias = sums
        logits, start, rows = _block_logits(hidden, kernel, bias, i, block)
        wanted = (start + jnp.arange(block))[None, :] == target[:, None]
        # A word that an earlier block has had shows up here with probability 0 and must not be wanted twice.
        wanted &= (target >= i * block)[:, None]
        d_logits = (jnp.exp(logits - log_total[:, None]) - wanted) * cotangent_N[:, None]
        products = d_logits.astype(hidden.dtype)
        d_hidden += _product(products, rows)
        d_kernel = _add_at(d_kernel, _product(products.T, hidden), start, block)
        return d_hidden, d_kernel, _add_at(d_bias, d_logits.sum(axis=0), start, block)

    zeros = (jnp.zeros(hidden.shape), jnp.zeros(kernel.shape), jnp.zeros(bias.shape))
    d_hidden, d_kernel, d_bias = jax.lax.fori_loop(0, _n_blocks(kernel, block), body, zeros)
    no_gradient = np.zeros(target.shape, jax.dtypes.float0)
    return d_hidden.astype(hidden.dtype), d_kernel.astype(kernel.dtype), d_bias.astype(bias.dtype), no_gradient


_cross_entropy.defvjp(_forward, _backward)


def _n_blocks(kernel: jax.Array, block: int) -> int:
    return -(-kernel.shape[0] // block)


def _block_logits(
    hidden: jax.Array, kernel: jax.Array, bias: jax.Array, i: jax.Array, block: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logits of block ``i``, the word it starts at, and its kernel rows.

    The last block starts early enough to fit: words before ``i * block``, which an earlier one has had, are -inf.
    """
    start = jnp.minimum(i * block, kernel.shape[0] - block)
    rows = jax.lax.dynamic_slice_in_dim(kernel, start, block, 0).astype(hidden.dtype)
    logits = _product(hidden, rows.T) + jax.lax.dynamic_slice_in_dim(bias, start, block, 0)
    return jnp.where(start + jnp.arange(block) >= i * block, logits, -jnp.inf), start, rows


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _add_at(total: jax.Array, part: jax.Array, start: jax.Array, block: int) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(
        total, jax.lax.dynamic_slice_in_dim(total, start, block, 0) + part, start, 0
    )
