"""``elmo embed``: the vectors of a whole text in an HDF5 file."""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, cast

from elmo_jax.commands import line_arguments, segmentation_arguments
from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.embed.dump import Dumped, DumpOptions
    from elmo_jax.embed.results import Layers

NAME = "embed"
SUMMARY = "Vectors of the words of a text, in an HDF5 file."
DETAILS = """\
As bilm-tf and AllenNLP wrote them: for every line a dataset whose name is its number from 0, [layers, tokens, width],
boundaries left out. The text is cut into sentences and tokens as that of the model was. An empty line is a sentence
without words. When a line may hold several sentences, "12/0" is the first sentence of line 12.

The file appears when it is complete. What is done lies beside it in OUTPUT.partial: after a kill or on a full disk the
same command goes on from there.

  elmo embed runs/quickstart text.txt vectors.hdf5
  elmo embed runs/quickstart 'text/*.gz' vectors.hdf5 --layers top --dtype float16
  elmo embed runs/quickstart text.txt vectors.hdf5 --mix 0.2,0.5,0.3 --gamma 1.1
  elmo embed runs/quickstart text.txt sentences.hdf5 --pooling mean --layout array
  elmo embed runs/quickstart text.txt vectors.hdf5 --stateful       the numbers of bilm-tf, sentence after sentence
  head -n 100 text.txt | elmo embed runs/quickstart - vectors.hdf5

docs/embedding-corpora.md has the layouts and how to read them."""

LAYERS = ("all", "top", "average", "mix")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a run directory or any other model")
    parser.add_argument("text", metavar="TEXT", help=line_arguments.TEXT_HELP)
    parser.add_argument("output", metavar="OUTPUT", help="the HDF5 file to make")
    what = parser.add_argument_group("what is written")
    what.add_argument(
        "--layers",
        default="all",
        metavar="WHICH",
        help="all (default), top, average, a number (0: the token encodings), or mix: the one learnt with the model",
    )
    what.add_argument("--mix", metavar="W0,W1,...", help="a mix of the layers by these weights, before their softmax")
    what.add_argument("--gamma", type=float, metavar="G", help="of --mix: the factor of the sum (default 1)")
    what.add_argument(
        "--mix-norm",
        choices=("none", "tokens", "tokens+boundaries"),
        help="of --mix: normalise each layer over a sentence first, as bilm-tf (tokens) or AllenNLP does (default no)",
    )
    what.add_argument(
        "--pooling",
        choices=("mean", "max", "first", "last", "final"),
        help="one vector a sentence: over its words, that of a word, or the final states of both directions",
    )
    what.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the file")
    what.add_argument(
        "--stateful", action="store_true", help="each sentence starts from the state of the one before, as in bilm-tf"
    )
    how = parser.add_argument_group("how it is laid out")
    how.add_argument(
        "--layout",
        choices=("lines", "array"),
        default="lines",
        help="a dataset for every line (default), or one array, which loads many times faster",
    )
    how.add_argument("--compression", choices=("gzip", "lzf"), help="filter of HDF5 (default none)")
    how.add_argument("--sentence-to-index", action="store_true", help="AllenNLP's table of the sentences' names")
    how.add_argument("--use-sentence-keys", action="store_true", help="datasets are called as the sentence is")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT when it is there")
    parser.add_argument("--step", type=int, metavar="N", help="of a run: this checkpoint instead of the best one")
    segmentation_arguments.add(parser, of_run=True)


def run(options: argparse.Namespace) -> int:
    """Write the vectors of a text."""
    from elmo_jax import compilation_cache
    from elmo_jax.embed.dump import dump
    from elmo_jax.embed.embedder import Embedder
    from elmo_jax.interop.outputs import refuse_existing_file
    from elmo_jax.train import trained
    from elmo_jax.train.interruption import Interruption

    wishes, output = _wishes(options), Path(options.output)
    refuse_existing_file(output, overwrite=options.overwrite)
    files = line_arguments.files(options.text)
    compilation_cache.enable()
    pretrained = trained.load(Path(options.model), options.step)
    cut = line_arguments.segmentation(options, pretrained)
    with line_arguments.read(files, cut, f"embedding {options.text}") as (lines, progress), Interruption() as stop:
        done = dump(
            Embedder(pretrained),
            lines,
            output,
            wishes,
            segmentation=cut,
            overwrite=options.overwrite,
            on_line=lambda line: progress.advance(line_arguments.line_bytes(line.text)),
            stop=lambda: stop.requested,
        )
    print(_describe(output, done))
    return stop.exit_status if not done.complete else 0


def _wishes(options: argparse.Namespace) -> "DumpOptions":
    from elmo_jax.embed.dump import DumpOptions

    return DumpOptions(
        layers=_layers(options),
        pooling=options.pooling,
        dtype=options.dtype,
        layout=options.layout,
        keys="sentences" if options.use_sentence_keys else "lines",
        index=options.sentence_to_index,
        compression=options.compression,
        stateful=options.stateful,
    )


def _layers(options: argparse.Namespace) -> "Layers":
    from elmo_jax.interop.pretrained import Mix

    if options.mix is None:
        for name in ("gamma", "mix_norm"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name.replace('_', '-')} belongs to --mix; give its weights, or leave it out")
        if options.layers.isascii() and options.layers.isdecimal():
            return int(options.layers)
        if options.layers not in LAYERS:
            raise UserError(f"--layers is {options.layers!r}: use {', '.join(LAYERS)}, or the number of a layer from 0")
        return cast("Layers", options.layers)
    if options.layers != "all":
        raise UserError(f"--layers {options.layers} and --mix are two wishes: leave one out")
    gamma = 1.0 if options.gamma is None else options.gamma
    try:
        weights = tuple(map(float, options.mix.split(",")))
    except ValueError:
        weights = ()
    if not weights or not all(map(math.isfinite, (*weights, gamma))):
        raise UserError(f"--mix is {options.mix!r} with gamma {gamma}: numbers separated by commas, one for each layer")
    return Mix(weights, gamma, options.mix_norm or "none")


def _describe(output: Path, done: "Dumped") -> str:
    counts = f"{done.lines:,} lines, {done.sentences:,} sentences, {done.tokens:,} tokens"
    before = f", of which {done.resumed:,} lines were done before" if done.resumed else ""
    if done.complete:
        return f"{output}: {counts}{before}"
    return f"{output}.partial: {counts} so far; the same command goes on"
