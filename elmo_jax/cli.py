"""The ``elmo`` command. Each of its commands is a file in ``commands/`` and has a ``--help`` with an example."""

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from elmo_jax.commands import COMMANDS
from elmo_jax.errors import BusyError, UserError
from elmo_jax.exit_status import BUSY, COMPLETE, EXPLANATION, INTERRUPTED, USER_ERROR


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with its status.

    Args:
        arguments: default: those of the process, which is this program then and may be started once more.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("elmo_jax").setLevel(logging.INFO)
    try:
        options, rest = make_parser().parse_known_args(arguments)
        overrides = _overrides(rest)
        if overrides and options.command != "train":
            raise UserError(
                f"--config.{overrides[0][0]} belongs to elmo train; elmo {options.command} does not take it"
            )
        options.overrides, options.is_program = overrides, arguments is None
        status = options.execute(options)
    except UserError as error:
        sys.stderr.write(f"elmo: {' '.join(str(error).splitlines())}\n")
        sys.exit(BUSY if isinstance(error, BusyError) else USER_ERROR)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; that is no error of ours.
        sys.stderr.close()
        sys.exit(COMPLETE)
    sys.exit(status)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other mistake, and takes options between positional arguments.

    Before Python 3.13 argparse gives up an optional DIR as soon as it meets an option: ``MODEL --format X DIR``.
    """

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        # Which calls this method in turn.
        if self._intermixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """The command line of ``elmo``."""
    parser = _Parser(
        prog="elmo",
        description="""\
Pretrain bidirectional character language models (ELMo) in JAX, and use any ELMo.

  elmo train --config quickstart                           a first result in minutes, without a download
  elmo eval runs/quickstart --text valid.txt               its perplexity on your text
  elmo embed runs/quickstart text.txt vectors.hdf5         vectors of its words
  elmo train --help                                        more examples, as for every command""",
        epilog=EXPLANATION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        chosen = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=f"{command.SUMMARY}\n\n{command.DETAILS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(chosen)
        chosen.set_defaults(execute=command.run)
    return parser


def _overrides(rest: Sequence[str]) -> list[tuple[str, str]]:
    """``--config.path=value`` and ``--config.path value`` as (path, value)."""
    found, words = [], list(rest)
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            raise UserError(
                f"unknown argument {word!r}; see --help (fields of the configuration are --config.NAME=VALUE)"
            )
        path, equals, value = word.removeprefix("--config.").partition("=")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UserError(f"{word} needs a value: {word}=...")
            value = words.pop(0)
        found.append((path, value))
    return found


if __name__ == "__main__":
    main()
