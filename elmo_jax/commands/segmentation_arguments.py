"""Arguments that say how text is cut into sentences and tokens, the same for every command that reads text."""

import argparse
from typing import TYPE_CHECKING, Any

from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.data.segmentation import Segmentation
    from elmo_jax.interop.pretrained import Pretrained

OPTIONS = ("tokenizer", "sentences", "language")


def add(parser: argparse.ArgumentParser, *, of_run: bool = False) -> None:
    """Declare the arguments.

    Args:
        parser: of the command.
        of_run: the command reads text for a run, whose configuration says how.
    """
    group = parser.add_argument_group(
        "sentences and tokens",
        "Those of the model; given here, they must be the same, or say what nobody knows of a model from elsewhere."
        if of_run
        else "As --config.data... of elmo train.",
    )
    group.add_argument(
        "--tokenizer",
        choices=("whitespace", "unicode", "moses"),
        help="what a token is: as separated by whitespace, a Unicode word, or by the rules of Moses"
        + ("" if of_run else " (default whitespace)"),
    )
    group.add_argument(
        "--sentences",
        choices=("lines", "unicode"),
        help="what a sentence is: a line, or found within each line by the rules of Unicode"
        + ("" if of_run else " (default lines)"),
    )
    group.add_argument(
        "--language", metavar="CODE", help="of the rules of Moses, such as de" + ("" if of_run else " (default en)")
    )
    if of_run:
        group.add_argument(
            "--tokenized",
            action="store_true",
            help="the text is cut already as the run does it: one sentence a line, whitespace between tokens",
        )


def segmentation(options: argparse.Namespace) -> "Segmentation":
    """What the arguments say.

    Raises:
        UserError: for a language that the rules of Moses do not know, or one for another tokeniser.
    """
    from elmo_jax.data.segmentation import Segmentation

    given = _given(options)
    if "language" in given and options.tokenizer != "moses":
        raise UserError(
            f"--language is {options.language!r}: only the rules of Moses know languages; leave it out, or give "
            "--tokenizer moses"
        )
    return Segmentation(**given)


def segmentation_of_model(options: argparse.Namespace, pretrained: "Pretrained") -> "Segmentation":
    """How text is cut for a model; where that is known the arguments may only say the same.

    Args:
        options: of a command.
        pretrained: the model.

    Raises:
        UserError: when an argument differs from the model.
    """
    from elmo_jax.data.segmentation import Segmentation

    if not pretrained.segmentation_known:
        return segmentation(options)
    data = pretrained.config.data
    for name, value in _given(options).items():
        if value != getattr(data, name):
            raise UserError(
                f"--{name} is {value!r}, and the model was trained with config.data.{name} = {getattr(data, name)!r}: "
                f"leave it out (--tokenized reads text that is cut like that already)"
            )
    return Segmentation() if options.tokenized else pretrained.segmentation


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name in OPTIONS if (value := getattr(options, name)) is not None}
