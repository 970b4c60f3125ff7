"""Sentences of a text that know where they are from."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Sentence:
    """A sentence of a text.

    Attributes:
        line: its line, from 0.
        number: which sentence of the line it is, from 0; None where a line is a sentence.
        tokens: of it.
        text: it as a string: the line without white space around it, or the tokens of a sentence within a line.
    """

    line: int
    number: int | None
    tokens: list[str]
    text: str


@dataclass(frozen=True)
class Line:
    """A line of a text and its sentences; where a line is a sentence, an empty line is one without words."""

    number: int
    text: str
    sentences: tuple[Sentence, ...]


def cut_line(cut: Callable[[str], list[list[str]]], within_lines: bool, number: int, text: str) -> Line:
    """A line cut into its sentences.

    Args:
        cut: gives the sentences of a line, none of an empty one.
        within_lines: whether a line may have several.
        number: of the line, from 0.
        text: of the line.
    """
    found = cut(text)
    if not within_lines:
        [tokens] = found or [[]]
        return Line(number, text, (Sentence(number, None, tokens, text.strip()),))
    sentences = (Sentence(number, i, tokens, " ".join(tokens)) for i, tokens in enumerate(found))
    return Line(number, text, tuple(sentences))
