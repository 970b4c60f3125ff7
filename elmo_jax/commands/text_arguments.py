"""The arguments of commands that read text: shards, or a split of a TensorFlow Datasets builder."""

import argparse
from typing import TYPE_CHECKING

from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.data.segmentation import Segmentation
    from elmo_jax.data.text import Source


def add(parser: argparse.ArgumentParser) -> None:
    """Declare which text is read."""
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument(
        "--text", metavar="GLOB", help="shards, several globs separated by commas; or the folder of an encoded corpus"
    )
    text.add_argument("--tfds", metavar="NAME", help="a builder of TensorFlow Datasets, such as lm1b, with --split")
    parser.add_argument("--split", default="", metavar="SPLIT", help="of --tfds, such as train, or train[:10%%]")
    parser.add_argument("--feature", default="", metavar="NAME", help="of --tfds: the text (default: the only one)")
    parser.add_argument(
        "--data-dir",
        default="",
        metavar="DIR",
        help="of --tfds: where it is prepared (default $TFDS_DATA_DIR, else ~/tensorflow_datasets)",
    )


def source(options: argparse.Namespace, segmentation: "Segmentation") -> "Source":
    """The text, cut into sentences and tokens by ``segmentation``.

    Raises:
        UserError: when the arguments do not belong together, or what reading that text raises.
    """
    if options.tfds:
        from elmo_jax.data.tfds_source import tfds_source

        if not options.split:
            raise UserError(f"--tfds {options.tfds} needs a split, such as --split train")
        return tfds_source(
            options.tfds,
            options.split,
            feature=options.feature,
            data_dir=options.data_dir,
            segmentation=segmentation,
        )
    for name in ("split", "feature", "data_dir"):
        if getattr(options, name):
            raise UserError(f"--{name.replace('_', '-')} belongs to --tfds; --text does not take it")
    from elmo_jax.data.corpus import text_or_corpus

    return text_or_corpus(options.text, segmentation)


def title(options: argparse.Namespace) -> str:
    """The text as it was asked for."""
    return f"{options.tfds}, {options.split}" if options.tfds else options.text
