"""The loop of the LSTM layers in several forms: forward and backward pass, one JSON line for each.

    python benchmarks/recurrence.py --size small --batch 128
    python benchmarks/recurrence.py --size original --batch 1 8 32 128 --dtype bfloat16 --compare layers

``form``: each direction by itself with input and state in one product a step (stepwise), or both together with the
inputs of all steps in one product before (hoisted). ``unroll``: steps of a loop that are compiled as one. ``gates``:
kept for the gradient, or computed again. These are of one layer; where nothing else is said it runs as it does in
training on this device. ``layers``: two layers one after the other, in both forms, or the second one a position behind
the first, so that all four cells advance together (skewed_layers.py); their values and gradients are compared before.

Times are of clock and processor, medians of turns that all forms of a batch take one after another, in a process that
keeps its memory as that of training does. The text has a sentence for every 25 tokens.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from skewed_layers import skewed, stack
from timing import in_turn, memory

from elmo_jax.allocator import keep_memory
from elmo_jax.config import LSTM
from elmo_jax.config_io import experiment
from elmo_jax.model.lstm import ProjectedLSTM, lstm
from elmo_jax.model.recurrence import Settings

DIRECTIONS = 2
SCANS = (1, 2, 4, 20)
TOKENS_OF_A_SENTENCE = 25
# Largest difference of two forms, relative to the norm of each array.
BOUNDS = {"float32": 1e-4, "bfloat16": 3e-2}


def example(config: LSTM, batch: int, unroll: int) -> dict[str, Any]:
    """Parameters and states of two layers, inputs and masks of a window."""
    rng, (c, p) = np.random.default_rng(0), (config.dim, config.projection_dim)
    carry = {"cell": jnp.zeros((DIRECTIONS, batch, c)), "hidden": jnp.zeros((DIRECTIONS, batch, p))}
    x_DTBP = jnp.asarray(rng.normal(size=(DIRECTIONS, unroll, batch, p)), jnp.float32)
    reset_TB, keep_TB = rng.random((unroll, batch)) < 1 / TOKENS_OF_A_SENTENCE, np.ones((unroll, batch), bool)
    masks = jnp.asarray(reset_TB), jnp.asarray(keep_TB)
    make = jax.jit(lambda key: ProjectedLSTM(config).init(key, x_DTBP[:, :1], carry, *(mask[:1] for mask in masks)))
    layers = [make(jax.random.key(number))["params"] for number in range(2)]
    return {"layers": layers, "x": x_DTBP, "carry": carry, "masks": masks}


def layer_forms(config: LSTM, dtype: Any, compare: list[str], unroll: int) -> Iterator[tuple[str, Any, int]]:
    """Name, function and steps compiled as one, for each form of a layer."""
    run = partial(lstm, cell_clip=config.cell_clip, proj_clip=config.proj_clip, dtype=dtype)
    if "form" in compare:
        yield "stepwise", partial(run, stepwise=True), 1
        yield "hoisted", partial(run, stepwise=False), 1
    if "unroll" in compare:
        yield from ((f"unroll {n}", run, n) for n in SCANS if n <= unroll)
    if "gates" in compare:
        yield "gates kept", run, 1
        yield "gates again", partial(run, recompute_gates=True), 1


def gradient(run: Callable[..., Any], masks: Any) -> Callable[..., Any]:
    """Outputs of layers, and the gradients of the sum of their squares with respect to parameters and inputs."""

    def total(params: Any, x_DTBP: jax.Array, carry: Any) -> tuple[jax.Array, jax.Array]:
        y_DTBP, _ = run(params, x_DTBP, carry, *masks)
        return 0.5 * (y_DTBP**2).sum(), y_DTBP

    return jax.grad(total, (0, 1), has_aux=True)


def compiled(function: Callable[..., Any], inputs: Any, scan: int = 1) -> Any:
    """The program, with so many steps of each loop as one."""
    with mock.patch.object(jax.lax, "scan", partial(jax.lax.scan, unroll=scan)):
        return jax.jit(function).lower(*inputs).compile()


def programs(config: LSTM, batch: int, options: argparse.Namespace) -> dict[str, Any]:
    """Every form, compiled, with its inputs."""
    dtype, given = jnp.dtype(options.dtype), example(config, batch, options.unroll)
    one, two = ((given["layers"][0], given["x"], given["carry"]), (given["layers"], given["x"], [given["carry"]] * 2))
    made = {}
    for name, run, scan in layer_forms(config, dtype, options.compare, options.unroll):
        made[name] = compiled(gradient(run, given["masks"]), one, scan), one
    if "layers" in options.compare:
        settings = [Settings(config.cell_clip, config.proj_clip, dtype, hoisted) for hoisted in (False, True)]
        forms = {
            "two layers, stepwise": partial(stack, settings[0]),
            "two layers, hoisted": partial(stack, settings[1]),
            "two layers, skewed": partial(skewed, settings[1]),
        }
        made |= {name: (compiled(gradient(run, given["masks"]), two), two) for name, run in forms.items()}
        check_equal([program(*inputs) for program, inputs in made.values() if inputs is two], BOUNDS[options.dtype])
    return made


def check_equal(results: list[Any], bound: float) -> None:
    """Stop unless all results are the first one, up to rounding."""
    for other in results[1:]:
        distances = jax.tree.map(lambda a, b: jnp.linalg.norm(a - b) / jnp.linalg.norm(a), results[0], other)
        worst = max(float(distance) for distance in jax.tree.leaves(distances))
        if not worst < bound:
            raise SystemExit(f"two forms differ by {worst:.1e} of an array's norm, more than {bound}")


def main() -> None:
    """Measure all forms in turn and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "small", "medium", "original"), default="small")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 128], metavar="ROWS")
    parser.add_argument("--unroll", type=int, default=20, help="positions of a window")
    parser.add_argument("--dtype", choices=tuple(BOUNDS), default="float32", help="of the products")
    parser.add_argument("--compare", nargs="+", choices=(kinds := ("form", "unroll", "gates", "layers")), default=kinds)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--turn-seconds", type=float, default=0.2)
    options = parser.parse_args()
    keep_memory()
    config = experiment(f"elmo_{options.size}").model.lstm
    for batch in options.batch:
        made = programs(config, batch, options)
        clock, processor = in_turn(made, options.rounds, turn_seconds=options.turn_seconds)
        about = {"device": jax.devices()[0].device_kind, "size": options.size, "batch": batch}
        about |= {"unroll": options.unroll, "dtype": options.dtype}
        for name, (program, _) in made.items():
            times = {"ms": round(clock[name], 3), "processor_ms": round(processor[name], 3)}
            print(json.dumps({**about, "form": name, **times, **memory(program)}), flush=True)


if __name__ == "__main__":
    main()
