"""``--beam`` of ``elmo vocab`` and ``elmo encode``: the text is read by an Apache Beam pipeline."""

import argparse

from elmo_jax.errors import UserError


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the argument."""
    parser.add_argument(
        "--beam",
        nargs="?",
        const="",
        metavar="OPTIONS",
        help="read --text, which may be gs://..., s3://... or hdfs://... then, by an Apache Beam pipeline with these "
        "options in quotes, such as --beam='--runner=DataflowRunner --project=...'; without options on this machine. "
        "docs/corpora-at-scale.md",
    )


def text(options: argparse.Namespace) -> str:
    """The globs of the text that a pipeline is to read.

    Raises:
        UserError: when the text is a split of TensorFlow Datasets.
    """
    if options.tfds:
        raise UserError("--beam reads --text; --tfds is read without it, by all cores of this machine")
    return options.text


def refuse_remote(options: argparse.Namespace) -> None:
    """Refuse text of file systems that only a pipeline reads.

    Raises:
        UserError: naming the scheme.
    """
    before, separator, _ = (options.text or "").partition("://")
    if separator:
        scheme = before.rpartition(",")[2].strip()
        raise UserError(f"--text {options.text}: a pipeline reads {scheme}://...: give --beam, see --help")
