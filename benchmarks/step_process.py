"""Our trainer, given orders: the training step of elmo_jax on a text, in a process of its own (see ``train_step.py``).

Its first line, after the first step, says what it is. Then it answers lines of standard input, each with one line of
JSON: ``time N`` with the seconds of N steps, ``memory`` with its peak so far, ``rates`` with those of its products, and
``parts`` with the milliseconds of the parts of a step, after which it no longer trains.
"""

import argparse
import dataclasses
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import matmul_rate
import numpy as np
from step_parts import milliseconds_of_parts
from step_work import Product, Work, lengths, products

from elmo_jax import parallel
from elmo_jax.allocator import give_back, keep_memory
from elmo_jax.config import PUBLISHED_OPTIMIZER, Config
from elmo_jax.config_io import experiment
from elmo_jax.data.batches import Batch, prefetch
from elmo_jax.model.char_cnn import types_at_a_time
from elmo_jax.model.clusters import choose_cutoffs, tail_dim
from elmo_jax.parallel import REPLICATED
from elmo_jax.train.inputs import gather
from elmo_jax.train.program import Program
from elmo_jax.train.step import STATE_SPECS

# Batches whose distinct types are counted.
COUNTED = 20
# Rows of the square product that shows what the device can do.
SQUARE = {"cpu": 1536, "gpu": 8192}


def configuration(options: argparse.Namespace, folder: Path) -> Config:
    """The experiment of the size on the text, with the published optimiser (which all programs here have)."""
    config = experiment(f"elmo_{options.size}")
    softmax = dataclasses.replace(config.model.softmax, kind=options.softmax)
    model = dataclasses.replace(config.model, softmax=softmax, compute_dtype=options.dtype)
    data = dataclasses.replace(
        config.data, train=options.text, heldout="", vocabulary=options.vocabulary, cache_dir=str(folder / "encoded")
    )
    # Steps are counted, not epochs: a text of any length will do.
    train = dataclasses.replace(config.train, batch_size=options.batch, unroll_steps=options.unroll, n_steps=1_000_000)
    changes = {"model": model, "data": data, "train": train, "optimizer": PUBLISHED_OPTIMIZER}
    return dataclasses.replace(config, run_dir=str(folder / "run"), **changes).validate()


class Trainer:
    """A run without checkpoints and reports.

    Args:
        config: of the run.
    """

    def __init__(self, config: Config) -> None:
        self.inputs = gather(config, progress=False)
        self.devices = parallel.DataParallel()
        self.program = Program(self.inputs, self.devices)
        places = jax.tree.map(lambda x: x.sharding, self.program.state_like())
        self.state: Any = jax.jit(self.program.initial_state, out_shardings=places)()
        step: Any = self.devices.wrap(self.program.train_step(), STATE_SPECS, outputs=(STATE_SPECS, REPLICATED))
        self.batches = prefetch(self.program.batches.stream(self.program.batches.start()))
        like = self.devices.state_like(self.program.state_like(), STATE_SPECS)
        begin = time.perf_counter()
        self._compiled = step.lower(like, self.devices.place_batch(self.next_batch())).compile()
        self.compile_seconds = time.perf_counter() - begin
        give_back()

    def next_batch(self) -> Batch:
        """The batch of the next window."""
        return next(self.batches)[0]

    def seconds(self, n_steps: int) -> float:
        """How long so many steps take, with their input, to the end of the last one."""
        begin = time.perf_counter()
        for _ in range(n_steps):
            self.state, metrics = self._compiled(self.state, self.devices.place_batch(self.next_batch()))
        jax.block_until_ready((self.state, metrics))
        return time.perf_counter() - begin

    def peak_mib(self) -> int:
        """Most memory that it has taken so far: of the device, or of the process on CPU."""
        statistics = jax.devices()[0].memory_stats()
        if jax.default_backend() != "cpu" and statistics:
            return int(statistics["peak_bytes_in_use"] / 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    def about(self) -> dict[str, Any]:
        """What it is."""
        softmax, device = self.inputs.config.model.softmax, jax.devices()[0]
        p, counts = self.inputs.config.model.lstm.projection_dim, self.inputs.vocabulary.counts
        # What the adaptive softmax has, or would have: the peer's strongest form has it whatever ours is.
        cutoffs = self.inputs.clusters.cutoffs or choose_cutoffs(np.asarray(counts), p, softmax.factor)
        return {
            "jax": jax.__version__,
            "backend": jax.default_backend(),
            "device": device.device_kind,
            "vocabulary": len(self.inputs.vocabulary),
            "cutoffs": list(cutoffs),
            "tail_dims": [tail_dim(p, softmax.factor, k) for k in range(len(cutoffs))],
            "compile_s": round(self.compile_seconds, 1),
        }

    def rates(self) -> dict[str, Any]:
        """Operations of a step by the mean of some batches, and how fast its products are alone."""
        dtype = self.program.model.dtype
        batches = [self.next_batch() for _ in range(COUNTED)]
        works = [self._work(batch) for batch in batches]
        tokens, rates = works[0].tokens, matmul_rate.rates(products(works[0], types_at_a_time()), dtype)
        n = SQUARE["cpu" if jax.default_backend() == "cpu" else "gpu"]
        return {
            "types_per_token": round(float(np.mean([work.n_types for work in works])) / tokens, 3),
            "useful_mflop_per_token": float(np.mean([work.useful_flop() for work in works])) / tokens / 1e6,
            "needed_mflop_per_token": float(np.mean([work.needed_flop() for work in works])) / tokens / 1e6,
            "matmul_gflops": {part: round(rate / 1e9, 1) for part, rate in rates.items()},
            "square_matmul_gflops": round(matmul_rate.rate(Product("square", n, n, n), dtype) / 1e9, 1),
            "parameters": sum(x.size for x in jax.tree.leaves(self.state.params)),
        }

    def parts(self) -> dict[str, float]:
        """Milliseconds of the parts of a step; this takes the state away."""
        return milliseconds_of_parts(self.program, self.state, self.next_batch())

    def _work(self, batch: Batch) -> Work:
        config, inputs = self.inputs.config, self.inputs
        n_types = int(batch.n_types.sum())
        characters = lengths(batch.types[:n_types]) if config.model.input == "characters" else np.zeros(0, int)
        shape = config.train.batch_size, config.train.unroll_steps
        return Work(config.model, inputs.clusters, inputs.vocabulary.counts, *shape, n_types, characters)


def main() -> None:
    """Answer the lines of standard input."""
    keep_memory()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "small", "medium", "original"), required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--vocabulary", default="")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--unroll", type=int, required=True)
    parser.add_argument("--softmax", choices=("adaptive", "sampled", "full"), required=True)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(configuration(options, Path(folder)))
        trainer.seconds(1)
        print(json.dumps(trainer.about()), flush=True)
        for line in sys.stdin:
            match line.split():
                case ["time", n_steps]:
                    answer: dict[str, Any] = {"seconds": trainer.seconds(int(n_steps))}
                case ["memory"]:
                    answer = {"peak_mib": trainer.peak_mib()}
                case ["rates"]:
                    answer = trainer.rates()
                case ["parts"]:
                    answer = trainer.parts()
            print(json.dumps(answer), flush=True)
        trainer.batches.close()


if __name__ == "__main__":
    main()
