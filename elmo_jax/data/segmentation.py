"""Lines of raw text cut into sentences and tokens."""

from dataclasses import dataclass
from typing import Literal

Tokenizer = Literal["whitespace", "unicode", "moses"]
Sentences = Literal["lines", "unicode"]


@dataclass(frozen=True)
class Segmentation:
    """How a line becomes sentences of tokens.

    Attributes:
        tokenizer: what a token is.
        sentences: what a sentence is.
        language: ISO 639-1 code for the rules of Moses.
    """

    tokenizer: Tokenizer = "whitespace"
    sentences: Sentences = "lines"
    language: str = "en"

    def __call__(self, line: str) -> list[list[str]]:
        """The sentences of a line, each with at least one token; none for an empty line."""
        tokens = line.split()
        return [tokens] if tokens else []
