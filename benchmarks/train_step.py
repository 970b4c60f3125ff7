"""One training step: its speed, its floor, where its time goes and, with --peer, how much faster it is than PyTorch.

    python benchmarks/train_step.py --size small --text 'gutenberg/valid.txt'
    python benchmarks/train_step.py --size original --batch 32 --dtype bfloat16 --text ... --peer
    python benchmarks/train_step.py --size original --batch 1024 --dtype bfloat16 --synthetic 793471 --peer

The step is the real one of a run, input included, on real batches of the text, whose own types are the vocabulary; the
optimiser is the published one (Adagrad, clipping at norm 10), whatever that of the experiment. It prints one JSON line:

tokens_per_second    tokens of a step (of one direction: batch x unroll) over its time, median of the rounds
useful_*             operations of the model's products (elmo_jax/model/cost.py; 6 for each multiply-add of the forward
                     pass), each distinct type of a batch encoded once, convolved over all of its 50 positions
needed_*             the same with convolutions only where a type has characters, which is what the encoder computes
matmul_gflops        of the products of a step, each measured alone in the same process; "all" is the whole step's
mfu, needed_mfu      useful and needed operations a second over that of "all"
peak_mib             most memory that training took: of the device, or of the process on CPU
first_step_s         from the start of the process, with reading and encoding the text and compiling
parts_ms             the parts of a step, each alone; "rest" is what the step takes besides

--peer starts ``peers/torch_elmo.py`` in both of its forms, on the same text, vocabulary, batch, window and dtype. Ours
runs as a user has it, with the softmax of --softmax (adaptive unless told otherwise); the peer as written has the
sampled softmax and encodes every token, the strongest one the adaptive softmax with the clusters of ours and encodes
distinct words. Each program has its own process and huge pages. They take turns; those that wait are blocked on a pipe
and do not spin. It ends with one JSON line for each form of the peer.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import zipf_text
from turns import Program, take_turns

from elmo_jax.config_io import experiment
from elmo_jax.data.text import expand

HERE = Path(__file__).parent
FORMS = ("as_written", "strongest")
# The peer shares a GPU with ours: neither may take all of its memory at once.
SHARED = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def main() -> None:
    """Measure one configuration."""
    options = arguments().parse_args()
    options.batch = options.batch or experiment(f"elmo_{options.size}").train.batch_size
    with tempfile.TemporaryDirectory() as folder:
        options.vocabulary = ""
        if options.synthetic:
            text, vocabulary = zipf_text.write(Path(folder), options.synthetic, options.tokens)
            options.text, options.vocabulary = str(text), str(vocabulary)
        for line in measure(options):
            print(json.dumps(line), flush=True)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "small", "medium", "original"), default="small")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--text", metavar="GLOB", help="plain text, one tokenised sentence a line")
    source.add_argument("--synthetic", type=int, metavar="V", help="text drawn by Zipf's law from V words instead")
    parser.add_argument("--tokens", type=int, default=5_000_000, help="of the synthetic text")
    parser.add_argument("--batch", type=int, help="rows (default: those of the size)")
    parser.add_argument("--unroll", type=int, default=20, help="tokens of a window")
    parser.add_argument("--softmax", choices=("adaptive", "sampled", "full"), default="adaptive", help="of ours")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each program")
    parser.add_argument("--peer", action="store_true", help="compare with PyTorch")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="of the peer")
    parser.add_argument("--peer-argument", action="append", default=[], help="of it besides, such as --no-compile")
    parser.add_argument("--no-breakdown", action="store_true", help="only the whole step")
    return parser


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Our line and one for each form of the peer."""
    ours = start_ours(options)
    peers = {form: start_peer(options, form, ours.about) for form in options.forms} if options.peer else {}
    programs = {"ours": ours, **peers}
    seconds = take_turns(programs, options.rounds)
    tokens = options.batch * options.unroll
    speeds = {name: tokens / taken for name, taken in seconds.items()}
    peaks = {name: program("memory")["peak_mib"] for name, program in programs.items()}
    peer_lines = [comparison(options, form, peers[form].about, speeds, peaks) for form in peers]
    for peer in peers.values():
        peer.close()
    own = own_line(options, ours, speeds["ours"], peaks["ours"])
    ours.close()
    return [own, *peer_lines]


def start_ours(options: argparse.Namespace) -> Program:
    """Our trainer."""
    chosen = {name: str(getattr(options, name)) for name in ("size", "text", "batch", "unroll", "softmax", "dtype")}
    chosen |= {"vocabulary": options.vocabulary} if options.vocabulary else {}
    flags = [f"--{name}={value}" for name, value in chosen.items()]
    return Program([str(HERE / "step_process.py"), *flags], SHARED if options.peer else None)


def start_peer(options: argparse.Namespace, form: str, ours: dict[str, Any]) -> Program:
    """A form of the peer, which must have the vocabulary of ours."""
    chosen = {name: str(getattr(options, name)) for name in ("size", "batch", "unroll", "dtype")}
    chosen |= {"device": "cpu" if ours["backend"] == "cpu" else "cuda"}
    chosen |= {"vocabulary": options.vocabulary} if options.vocabulary else {}
    flags = [f"--{name}={value}" for name, value in chosen.items()]
    clusters = {"--cutoffs": ours["cutoffs"], "--tail-dims": ours["tail_dims"]}
    for name, values in clusters.items():
        flags += [name, *map(str, values)]
    files = map(str, expand(options.text))
    peer = Program([str(HERE / "peers" / "torch_elmo.py"), form, *flags, *options.peer_argument, "--text", *files])
    if peer.about["vocabulary"] != ours["vocabulary"]:
        raise SystemExit(f"the peer has {peer.about['vocabulary']} words and ours {ours['vocabulary']}")
    return peer


def own_line(options: argparse.Namespace, ours: Program, speed: float, peak: int) -> dict[str, Any]:
    """All that is said about ours."""
    rates = ours("rates")
    useful, needed = (1e6 * rates.pop(f"{name}_mflop_per_token") for name in ("useful", "needed"))
    rate = 1e9 * rates["matmul_gflops"]["all"]
    shown = ("jax", "backend", "device", "vocabulary", "cutoffs")
    line = {
        "size": options.size,
        "batch": options.batch,
        "unroll": options.unroll,
        "softmax": options.softmax,
        "dtype": options.dtype,
        "cores": os.cpu_count(),
        **{name: ours.about[name] for name in shown},
        "tokens_per_second": round(speed, 1),
        "step_ms": round(1000 * options.batch * options.unroll / speed, 2),
        "useful_mflop_per_token": round(useful / 1e6, 1),
        "needed_mflop_per_token": round(needed / 1e6, 1),
        "useful_gflops": round(useful * speed / 1e9, 1),
        **rates,
        "mfu": round(useful * speed / rate, 3),
        "needed_mfu": round(needed * speed / rate, 3),
        "peak_mib": peak,
        "compile_s": ours.about["compile_s"],
        "first_step_s": round(ours.start_seconds, 1),
    }
    if not options.no_breakdown:
        parts = ours("parts")
        parts["rest"] = line["step_ms"] - sum(parts.values())
        line["parts_ms"] = {name: round(value, 2) for name, value in parts.items()}
    return line


def comparison(
    options: argparse.Namespace, form: str, about: dict[str, Any], speeds: dict[str, float], peaks: dict[str, int]
) -> dict[str, Any]:
    """The line of a form of the peer: tokens a second of both, and how many times the peer's are ours."""
    return {
        "size": options.size,
        "dtype": options.dtype,
        "peer_form": form,
        "ours": round(speeds["ours"], 1),
        "peer": round(speeds[form], 1),
        "ratio": round(speeds["ours"] / speeds[form], 3),
        "batch": options.batch,
        "unroll": options.unroll,
        "vocabulary": about["vocabulary"],
        "rounds": options.rounds,
        "ours_peak_mib": peaks["ours"],
        "peer_peak_mib": peaks[form],
        "torch": about["torch"],
    }


if __name__ == "__main__":
    main()
