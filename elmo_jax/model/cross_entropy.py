"""Cross entropy of a linear output layer, with its gradient, without ever holding all its logits."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elmo_jax.model.compact import add, over_chunks, put, scaled, take, weighted_sum
from elmo_jax.model.products import outer_product, product, product_t


@dataclass(frozen=True)
class Cut:
    """How many logits are alive at once.

    Attributes:
        words: up to so many are one block, whose logits are computed once; those of more words are computed twice.
        logits: of one block; positions of a chunk follow from it.
        part: positions of a chunk at most, where only a part of them counts: the last chunk is computed whole.
        chunk: positions, where there are several blocks: a tail of rare words has few.
        block: words, where there are several blocks.
    """

    words: int
    logits: int
    part: int
    chunk: int
    block: int


# On a CPU what stays in its caches (docs/performance.md); elsewhere enough to be busy with, 256 MiB.
CPU = Cut(words=2**14, logits=2**20, part=2**6, chunk=32, block=2**12)
ACCELERATOR = Cut(words=2**17, logits=2**26, part=2**10, chunk=512, block=2**17)


def linear_cross_entropy(
    hidden_NP: jax.Array,
    kernel_VP: jax.Array,
    bias_V: jax.Array,
    target_N: jax.Array,
    weight_N: jax.Array,
    n: jax.Array | int | None = None,
    first: jax.Array | int = 0,
) -> tuple[jax.Array, jax.Array]:
    """The weighted sum of ``-log softmax(hidden @ kernel.T + bias)[target]``, and its terms without their weights.

    Where the gradient of the sum is wanted, it is computed with the sum (as Hsu et al. 2024 do): logits live in one
    chunk of positions and one block of words at a time. Where all words are one block, the gradient follows in the
    same pass; otherwise a first pass over the blocks finds the log-sum-exp (the online softmax of Milakov and
    Gimelshein 2018), a second one the gradient. Products take the dtype of ``hidden_NP``, to which words are cast a
    block at a time; sums and results are float32.

    Args:
        hidden_NP: float ``[positions, width]``.
        kernel_VP: float ``[words, width]``.
        bias_V: float32 ``[words]``.
        target_N: int32 ``[positions]``, each in ``[0, words)`` where it counts.
        weight_N: float32 ``[positions]``; no gradient flows to it.
        n: int32 scalar, positions that count; None for all.
        first: int32 scalar, the first of them.

    Returns:
        The sum, float32, and float32 ``[positions]`` in nats, zero where not counted. The terms are a report: no
        gradient flows through them.
    """
    size, (n_words, _) = len(target_N), kernel_VP.shape
    weight_N = jax.lax.stop_gradient(weight_N)
    whole, n, first = n is None, jnp.int32(size if n is None else n), jnp.int32(first)
    chunk, block = chunk_and_block(size, n_words, whole)
    if block == n_words:
        # With positions leading in both factors, the gradient of the kernel is the faster product.
        layer = {"kernel_PV": kernel_VP.T, "bias_V": bias_V}
        rows = {"hidden_NP": hidden_NP, "target_N": target_N}
        return weighted_sum(_nll, layer, rows, weight_N, n, chunk, first)
    total, nll_N = _blocked(chunk, block, hidden_NP, kernel_VP, bias_V, target_N, weight_N, n, first)
    return total, jax.lax.stop_gradient(nll_N)


def chunk_and_block(size: int, n_words: int, whole: bool = True) -> tuple[int, int]:
    """Positions and words whose logits are alive at once; blocks are alike, so that the last repeats few words.

    Args:
        size: positions.
        n_words: of the layer.
        whole: all positions count.
    """
    cut = CPU if jax.default_backend() == "cpu" else ACCELERATOR
    if n_words <= cut.words:
        return min(size, max(1, cut.logits // n_words), size if whole else cut.part), n_words
    return min(size, cut.chunk), -(-n_words // -(-n_words // cut.block))


def _nll(layer: dict[str, jax.Array], rows: dict[str, jax.Array]) -> jax.Array:
    kernel_PV = layer["kernel_PV"].astype(rows["hidden_NP"].dtype)
    logits_NV = product(rows["hidden_NP"], kernel_PV) + layer["bias_V"]
    wanted_NV = jnp.arange(kernel_PV.shape[1]) == rows["target_N"][:, None]
    return jax.nn.logsumexp(logits_NV, axis=1) - jnp.where(wanted_NV, logits_NV, 0).sum(axis=1)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _blocked(
    chunk: int,
    block: int,
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    target: jax.Array,
    weight: jax.Array,
    n: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    nll, _ = _log_sums(chunk, block, hidden, kernel, bias, target, n, first)
    return (nll * weight).sum(), nll


def _forward(chunk: int, block: int, *arguments: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Any]:
    hidden, kernel, bias, target, weight, n, first = arguments
    nll, log_sum = _log_sums(chunk, block, hidden, kernel, bias, target, n, first)

    def of_block(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        d_hidden, d_kernel, d_bias = sums
        part, part_bias, word, start = _words(kernel, bias, i, block, hidden.dtype)

        def of_chunk(at: tuple[jax.Array, jax.Array], sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            d_hidden, d_part, d_part_bias = sums
            row, fresh = at
            rows, goal, level, factor = take((hidden, target, log_sum, weight), row, len(fresh))
            factor = jnp.where(fresh, factor, 0)[:, None]
            probability = jnp.exp(product_t(rows, part) + part_bias - level[:, None])
            d_logits = probability * factor - jnp.where(word == goal[:, None], factor, 0)
            products = d_logits.astype(hidden.dtype)
            # The gradient of the kernel with positions leading in both factors: the faster product.
            return (
                add(d_hidden, product(products, part), row),
                d_part + outer_product(rows[None], products[None])[0],
                d_part_bias + d_logits.sum(axis=0),
            )

        zeros = (d_hidden, jnp.zeros(part.T.shape), jnp.zeros(block))
        d_hidden, d_part, d_part_bias = over_chunks(of_chunk, zeros, len(target), n, chunk, first)
        return d_hidden, add(d_kernel, d_part.T, start), add(d_bias, d_part_bias, start)

    zeros = (jnp.zeros(hidden.shape), jnp.zeros(kernel.shape), jnp.zeros(bias.shape))
    d_hidden, d_kernel, d_bias = jax.lax.fori_loop(0, _n_blocks(kernel, block), of_block, zeros)
    gradients = d_hidden.astype(hidden.dtype), d_kernel.astype(kernel.dtype), d_bias.astype(bias.dtype)
    return ((nll * weight).sum(), nll), gradients


def _backward(chunk: int, block: int, gradients: Any, cotangents: Any) -> tuple[Any, ...]:
    d_hidden, d_kernel, d_bias = scaled(gradients, cotangents[0])
    none = np.zeros((), jax.dtypes.float0)
    d_weight = jnp.zeros(len(d_hidden))
    return d_hidden, d_kernel, d_bias, np.zeros(len(d_hidden), jax.dtypes.float0), d_weight, none, none


_blocked.defvjp(_forward, _backward)


def _log_sums(
    chunk: int,
    block: int,
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    target: jax.Array,
    n: jax.Array,
    first: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The loss and the log-sum-exp of the logits of every position that counts, zero for the others."""
    size = len(target)

    def of_block(i: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        part, part_bias, word, _ = _words(kernel, bias, i, block, hidden.dtype)

        def of_chunk(at: tuple[jax.Array, jax.Array], sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            row, fresh = at
            rows, goal = take((hidden, target), row, len(fresh))
            old_top, old_total, old_chosen = old = take(sums, row, len(fresh))
            logits = product_t(rows, part) + part_bias
            top = jnp.maximum(old_top, logits.max(axis=1))
            total = old_total * jnp.exp(old_top - top) + jnp.exp(logits - top[:, None]).sum(axis=1)
            chosen = old_chosen + jnp.where(word == goal[:, None], logits, 0).sum(axis=1)
            new = (top, total, chosen)
            return tuple(put(s, jnp.where(fresh, a, b), row) for s, a, b in zip(sums, new, old, strict=True))

        return over_chunks(of_chunk, sums, size, n, chunk, first)

    start = (jnp.full(size, -jnp.inf), jnp.zeros(size), jnp.zeros(size))
    top, total, chosen = jax.lax.fori_loop(0, _n_blocks(kernel, block), of_block, start)
    row = jnp.arange(size)
    counts = (row >= first) & (row < first + n)
    log_sum = jnp.where(counts, top + jnp.log(total), 0)
    return jnp.where(counts, log_sum - chosen, 0), log_sum


def _n_blocks(kernel: jax.Array, block: int) -> int:
    return -(-len(kernel) // block)


def _words(
    kernel: jax.Array, bias: jax.Array, i: jax.Array, block: int, dtype: Any
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Kernel rows, biases and numbers of the words of block ``i``, and its first word.

    The last block starts early enough to fit: words that an earlier one has had have the bias -inf and no number.
    """
    start = jnp.minimum(i * block, len(kernel) - block)
    part, part_bias = take((kernel, bias), start, block)
    word = start + jnp.arange(block)
    fresh = word >= i * block
    return part.astype(dtype), jnp.where(fresh, part_bias, -jnp.inf), jnp.where(fresh, word, -1), start
