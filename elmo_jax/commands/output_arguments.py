"""Where commands that print tables write them: to standard output or into a file."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def add(parser: argparse.ArgumentParser) -> None:
    """Declare where to."""
    parser.add_argument("-o", "--output", metavar="FILE", help="write to this file instead of standard output")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE when it is there")


def check(options: argparse.Namespace) -> None:
    """Refuse a file that is there, before any work is done.

    Raises:
        UserError: naming it.
    """
    from elmo_jax.interop.outputs import refuse_existing_file

    if options.output:
        refuse_existing_file(Path(options.output), overwrite=options.overwrite)


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[TextIO]:
    """What to write to; a file appears when all is written."""
    from elmo_jax.interop.outputs import complete_file

    if not options.output:
        yield sys.stdout
        sys.stdout.flush()
        return
    with (
        complete_file(Path(options.output), overwrite=options.overwrite) as fresh,
        fresh.open("w", encoding="utf-8", newline="\n") as file,
    ):
        yield file
