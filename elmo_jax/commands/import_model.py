"""``elmo import``: a model of another program, written as a pretrained directory."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elmo_jax.interop.pretrained import Pretrained

NAME = "import"
SUMMARY = "Write a model of another program as a pretrained directory."
DETAILS = """\
The program is told by the files. What every command reads anyway need not be imported, but one directory with all that
belongs to a model is easier to keep:

  elmo import elmo_2x1024_128_2048cnn_1xhighway_weights.hdf5 elmo-small    bilm-tf, AllenNLP; its options lie beside it
  elmo import downloads/ elmo-small --vocab vocab-2016-09-10.txt           a folder of such files
  elmo import 213.zip elmo-norwegian                                       of the NLPL repository

Other kinds are read by this command alone:

  elmo import checkpoints/ elmo-mine --vocab vocab.txt                     TensorFlow checkpoints of bilm-tf
  elmo import model.tar.gz elmo-tuned                                      AllenNLP's archives, with what was fine-tuned
  elmo import 157/ elmo-german                                             ELMoForManyLangs

Afterwards DIR is a model for every command:

  elmo eval elmo-small --text valid.txt                                    where it has a softmax"""

# Options of the command, and what readers call them.
FILES = {"options": "options", "vocab": "vocabulary", "softmax": "softmax"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("source", metavar="SOURCE", help="a folder, an archive or a weights file")
    parser.add_argument("output", metavar="DIR", help="the directory to make")
    parser.add_argument("--options", metavar="FILE", help="options.json, when it does not lie there")
    parser.add_argument("--vocab", metavar="FILE", help="the vocabulary, one word a line (also .gz), likewise")
    parser.add_argument("--softmax", metavar="FILE", help="the HDF5 file of the softmax, likewise")
    parser.add_argument("--elmo", metavar="NAME", help="which one, of an AllenNLP archive with several")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier pretrained directory in DIR")


def run(options: argparse.Namespace) -> int:
    """Write a model of another program as a pretrained directory."""
    from elmo_jax.errors import UserError
    from elmo_jax.interop import pretrained_directory, readers
    from elmo_jax.interop.outputs import refuse_existing
    from elmo_jax.train import trained

    source, output = Path(options.source), Path(options.output)
    if not options.overwrite:
        refuse_existing(output)
    if trained.run_at(source) is not None:
        raise UserError(f"{source} is a run of elmo train, which every command reads; to give it away use elmo export")
    reader = readers.of(source, (*readers.DIRECT, *readers.IMPORTED))
    if reader is None:
        raise readers.no_model(source)
    told: dict[str, Path | str] = {
        name: Path(given) for option, name in FILES.items() if (given := getattr(options, option)) is not None
    }
    if options.elmo is not None:
        told["elmo"] = options.elmo
    model = reader.load(source, **told)
    pretrained_directory.save(output, model)
    print(_describe(output, reader.kind, model))
    return 0


def _describe(output: Path, kind: str, model: "Pretrained") -> str:
    import jax

    from elmo_jax.telemetry import summary_table

    words = "none" if model.vocabulary is None else f"{len(model.vocabulary):,} words"
    softmax = "none: vectors, but no probabilities"
    if "softmax" in model.params:
        shared = ", the table of words" if model.config.model.share_embedding_softmax else ""
        softmax = f"{model.config.model.softmax.kind}{shared}"
    about = {name: f"{value:,}" if isinstance(value, int) else str(value) for name, value in model.about.items()}
    return summary_table(
        {
            "model": f"{output}, from {model.origin}",
            "kind": kind,
            "architecture": _architecture(model),
            "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(model.params)):,}",
            "softmax": softmax,
            "vocabulary": words,
            "mixes of layers": str(len(model.mixes)) if model.mixes else "none",
            **about,
        }
    )


def _architecture(model: "Pretrained") -> str:
    config, lstm, cnn = model.config.model, model.config.model.lstm, model.config.model.char_cnn
    characters = f"characters, {cnn.n_filters} filters, {cnn.n_highway} highway"
    clips = {"cell": lstm.cell_clip, "projection": lstm.proj_clip}
    return ", ".join(
        [
            "words" if config.input == "words" else characters,
            f"{lstm.n_layers} LSTM {'layer' if lstm.n_layers == 1 else 'layers'} of {lstm.dim} / {lstm.projection_dim}",
            " and ".join(config.directions),
            "skip connections" if lstm.use_skip_connections else "no skip connections",
            *(f"{name} clip {clip:g}" if clip else f"no {name} clip" for name, clip in clips.items()),
        ]
    )
