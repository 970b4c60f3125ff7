"""The three output layers by the size of the vocabulary: loss and gradient, one JSON line for each.

    python benchmarks/softmax.py --size original --batch 128
    python benchmarks/softmax.py --size small --vocabulary 50000 793471 --kinds adaptive full --rows 256

Counts follow Zipf's law to rank 8,000 and fall with the power 1.67 after it (Ferrer i Cancho and Sole 2001), which is
how words of 1 Billion Word are distributed: 793,471 that occur three times or more. Targets are drawn from them.
Times are of processor and clock, medians of turns that all configurations take one after another. The full softmax
may be given fewer positions (--rows): its cost a token hardly depends on them. ``rest_ms`` is the time of the encoder
and the LSTM of the size, forward and backward, at the same batch, and ``share`` that of the softmax of both.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import in_turn, memory

from elmo_jax.config import Model, Softmax
from elmo_jax.config_io import experiment
from elmo_jax.model.bilm import BiLM, smallest_inputs, zero_carry
from elmo_jax.model.clusters import Clusters, choose_cutoffs
from elmo_jax.model.cost import softmax_macs
from elmo_jax.model.softmax import make_softmax

SIZES = (10_000, 50_000, 200_000, 793_471)
KNEE, POWER = 8_000, 1.67
# The encoder and the LSTM run with this many words, which they do not look at.
FEW_WORDS = 100


def zipf_counts(n_words: int) -> np.ndarray:
    """Counts of a vocabulary like that of 1 Billion Word; the last of 793,471 words occurs three times."""
    rank = np.arange(1, n_words + 1.0)
    scale = 3 * 793_471**POWER / KNEE ** (POWER - 1)
    return np.ceil(scale * np.where(rank <= KNEE, 1 / rank, KNEE ** (POWER - 1) / rank**POWER)).astype(np.int64)


def layer(model: Model, kind: Any, n_words: int, rows: int) -> tuple[Callable[..., Any], Any, dict[str, Any]]:
    """Loss and gradient of an output layer, their inputs, and what to know of them."""
    counts, width = zipf_counts(n_words), model.lstm.projection_dim
    softmax = Softmax(kind)
    cutoffs = choose_cutoffs(counts, width, softmax.factor) if kind == "adaptive" else ()
    clusters, dtype = Clusters(n_words, cutoffs), jnp.dtype(model.compute_dtype)
    module = make_softmax(softmax, clusters, width, dtype)
    hidden = jax.random.normal(jax.random.key(1), (2, rows, width)).astype(dtype)
    rng = np.random.default_rng(0)
    target = jnp.asarray(rng.choice(n_words, (2, rows), p=counts / counts.sum()), jnp.int32)
    params = jax.jit(lambda key: module.init(key, hidden[:, :1], target[:, :1], method="log_prob"))(jax.random.key(0))

    def loss(params: Any, hidden: jax.Array) -> jax.Array:
        inputs = hidden, target, jnp.ones(target.shape), jax.random.key(2)
        outputs: Any = module.apply(params, *inputs, method="loss")
        return outputs[0]

    config = Model(softmax=softmax, lstm=model.lstm)
    facts = {"tokens": rows, "macs_per_token": softmax_macs(config, clusters, counts), "cutoffs": cutoffs}
    return jax.value_and_grad(loss, (0, 1)), (params, hidden), facts


def rest(model: Model, batch: int, unroll: int, types: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Encoder and LSTM with their gradient, for windows of so many distinct types of ten letters."""
    module = BiLM(model, Clusters(FEW_WORDS), jnp.dtype(model.compute_dtype))
    inputs = smallest_inputs(model)
    params = jax.jit(lambda key: module.init(key, *inputs, method="everything"))(jax.random.key(0))
    rng = np.random.default_rng(0)
    types_UC = np.full((types, model.char_cnn.max_characters_per_token), 260, np.uint16)
    types_UC[:, :12] = rng.integers(0, 256, (types, 12))
    index_DTB = rng.integers(0, types, (2, unroll, batch), np.int32)
    mask_TB = np.zeros((unroll, batch), bool)
    arrays = jax.tree.map(jnp.asarray, (types_UC, np.int32(types), index_DTB, mask_TB, ~mask_TB))

    def output(params: Any) -> jax.Array:
        outputs: Any = module.apply(params, *arrays, zero_carry(model, batch))
        return outputs[0][-1].astype(jnp.float32).sum()

    return jax.value_and_grad(output), (params,)


def main() -> None:
    """Measure all layers in turn and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "small", "medium", "original"), default="small")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=SIZES, metavar="WORDS")
    parser.add_argument("--kinds", nargs="+", choices=("adaptive", "sampled", "full"), default=("adaptive", "sampled"))
    parser.add_argument("--batch", type=int, default=128, help="rows of a step; twice 20 positions each")
    parser.add_argument("--unroll", type=int, default=20)
    parser.add_argument("--rows", type=int, help="positions of each direction for the full softmax (default: all)")
    parser.add_argument("--types", type=float, default=0.3, help="distinct types a token, for the rest of the step")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-rest", action="store_true", help="leave out the encoder and the LSTM")
    options = parser.parse_args()
    model = dataclasses.replace(experiment(f"elmo_{options.size}").model, compute_dtype=options.dtype)
    tokens = options.batch * options.unroll
    programs, facts = {}, {}
    for kind in options.kinds:
        for n_words in options.vocabulary:
            rows = min(tokens, options.rows or tokens) if kind == "full" else tokens
            function, inputs, facts[kind, n_words] = layer(model, kind, n_words, rows)
            programs[kind, n_words] = jax.jit(function).lower(*inputs).compile(), inputs
    if not options.no_rest:
        function, inputs = rest(model, options.batch, options.unroll, int(options.types * tokens))
        programs["rest", 0] = jax.jit(function).lower(*inputs).compile(), inputs
    clock, processor = in_turn(programs, options.rounds)
    each = {name: clock[name] / fact["tokens"] for name, fact in facts.items()}
    for (kind, n_words), fact in facts.items():
        name = kind, n_words
        line = {"size": options.size, "dtype": options.dtype, "kind": kind, "vocabulary": n_words, **fact}
        line |= {"ms": round(clock[name], 1), "processor_ms": round(processor[name], 1)}
        line |= {"us_per_token": round(1000 * each[name], 2), **memory(programs[name][0])}
        if not options.no_rest:
            whole, others = each[name] * tokens, clock["rest", 0]
            line |= {"rest_ms": round(others, 1), "share": round(whole / (whole + others), 4)}
        if ("full", n_words) in each:
            line["of_full"] = round(each[name] / each["full", n_words], 4)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
