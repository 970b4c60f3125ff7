"""An ELMo trainer in PyTorch, given orders: what ``benchmarks/train_step.py --peer`` compares with.

    python benchmarks/peers/torch_elmo.py FORM --size SIZE --text FILE... [--batch B] [--dtype bfloat16] [--device cuda]

FORM is how it is written; both train the network of that size with dropout and Adagrad, clipping at norm 10:

as_written
    As PyTorch users write it: the character encoder runs on every token of both directions, and the loss is a softmax
    sampled with 8192 log-uniform words.
strongest
    All that makes PyTorch faster and leaves the model what it is: each distinct word of a batch encoded once, in chunks
    of like lengths cut to the characters that can matter; the adaptive softmax with the clusters of elmo_jax; a fused
    optimiser; on a GPU TF32 and a compiled encoder.

With bfloat16 both run under autocast. It wants PyTorch 2.4 or newer, and on CPU the environment of train_step.py (huge
pages). Its first line says what it is; then it answers lines of standard input, each with one line of JSON: ``time N``
with the seconds of N steps, ``memory`` with its peak.
"""

import argparse
import json
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch_elmo_data import Batch, Distinct, Text, ahead, every_position
from torch_elmo_model import SIZES, AdaptiveSoftmax, Elmo, SampledSoftmax, States

LEARNING_RATE, ACCUMULATOR, CLIP_NORM = 0.2, 1.0, 10.0
# Words of a chunk of the strongest form.
CHUNK = {"cpu": 512, "cuda": 8192}


class Trainer:
    """A model in training.

    Args:
        options: of the command line.
        text: with the vocabulary.
    """

    def __init__(self, options: argparse.Namespace, text: Text) -> None:
        self.unroll, self.device = options.unroll, torch.device(options.device)
        self.autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=options.dtype == "bfloat16")
        size, n_words, strongest = SIZES[options.size], len(text.words), options.form == "strongest"
        if strongest:
            softmax: nn.Module = AdaptiveSoftmax(size.projection_dim, n_words, options.cutoffs, options.tail_dims)
        else:
            softmax = SampledSoftmax(size.projection_dim, n_words, options.samples)
        self.model = Elmo(size, softmax, torch.from_numpy(text.spellings)).to(self.device)
        if self.device.type == "cuda" and strongest:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        # It gains nothing on CPU, where products are most of the work.
        if strongest and (self.device.type == "cuda" if options.compile is None else options.compile):
            self.model.encoder.compile(dynamic=True)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        fused = {"fused": True} if strongest and self.device.type == "cpu" else {"foreach": True}
        self.optimizer = torch.optim.Adagrad(
            self.trained, LEARNING_RATE, initial_accumulator_value=ACCUMULATOR, eps=0.0, **fused
        )
        widest = max(width for width, _ in size.filters)
        make = Distinct(text, CHUNK[self.device.type], widest) if strongest else every_position
        windows = text.windows(options.batch, options.unroll)
        self.batches: Iterator[Batch] = ahead(make(*window) for window in windows)
        self.states: list[States] = self.model.zero_states(options.batch)

    def step(self) -> torch.Tensor:
        """Train on the next window; its mean loss, in nats, which may still be computed."""
        batch = next(self.batches).to(self.device)
        with self.autocast:
            loss, self.states = self.model(batch, self.states)
        self.optimizer.zero_grad(set_to_none=True)
        # As published, the gradient is that of the loss times the length of the window.
        (loss * self.unroll).backward()
        nn.utils.clip_grad_norm_(self.trained, CLIP_NORM, foreach=True)
        self.optimizer.step()
        return loss.detach()

    def seconds(self, n_steps: int) -> float:
        """How long so many steps take, to the end of the last one."""
        begin = time.perf_counter()
        for _ in range(n_steps):
            loss = self.step()
        loss.item()
        return time.perf_counter() - begin

    def peak_mib(self) -> int:
        """Most memory that it has taken so far: of the device, or of the process on CPU."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated() / 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=("as_written", "strongest"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--text", nargs="+", type=Path, required=True, help="one tokenised sentence a line")
    parser.add_argument("--vocabulary", type=Path, help="one word a line (default: all words of the text)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--unroll", type=int, default=20)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="of the encoder of the strongest form (default: on a GPU)",
    )
    parser.add_argument("--samples", type=int, default=8192, help="of the sampled softmax")
    parser.add_argument("--cutoffs", type=int, nargs="*", default=[2000], help="ends of clusters but the last")
    parser.add_argument("--tail-dims", type=int, nargs="*", default=[32], help="widths of the tails")
    return parser


def main() -> None:
    """Answer the lines of standard input."""
    options = arguments().parse_args()
    # There is no other implementation of projected LSTMs on CPU.
    warnings.filterwarnings("ignore", "LSTM with projections is not supported")
    torch.manual_seed(0)
    text = Text(options.text, options.vocabulary)
    trainer = Trainer(options, text)
    trainer.seconds(1)
    about: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "vocabulary": len(text.words),
        "parameters": sum(parameter.numel() for parameter in trainer.trained),
    }
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["time", n_steps]:
                answer: dict[str, Any] = {"seconds": trainer.seconds(int(n_steps))}
            case ["memory"]:
                answer = {"peak_mib": trainer.peak_mib()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
