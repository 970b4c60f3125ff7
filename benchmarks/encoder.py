"""The layers of the character encoder in other forms: loss and gradient of one chunk of types, one JSON line each.

    python benchmarks/encoder.py --size small --characters 16
    python benchmarks/encoder.py --size original --characters 50 --dtype bfloat16

Convolution: ``windows``, a product of all windows with the kernel, as the encoder computes it; ``xla``, XLA's own; and
``lookup``, one table for each offset of the kernel with what every character contributes there, whose rows are
summed: fewer operations than products where characters are few, and no product of tokens at all. Highway layer: ``two
products``, one for each gate, as the encoder has it, and ``one product`` with both kernels side by side.

All forms of a layer take turns; times are medians by the clock and of the processor. A chunk stands in a loop whose
length the compiler does not know, as in the encoder.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from timing import in_turn

from elmo_jax.config import CharCNN
from elmo_jax.config_io import experiment
from elmo_jax.model.char_cnn import types_at_a_time
from elmo_jax.model.convolution import largest_responses
from elmo_jax.model.highway import highway

# Ids of characters, those of boundaries and padding included (ELMO_SPEC 1.2).
CHARACTERS = 262

Form = Callable[..., jax.Array]


def windows(kernels: list[jax.Array], table: jax.Array, chars_UC: jax.Array, dtype: Any) -> jax.Array:
    """The largest responses as the encoder computes them, float32 ``[U, F]``."""
    return largest_responses(kernels, table, chars_UC, None, dtype)


def xla(kernels: list[jax.Array], table: jax.Array, chars_UC: jax.Array, dtype: Any) -> jax.Array:
    """The same by XLA's convolution."""
    x_UCE, layout = table.astype(dtype)[chars_UC], ("NWC", "WIO", "NWC")
    responses = (
        jax.lax.conv_general_dilated(x_UCE, kernel.astype(dtype), (1,), "VALID", dimension_numbers=layout)
        for kernel in kernels
    )
    return jnp.concatenate([y_UCF.max(axis=1).astype(jnp.float32) for y_UCF in responses], axis=-1)


def lookup(kernels: list[jax.Array], table: jax.Array, chars_UC: jax.Array, dtype: Any) -> jax.Array:
    """The same by sums of looked-up rows: character c at offset u of a window contributes ``table[c] @ kernel[u]``."""
    largest = []
    for kernel_wEF in kernels:
        n = chars_UC.shape[1] - len(kernel_wEF) + 1
        tables_wVF = jnp.einsum("ve,wef->wvf", table.astype(dtype), kernel_wEF.astype(dtype))
        y_UCF = sum(tables_wVF[u][chars_UC[:, u : u + n]].astype(jnp.float32) for u in range(len(kernel_wEF)))
        largest.append(jnp.asarray(y_UCF).max(axis=1))
    return jnp.concatenate(largest, axis=-1)


def two_products(params: dict[str, jax.Array], x_UF: jax.Array, dtype: Any) -> jax.Array:
    """A highway layer as the encoder computes it, float32 ``[U, F]``."""
    return highway(dtype, params, x_UF)


def one_product(params: dict[str, jax.Array], x_UF: jax.Array, dtype: Any) -> jax.Array:
    """The same with the sums of both gates in one product of twice the width."""
    kernels = jnp.concatenate([params["carry_kernel"], params["transform_kernel"]], axis=1).astype(dtype)
    z_UF = jnp.matmul(x_UF.astype(dtype), kernels, preferred_element_type=jnp.float32)
    gate_UF, new_UF = jnp.split(z_UF, 2, axis=-1)
    gate_UF = jax.nn.sigmoid(gate_UF + params["carry_bias"])
    return gate_UF * jax.nn.relu(new_UF + params["transform_bias"]) + (1 - gate_UF) * x_UF


CONVOLUTIONS: dict[str, Form] = {"windows": windows, "xla": xla, "lookup": lookup}
HIGHWAYS: dict[str, Form] = {"two products": two_products, "one product": one_product}


def convolution_inputs(config: CharCNN, types: int, characters: int) -> tuple[Any, ...]:
    """Kernels, the table of characters, and tokens of so many of them."""
    keys, e = jax.random.split(jax.random.key(0), len(config.filters) + 2), config.embedding.dim
    kernels = [
        0.05 * jax.random.normal(key, (width, e, n)) for key, (width, n) in zip(keys[2:], config.filters, strict=True)
    ]
    chars_UC = jax.random.randint(keys[0], (types, characters), 0, CHARACTERS)
    return kernels, jax.random.normal(keys[1], (CHARACTERS, e)), chars_UC


def highway_inputs(config: CharCNN, types: int) -> tuple[Any, ...]:
    """Parameters of a highway layer, and the responses of so many tokens."""
    keys, f = jax.random.split(jax.random.key(0), 3), config.n_filters
    params = {
        f"{gate}_kernel": 0.05 * jax.random.normal(keys[i], (f, f)) for i, gate in enumerate(("carry", "transform"))
    }
    return params | {f"{gate}_bias": jnp.zeros(f) for gate in ("carry", "transform")}, jax.random.normal(
        keys[2], (types, f)
    )


def gradient(form: Form, dtype: Any) -> Callable[..., Any]:
    """``(parameters, ..., n) ->`` the sum of ``n`` gradients of a form with respect to all inputs that are floats."""

    def run(n: jax.Array, *inputs: Any) -> Any:
        given = [i for i, x in enumerate(inputs) if not (hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jnp.integer))]

        def loss(*floats: Any) -> jax.Array:
            whole = list(inputs)
            for i, x in zip(given, floats, strict=True):
                whole[i] = x
            return jnp.sin(form(*whole, dtype)).sum()

        def once(_: jax.Array, total: Any) -> Any:
            # Depends on the round before, so that no round is left out.
            moved = jax.tree.map(lambda x, t: x + 0 * t, tuple(inputs[i] for i in given), total)
            return jax.tree.map(jnp.add, total, jax.grad(loss, tuple(range(len(given))))(*moved))

        return jax.lax.fori_loop(0, n, once, jax.tree.map(jnp.zeros_like, tuple(inputs[i] for i in given)))

    return run


def main() -> None:
    """Time the forms of each layer in turn and print their medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", choices=["tiny", "small", "original"])
    parser.add_argument("--types", type=int, default=types_at_a_time(), help="types of a chunk")
    parser.add_argument("--characters", type=int, default=16, help="positions that a chunk is convolved over")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    config, dtype = experiment(f"elmo_{options.size}").model.char_cnn, jnp.dtype(options.dtype)
    layers = {
        "convolution": (CONVOLUTIONS, convolution_inputs(config, options.types, options.characters)),
        "highway": (HIGHWAYS, highway_inputs(config, options.types)),
    }
    for layer, (forms, inputs) in layers.items():
        arguments = (jnp.int32(3), *inputs)
        programs = {
            name: (jax.jit(gradient(form, dtype)).lower(*arguments).compile(), arguments)
            for name, form in forms.items()
        }
        clock, processor = in_turn(programs, options.rounds, turn_seconds=0.3)
        times = {
            name: {"clock_ms": round(clock[name] / 3, 2), "cpu_ms": round(processor[name] / 3, 2)} for name in forms
        }
        print(
            json.dumps({"backend": jax.default_backend(), "layer": layer, **vars(options), "forms": times}), flush=True
        )


if __name__ == "__main__":
    main()
