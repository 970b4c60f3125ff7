"""How fast this process multiplies matrices, at given shapes."""

import functools
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from step_work import Product

# How long a measurement should take, and how many there are of each shape.
SECONDS, MEASUREMENTS = 0.05, 5
# A product of two arrays, so many times.
Run = Callable[[jax.Array, jax.Array, int], Any]
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
    """Operations a second of one shape: the best of four ways to have it computed, each a median.

    Either side may stand on the left, and the product may be called again and again or stand in a loop. Large ones are
    faster called, as a loop copies what it changes, and small ones in a loop, which calls cost more than.
    """
    m = max(1, min(product.m, LARGEST // (product.batch * product.n)))
    one = replace(product, m=m, times=1.0)
    sides = {(one.m, one.n), (one.n, one.m)}
    return max(_rate(replace(one, m=m, n=n), dtype, run) for m, n in sides for run in (_looped, _called))


def _rate(one: Product, dtype: Any, run: Run) -> float:
    a = jnp.ones((one.batch, one.m, one.k), dtype) / one.k
    b = jnp.ones((one.batch, one.k, one.n), dtype)
    n = max(1, round(SECONDS / _seconds(run, a, b, 1)))
    if n > 1:
        n = max(n, round(SECONDS * n / _seconds(run, a, b, n)))
    return one.flop * n / statistics.median(_seconds(run, a, b, n) for _ in range(MEASUREMENTS))


def _seconds(run: Run, a: jax.Array, b: jax.Array, n: int) -> float:
    jax.block_until_ready(run(a, b, 1))
    start = time.perf_counter()
    jax.block_until_ready(run(a, b, n))
    return time.perf_counter() - start


def _called(a: jax.Array, b: jax.Array, n: int) -> jax.Array:
    """The product ``n`` times, the next one asked for while one runs; only one result is held."""
    for _ in range(n):
        result = _product(a, b)
    return result


def _looped(a: jax.Array, b: jax.Array, n: int) -> Any:
    return _repeated(a, b, jnp.zeros((len(a), a.shape[1], b.shape[2]), jnp.float32), n)


@jax.jit
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


@jax.jit
def _repeated(a: jax.Array, b: jax.Array, c: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The product ``n`` times; each depends on the one before it, so that none is left out."""

    def once(_: jax.Array, loop: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        a, c = loop
        a = a.at[0, 0, 0].set((0.5 * c[0, 0, 0]).astype(a.dtype))
        return a, _product(a, b)

    result: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(0, n, once, (a, c))
    return result
