"""One training step: its speed, its floor, and where its time goes, as one JSON line.

    python benchmarks/train_step.py --size small --text 'gutenberg/valid.txt'
    python benchmarks/train_step.py --size original --text ... --batch 32 --softmax adaptive --dtype bfloat16

The step is the real one, on real batches of the text, whose own types are the vocabulary. Times are medians. Useful
operations are the multiply-adds of the model (elmo_jax/model/cost.py: 6 operations each in training) with the distinct
types of each batch, and the matmul rate is that of this process at the shapes of the step, weighted by their shares.
The parts of the breakdown run alone, each with its gradient where it has one.
"""

import argparse
import dataclasses
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from elmo_jax import parallel
from elmo_jax.config import Config
from elmo_jax.config_io import experiment
from elmo_jax.model import cost
from elmo_jax.model.bilm import zero_carry
from elmo_jax.model.lstm import lstm
from elmo_jax.train.inputs import Inputs, gather
from elmo_jax.train.program import Program
from elmo_jax.train.step import STATE_SPECS


def main() -> None:
    """Measure one configuration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "small", "medium", "original"), default="small")
    parser.add_argument("--text", required=True, metavar="GLOB", help="one tokenised sentence a line")
    parser.add_argument("--batch", type=int, help="rows (default: those of the size)")
    parser.add_argument("--unroll", type=int, default=20, help="tokens of a window")
    parser.add_argument("--softmax", choices=("adaptive", "sampled", "full"), default="adaptive")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=7, help="timed steps")
    parser.add_argument("--no-breakdown", action="store_true", help="only the whole step")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(configuration(options, folder), options)))


def configuration(options: argparse.Namespace, folder: str) -> Config:
    """The experiment of the size, on the text."""
    config = experiment(f"elmo_{options.size}")
    softmax = dataclasses.replace(config.model.softmax, kind=options.softmax)
    model = dataclasses.replace(config.model, softmax=softmax, compute_dtype=options.dtype)
    data = dataclasses.replace(config.data, train=options.text, heldout="", cache_dir=f"{folder}/encoded")
    batch = options.batch or config.train.batch_size
    train = dataclasses.replace(config.train, batch_size=batch, unroll_steps=options.unroll)
    return dataclasses.replace(config, run_dir=f"{folder}/run", model=model, data=data, train=train).validate()


def measure(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one configuration."""
    began = time.perf_counter()
    inputs = gather(config, progress=False)
    config, devices = inputs.config, parallel.DataParallel()
    program = Program(inputs, devices)
    stream = program.batches.stream(program.batches.start())
    batches = [next(stream)[0] for _ in range(options.steps + 3)]
    places = jax.tree.map(lambda x: x.sharding, program.state_like())
    state = jax.jit(program.initial_state, out_shardings=places)()
    step: Any = devices.wrap(program.train_step(), STATE_SPECS, outputs=(STATE_SPECS, parallel.REPLICATED))
    start = time.perf_counter()
    like = devices.state_like(program.state_like(), STATE_SPECS)
    compiled = step.lower(like, devices.place_batch(batches[0])).compile()
    compile_seconds = time.perf_counter() - start
    times, types = [], []
    for number, batch in enumerate(batches):
        placed = devices.place_batch(batch)
        start = time.perf_counter()
        state, metrics = compiled(state, placed)
        jax.block_until_ready((state, metrics))
        if number == 0:
            first = time.perf_counter() - began
        if number >= 3:
            times.append(time.perf_counter() - start)
            types.append(int(batch.n_types.sum()))
    seconds, n_types = statistics.median(times), statistics.median(types)
    tokens = config.train.batch_size * config.train.unroll_steps
    flop = 6 * operations(inputs, n_types / tokens)
    rate = matmul_rate(config, int(n_types))
    result = {
        "device": jax.devices()[0].device_kind,
        "size": options.size,
        "batch": config.train.batch_size,
        "unroll": config.train.unroll_steps,
        "softmax": options.softmax,
        "dtype": options.dtype,
        "vocabulary": len(inputs.vocabulary),
        "tokens_per_second": round(tokens / seconds, 1),
        "step_ms": round(1000 * seconds, 1),
        "types_per_token": round(n_types / tokens, 3),
        "useful_mflop_per_token": round(flop / 1e6, 1),
        "useful_gflops": round(flop * tokens / seconds / 1e9, 1),
        "matmul_gflops": round(rate / 1e9, 1),
        "share_of_matmul_rate": round(flop * tokens / seconds / rate, 3),
        "compile_s": round(compile_seconds, 1),
        "first_step_s": round(first, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if not options.no_breakdown:
        result["parts_ms"] = breakdown(program, state, batches[-1])
    return result


def operations(inputs: Inputs, types_per_token: float) -> float:
    """Multiply-adds of the forward pass for one token."""
    model = inputs.config.model
    softmax = cost.softmax_macs(model, inputs.clusters, inputs.vocabulary.counts)
    return types_per_token * cost.encoder_macs(model) + cost.lstm_macs(model) + softmax


def median_seconds(function: Callable[..., Any], *arguments: Any, rounds: int = 5) -> float:
    """The median time of a compiled function, which runs twice before."""
    times = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        if number >= 2:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_rate(config: Config, n_types: int) -> float:
    """Operations a second of the largest products of a step, in the proportion in which it has them."""
    model, train = config.model, config.train
    p, c, f = model.lstm.projection_dim, model.lstm.dim, model.char_cnn.n_filters
    rows, d, layers = train.batch_size * train.unroll_steps, len(model.directions), model.lstm.n_layers
    # (rows, inner, columns, batch of products, how often in a step)
    shapes = [
        (rows, p, 4 * c, d, layers),
        (train.batch_size, p, 4 * c, d, layers * train.unroll_steps),
        (train.batch_size, c, p, d, layers * train.unroll_steps),
        (min(n_types, 256), f, f, 1, max(1, n_types // 256) * 2 * model.char_cnn.n_highway),
    ]
    dtype = jnp.dtype(model.compute_dtype)
    work, seconds = 0.0, 0.0
    for m, k, n, batch, times in shapes:
        a, b = jnp.ones((batch, m, k), dtype), jnp.ones((batch, k, n), dtype)
        product = jax.jit(lambda a, b: jnp.matmul(a, b, preferred_element_type=jnp.float32))
        work += times * 2 * batch * m * k * n
        seconds += times * median_seconds(product, a, b)
    return work / seconds


def breakdown(program: Program, state: Any, batch: Any) -> dict[str, float]:
    """Milliseconds of the parts of a step on one device, each alone."""
    model, config = program.model, program.inputs.config.model
    params, train = state.params, program.inputs.config.train
    shape = (len(config.directions), train.unroll_steps, train.batch_size, config.lstm.projection_dim)
    x_DTBP = jax.random.normal(jax.random.key(0), shape).astype(model.dtype)
    carry = {name: value[:, 0].swapaxes(0, 1) for name, value in zero_carry(config, train.batch_size).items()}
    masks = jnp.zeros(shape[1:3], bool), jnp.ones(shape[1:3], bool)
    clips = {"cell_clip": config.lstm.cell_clip, "proj_clip": config.lstm.proj_clip}
    targets = jnp.asarray(batch.targets).transpose(1, 2, 0)

    def encoder(params: Any) -> jax.Array:
        encoded: Any = model.apply({"params": params}, batch.types, batch.n_types[0], method="encode")
        return (encoded * 1.0).astype(jnp.float32).sum()

    def layer(weights: Any, x: jax.Array) -> jax.Array:
        return lstm(weights, x, carry, *masks, **clips, dtype=model.dtype)[0].sum()

    def softmax(params: Any, x: jax.Array) -> jax.Array:
        nll: Any = model.apply({"params": params}, x, targets, jax.random.key(0), method="nll")
        return nll.sum()

    def optimiser(grads: Any, opt_state: Any, params: Any) -> Any:
        updates, opt_state = program.optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def milliseconds(function: Callable[..., Any], *arguments: Any) -> float:
        return round(1000 * median_seconds(jax.jit(function), *arguments), 1)

    weights = params["lstm_0"]
    forward = config.lstm.n_layers * milliseconds(layer, weights, x_DTBP)
    both = config.lstm.n_layers * milliseconds(jax.value_and_grad(layer, (0, 1)), weights, x_DTBP)
    return {
        "encoder": milliseconds(jax.value_and_grad(encoder), {"encoder": params["encoder"]}),
        "lstm_forward": round(forward, 1),
        "lstm_backward": round(both - forward, 1),
        "softmax": milliseconds(jax.value_and_grad(softmax, (0, 1)), params, x_DTBP.astype(jnp.float32)),
        "optimiser": milliseconds(optimiser, params, state.opt_state, params),
    }


if __name__ == "__main__":
    main()
