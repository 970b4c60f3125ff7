"""The gradient of the character convolution in two forms, inside a loop as the encoder runs it.

    python benchmarks/encoder.py

A product of all windows with the kernel, and XLA's own convolution. The forms take turns; prints one JSON line with the
medians in milliseconds and their ratio.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from elmo_jax.model.char_cnn import _max_convolution

TYPES, CHARACTERS, WIDTH, FILTERS, EMBEDDING = 256, 50, 4, 128, 16


def xla_convolution(x_UCE: jax.Array, kernel_wEF: jax.Array) -> jax.Array:
    """The largest response of XLA's convolution."""
    layout = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x_UCE, kernel_wEF, (1,), "VALID", dimension_numbers=layout).max(axis=1)


def product(x_UCE: jax.Array, kernel_wEF: jax.Array) -> jax.Array:
    """The largest response as the encoder computes it."""
    return _max_convolution(x_UCE, kernel_wEF, jnp.zeros(FILTERS))


def looped(gradient: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The gradient at ``value``, ``n`` times in a loop whose length the compiler does not know."""

    def run(value: jax.Array, n: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, n, lambda _, total: total + gradient(value + 0 * total), jnp.zeros_like(value))

    return jax.jit(run)


def main() -> None:
    """Time both forms in turn and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    x_UCE = jax.random.normal(jax.random.key(0), (TYPES, CHARACTERS, EMBEDDING))
    kernel_wEF = 0.05 * jax.random.normal(jax.random.key(1), (WIDTH, EMBEDDING, FILTERS))
    forms = {"product": product, "xla": xla_convolution}
    programs = {name: looped(jax.grad(lambda k, f=form: f(x_UCE, k).sum())) for name, form in forms.items()}
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(kernel_wEF, jnp.int32(1)))
            if turn:  # the first compiles
                times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: round(statistics.median(values), 2) for name, values in times.items()}
    ratio = round(medians["xla"] / medians["product"], 2)
    print(json.dumps({"backend": jax.default_backend(), **medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
