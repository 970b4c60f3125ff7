"""How fast this process multiplies matrices, at given shapes."""

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from step_work import Product

# How long a measurement should take, and how many there are of each shape.
SECONDS, MEASUREMENTS = 0.05, 5
# Larger results are measured a part at a time: elements.
LARGEST = 1 << 26


def rates(products: Iterable[Product], dtype: Any) -> dict[str, float]:
    """Operations a second of each part of a step, and ``all``: that of the step if it were nothing but its products."""
    work: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    for product in products:
        for part in (product.part, "all"):
            work[part] += product.flop
            seconds[part] += product.flop / rate(product, dtype)
    return {part: work[part] / seconds[part] for part in work}


@functools.cache
def rate(product: Product, dtype: Any) -> float:
    """Operations a second of one shape: a median."""
    m = max(1, min(product.m, LARGEST // (product.batch * product.n)))
    one = replace(product, m=m, times=1.0)
    a = jnp.ones((one.batch, m, one.k), dtype) / one.k
    b = jnp.ones((one.batch, one.k, one.n), dtype)
    c = jnp.zeros((one.batch, m, one.n), jnp.float32)
    taken = _seconds(a, b, c, 1)
    n = max(1, round(SECONDS / taken))
    if n > 1:
        n = max(n, round(SECONDS * n / _seconds(a, b, c, n)))
    return one.flop * n / statistics.median(_seconds(a, b, c, n) for _ in range(MEASUREMENTS))


def _seconds(a: jax.Array, b: jax.Array, c: jax.Array, n: int) -> float:
    jax.block_until_ready(_repeated(a, b, c, 1))
    start = time.perf_counter()
    jax.block_until_ready(_repeated(a, b, c, n))
    return time.perf_counter() - start


@jax.jit
def _repeated(a: jax.Array, b: jax.Array, c: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The product ``n`` times; each depends on the one before it, so that none is left out."""

    def once(_: jax.Array, loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, c = loop
        a = a.at[0, 0, 0].set((0.5 * c[0, 0, 0]).astype(a.dtype))
        return a, jnp.matmul(a, b, preferred_element_type=jnp.float32)

    result: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, n, once, (a, c))
    return result
