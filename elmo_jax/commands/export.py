"""``elmo export``: write a model in the formats that other programs read, or say which of them can read it."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.interop.pretrained import Pretrained

NAME = "export"
SUMMARY = "Write a model for other programs, or say which of them can read it."
DETAILS = """\
MODEL is a run (its best weights), a pretrained directory or the files of another ELMo. The formats:

  bilm-tf       weights.hdf5, options.json, vocab.txt and, where there is such a layout, softmax_weights.hdf5: for
                bilm-tf, AllenNLP and what else reads their files. Training writes it when it is complete
  pretrained    a directory as on Hugging Face's hub: config.json, model.safetensors, vocab.txt, a model card, checksums
  safetensors   one file: the weights, and the configuration in its header
  stablehlo     programs of jax.export that run with JAX and NumPy alone, the weights beside them, and how to run them

  elmo export runs/quickstart exported
  elmo export runs/quickstart --check                         which programs can read the bilm-tf files, and why not
  elmo export runs/quickstart my-elmo --format pretrained --license cc-by-4.0 --language en
  elmo export my-elmo my-elmo.safetensors --format safetensors --dtype bfloat16
  elmo export my-elmo program --format stablehlo --log-probs"""

BILM_TF, PRETRAINED, SAFETENSORS, STABLEHLO = FORMATS = ("bilm-tf", "pretrained", "safetensors", "stablehlo")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a run, or any other model")
    parser.add_argument("output", metavar="DIR", nargs="?", help="the directory (safetensors: the file) to make")
    parser.add_argument("--format", choices=FORMATS, default=BILM_TF, help=f"default: {BILM_TF}")
    parser.add_argument("--check", action="store_true", help="say who can read the bilm-tf files; write nothing")
    parser.add_argument("--step", type=int, metavar="N", help="of a run: the checkpoint of this step, not the best one")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in DIR")
    storage = parser.add_argument_group("pretrained and safetensors")
    storage.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the stored numbers (default: float32)"
    )
    card = parser.add_argument_group("the model card of a pretrained directory")
    card.add_argument("--name", help="of the model (default: that of the run)")
    card.add_argument("--license", metavar="ID", help="as on the hub, such as apache-2.0 (default: unknown)")
    card.add_argument("--language", metavar="CODES", help="ISO 639 codes, separated by commas, such as en,de")
    program = parser.add_argument_group("stablehlo")
    program.add_argument("--log-probs", action="store_true", help="a program of the words' log-probabilities too")


def run(options: argparse.Namespace) -> int:
    """Write a model for other programs."""
    from elmo_jax.interop.outputs import refuse_existing
    from elmo_jax.train import trained

    _refuse_without_effect(options)
    if not options.check and not options.overwrite:
        refuse_existing(Path(options.output))
    model = trained.load(Path(options.model), options.step)
    if options.check:
        for note in _readers(model):
            print(note)
        return 0
    notes = _write(model, options)
    print(f"{options.output}: weights of {model.origin}")
    for note in notes:
        print(f"  note: {note}")
    return 0


def _refuse_without_effect(options: argparse.Namespace) -> None:
    """Whoever gives an option expects an effect."""
    if options.check == (options.output is not None):
        raise UserError(
            "--check writes nothing: leave DIR out" if options.check else "no DIR to write to: name one, or use --check"
        )
    of_formats = {
        "dtype": (PRETRAINED, SAFETENSORS),
        "name": (PRETRAINED,),
        "license": (PRETRAINED,),
        "language": (PRETRAINED,),
        "log_probs": (STABLEHLO,),
    }
    for name, formats in of_formats.items():
        if getattr(options, name) not in (None, False) and options.format not in formats:
            flag, wanted = name.replace("_", "-"), " or ".join(f"--format {form}" for form in formats)
            raise UserError(f"--{flag} has no effect with --format {options.format}: it is for {wanted}")


def _readers(model: "Pretrained") -> list[str]:
    from elmo_jax.interop import bilm_tf

    return [
        f"{reader} cannot read it: {'; '.join(reasons)}" if reasons else f"{reader} can read it"
        for reader, reasons in bilm_tf.readers(model.config).items()
    ]


def _write(model: "Pretrained", options: argparse.Namespace) -> list[str]:
    """Write the format, and give sentences for the user."""
    from elmo_jax.interop import bilm_tf, model_card, pretrained_directory, stablehlo

    output, dtype = Path(options.output), options.dtype or "float32"
    if options.format == BILM_TF:
        return bilm_tf.export(output, model.params, model.config, model.vocabulary)
    if options.format == SAFETENSORS:
        pretrained_directory.save_file(output, model, dtype)
        return []
    if options.format == STABLEHLO:
        stablehlo.export(output, model, log_probs=options.log_probs)
        return [f"{output / 'README.md'} has code that runs it."]
    said = model_card.fields(options.name, options.license, options.language)
    model = dataclasses.replace(model, about={**model.about, **said})
    pretrained_directory.save(output, model, dtype)
    unsaid = [
        flag for flag, field in (("--license", "license"), ("--language", "language")) if field not in model.about
    ]
    return [f"{output / 'README.md'} leaves open what {' and '.join(unsaid)} would say."] if unsaid else []
