"""The corpus report of ``elmo vocab`` and ``elmo encode``: its arguments, and how it is given."""

import argparse
import contextlib
import json
import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.data.corpus import Corpus


def add(parser: argparse.ArgumentParser) -> None:
    """Declare what a command that reports takes."""
    parser.add_argument("--report", metavar="FILE", help="write the report of the text here too, as JSON")
    parser.add_argument(
        "--max-characters",
        type=int,
        default=50,
        metavar="N",
        help="report tokens cropped at N - 2 bytes (config.model.char_cnn.max_characters_per_token; default 50)",
    )
    parser.add_argument("--force", action="store_true", help="replace existing files")


def check(options: argparse.Namespace) -> None:
    """Refuse, before the long work, what could not be reported after it.

    Raises:
        UserError: naming the argument.
    """
    if options.max_characters < 3:
        raise UserError(f"--max-characters is {options.max_characters}: it must be at least 3, two marks and a byte")
    if options.report is None:
        return
    path = Path(options.report)
    if path.is_dir() or (path.exists() and not options.force):
        raise UserError(f"{path} exists; choose another --report, or give --force to replace a file")
    folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {path}: {folder} is no directory that can be written; choose another --report")


def give(options: argparse.Namespace, corpus: "Corpus") -> None:
    """Print the report of a corpus, and write it where ``--report`` says.

    Raises:
        UserError: when it cannot be written.
    """
    from elmo_jax.data.report import corpus_report
    from elmo_jax.data.report_text import report_text

    report = corpus_report(corpus, max_characters=options.max_characters)
    # Examples have characters that not every terminal has.
    encoding = sys.stdout.encoding or "utf-8"
    print(f"\n{report_text(report)}".encode(encoding, "backslashreplace").decode(encoding))
    if options.report is not None:
        _write(Path(options.report), json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another --report") from error
    finally:
        with contextlib.suppress(OSError):  # a read-only place holds no temporary
            temporary.unlink(missing_ok=True)
