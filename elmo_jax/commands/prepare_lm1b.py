"""``elmo prepare-lm1b``: prepare the 1 Billion Word benchmark for TensorFlow Datasets."""

import argparse
from pathlib import Path

from elmo_jax.commands.termination import sigterm_cleans_up

NAME = "prepare-lm1b"
SUMMARY = "Prepare the 1 Billion Word benchmark for TensorFlow Datasets."
DETAILS = """\
Makes the builder `lm1b` of the official archive or of the directory unpacked from it, as array_record and without
TensorFlow. Its records are the lines, in order. The archive (1.8 GB) holds 4.2 GB of text, which is unpacked beside the
builder and removed as it goes: have 6 GB free, of which the builder keeps about 5.

  wget http://www.statmt.org/lm-benchmark/1-billion-word-language-modeling-benchmark-r13output.tar.gz
  elmo prepare-lm1b 1-billion-word-language-modeling-benchmark-r13output.tar.gz
  elmo train --config elmo_original --config.data.source=tfds"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("source", metavar="ARCHIVE_OR_DIR", help="the .tar.gz, or the directory unpacked from it")
    parser.add_argument(
        "--data-dir", default="", metavar="DIR", help="of builders (default $TFDS_DATA_DIR, else ~/tensorflow_datasets)"
    )


def run(options: argparse.Namespace) -> int:
    """Prepare the 1 Billion Word benchmark."""
    from elmo_jax.data.lm1b import prepare_lm1b

    with sigterm_cleans_up():
        directory, sentences = prepare_lm1b(Path(options.source), options.data_dir)
    print(f"{directory}: {', '.join(f'{number:,} sentences of {split}' for split, number in sentences.items())}")
    return 0
