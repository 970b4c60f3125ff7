"""The ``elmo`` command: ``elmo train | vocab | encode | eval | export``. Each has a ``--help`` with an example."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from elmo_jax.errors import UserError

USER_ERROR = 2

EXIT_STATUS = """\
exit status: 0 complete; 2 a mistake to mend, said in one line; 130 or 143 stopped by Ctrl-C or SIGTERM, saved"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with its status."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("elmo_jax").setLevel(logging.INFO)
    try:
        options, rest = make_parser().parse_known_args(arguments)
        overrides = _overrides(rest)
        if overrides and options.command != "train":
            raise UserError(
                f"--config.{overrides[0][0]} belongs to elmo train; elmo {options.command} does not take it"
            )
        options.overrides = overrides
        status = options.execute(options)
    except UserError as error:
        sys.exit(_fail(str(error)))
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone, as `| head` does; that is no error of ours.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(status)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, like every other mistake."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def make_parser() -> argparse.ArgumentParser:
    """The command line of ``elmo``."""
    parser = _Parser(
        prog="elmo",
        description="""\
Pretrain bidirectional character language models (ELMo) in JAX.

  elmo train --config quickstart                           a first result in minutes, without a download
  elmo eval runs/quickstart --text valid.txt               its perplexity on your text
  elmo train --help                                        more examples, as for every command""",
        epilog=EXIT_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_train(commands)
    _add_vocab(commands)
    _add_encode(commands)
    _add_eval(commands)
    _add_export(commands)
    return parser


def _add(
    commands: "argparse._SubParsersAction[_Parser]", name: str, text: str, details: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=text, description=f"{text}\n\n{details}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # The implementation is imported only when it runs: `--help` answers at once.
    command.set_defaults(execute=_later(name))
    return command


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from elmo_jax import commands

        return commands.COMMANDS[name](options)

    return run


def _add_train(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = _add(
        commands,
        "train",
        "Pretrain a model, or go on with a run.",
        """\
Any field of the configuration is set by its path. The same command again goes on where the run stopped; a larger
--config.train.n_steps trains a finished run longer.

  elmo train --config quickstart
  elmo train --config configs/text.py --config.data.train='my/*.txt' --config.data.heldout=valid.txt
  elmo train --config elmo_small --config.model.lstm.dim=2048 --config.train.batch_size=256 ...
  elmo train --config elmo_tiny --config.run_dir=runs/b --config.init_from=runs/a ...

"""
        + EXIT_STATUS,
    )
    command.add_argument(
        "--config", required=True, metavar="FILE", help="an experiment: a file, or the name of a shipped one"
    )
    command.add_argument(
        "--show-config", action="store_true", help="print the configuration as JSON and do nothing else"
    )


def _add_vocab(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = _add(
        commands,
        "vocab",
        "Build a vocabulary from text shards.",
        """\
Writes one word a line: <S>, </S>, <UNK>, then by falling count; the counts, which the adaptive softmax needs, go
beside it (vocab.txt -> vocab.counts.txt).

  elmo vocab --text 'corpus/*.txt.gz' --output vocab.txt --min-count 3 --max-size 800000""",
    )
    command.add_argument("--text", required=True, metavar="GLOB", help="shards; several globs separated by commas")
    command.add_argument(
        "--output", required=True, metavar="FILE", help="where to write; must not exist (but see --force)"
    )
    command.add_argument("--min-count", type=int, default=1, metavar="N", help="leave out words that occur less often")
    command.add_argument(
        "--max-size", type=int, default=800_000, metavar="N", help="words at most, with the three specials"
    )
    command.add_argument("--force", action="store_true", help="replace an existing file")


def _add_encode(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = _add(
        commands,
        "encode",
        "Encode text ahead of training.",
        """\
Training does this by itself when the encoded corpus is missing. It is found again by paths, sizes and modification
times of the shards.

  elmo encode --text 'corpus/*.txt' --output encoded
  elmo train ... --config.data.train='corpus/*.txt' --config.data.cache_dir=encoded""",
    )
    command.add_argument("--text", required=True, metavar="GLOB", help="shards; several globs separated by commas")
    command.add_argument("--output", required=True, metavar="DIR", help="the directory of encoded corpora")


def _add_eval(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = _add(
        commands,
        "eval",
        "Perplexity of a run's best weights on text.",
        """\
Forward, backward and their geometric mean, under the full normalised distribution, every token and one boundary a
sentence counted; words out of the vocabulary are scored as <UNK>.

  elmo eval runs/quickstart --text valid.txt                  carried state over 32 streams, as in training
  elmo eval runs/quickstart --text valid.txt --stateless      every sentence by itself
  elmo eval runs/quickstart --text valid.txt --json""",
    )
    command.add_argument("run", metavar="RUN", help="a run directory")
    command.add_argument("--text", required=True, metavar="GLOB", help="shards; several globs separated by commas")
    how = command.add_mutually_exclusive_group()
    how.add_argument("--streams", type=int, default=32, metavar="N", help="streams of carried LSTM state (default 32)")
    how.add_argument("--stateless", action="store_true", help="reset the state at every sentence")
    command.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step instead of the best one")
    command.add_argument("--cache-dir", metavar="DIR", help="of encoded corpora (default: encoded beside RUN)")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _add_export(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = _add(
        commands,
        "export",
        "Write a run's weights as bilm-tf files.",
        """\
weights.hdf5, options.json and vocab.txt, and softmax_weights.hdf5 where there is such a layout. Training does this
when it is complete.

  elmo export runs/quickstart exported""",
    )
    command.add_argument("run", metavar="RUN", help="a run directory")
    command.add_argument("output", metavar="DIR", help="the directory to make")
    command.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step instead of the best one")


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


def _fail(message: str) -> int:
    sys.stderr.write(f"elmo: {' '.join(message.splitlines())}\n")
    return USER_ERROR


if __name__ == "__main__":
    main()
