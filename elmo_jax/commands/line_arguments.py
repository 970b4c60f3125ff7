"""The text of commands that use a model line by line: shards, or standard input."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.commands import segmentation_arguments

if TYPE_CHECKING:
    from elmo_jax.data.progress import Progress
    from elmo_jax.data.segmentation import Segmentation
    from elmo_jax.interop.pretrained import Pretrained

TEXT_HELP = "text, plain, .gz or .zst: a glob, several separated by commas, or - for standard input"


def files(text: str) -> list[Path]:
    """The files that an argument names.

    Raises:
        UserError: when a glob matches no file.
    """
    from elmo_jax.data.text import STANDARD_INPUT, expand

    return [STANDARD_INPUT] if text == "-" else expand(text)


def segmentation(options: argparse.Namespace, pretrained: "Pretrained") -> "Segmentation":
    """How lines are cut for a model; the arguments may only say the same."""
    return segmentation_arguments.segmentation_of_model(options, pretrained)


@contextmanager
def read(paths: list[Path], segmentation: "Segmentation", what: str) -> Iterator[tuple[Iterator[str], "Progress"]]:
    """The lines of files, and the progress through them, which is to be told the bytes of each line that is done.

    Args:
        paths: of the files.
        segmentation: how the lines will be cut.
        what: is done, for people.
    """
    from elmo_jax.data.progress import Progress
    from elmo_jax.data.text import read_lines, text_bytes

    with Progress(what, text_bytes(paths)) as progress:
        yield read_lines(paths, segmentation=segmentation), progress


def line_bytes(line: str) -> int:
    """Bytes of a line in its file."""
    return len(line.encode()) + 1
