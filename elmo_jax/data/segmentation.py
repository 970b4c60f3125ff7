"""Lines of raw text cut into sentences and tokens."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

from elmo_jax.data import unicode_boundaries
from elmo_jax.errors import UserError

Tokenizer = Literal["whitespace", "unicode", "moses"]
Sentences = Literal["lines", "unicode"]

# Moses has character classes for them, and no list of abbreviations.
_WITHOUT_ABBREVIATIONS = {"ja", "ko"}


@dataclass(frozen=True)
class Segmentation:
    """How a line becomes sentences of tokens.

    Attributes:
        tokenizer: what a token is: what stands between whitespace, a word of Unicode (UAX #29), or what the rules of
            Moses make for a language.
        sentences: what a sentence is: a line, or what the rules of Unicode find within a line.
        language: code for the rules of Moses, such as "de".

    Raises:
        UserError: when Moses has no rules for the language, or a package is missing.
    """

    tokenizer: Tokenizer = "whitespace"
    sentences: Sentences = "lines"
    language: str = "en"

    def __post_init__(self) -> None:
        # What is missing is told now and not in the middle of a text.
        self("")

    def __call__(self, line: str) -> list[list[str]]:
        """The sentences of a line, each with at least one token; no token holds whitespace."""
        tokenize = _tokenize(self.tokenizer, self.language)
        if self.sentences == "lines":
            tokens = tokenize(line)
            return [tokens] if tokens else []
        return list(filter(None, map(tokenize, unicode_boundaries.sentences(line))))

    @property
    def plain(self) -> bool:
        """Whether a line is a sentence with whitespace between its tokens."""
        return (self.tokenizer, self.sentences) == ("whitespace", "lines")

    @property
    def tokens(self) -> str:
        """The tokeniser in words: "whitespace", "unicode" or "moses de"."""
        return f"moses {self.language}" if self.tokenizer == "moses" else self.tokenizer

    @property
    def variant(self) -> str:
        """Everything that the sentences of a text depend on besides the text; empty when ``plain``.

        Versions of packages are among it: their rules and data change.
        """
        if self.plain:
            return ""
        packages = []
        if "unicode" in (self.tokenizer, self.sentences):
            packages += [f"rules {unicode_boundaries.RULES}", f"uniseg {version('uniseg')}"]
        if self.tokenizer == "moses":
            packages.append(f"sacremoses {version('sacremoses')}")
        return ", ".join([f"tokenizer {self.tokens}", f"sentences {self.sentences}", *packages])


@functools.cache
def _tokenize(tokenizer: Tokenizer, language: str) -> Callable[[str], list[str]]:
    if tokenizer == "moses":
        return _moses(language)
    return unicode_boundaries.words if tokenizer == "unicode" else str.split


def _moses(language: str) -> Callable[[str], list[str]]:
    try:
        from sacremoses import MosesTokenizer
        from sacremoses.corpus import NonbreakingPrefixes
    except ImportError as error:
        raise UserError(f"the rules of Moses need the package sacremoses ({error}): pip install sacremoses") from error
    # The library takes an unknown language for English.
    known = {*NonbreakingPrefixes().available_langs.values(), *_WITHOUT_ABBREVIATIONS}
    if language not in known:
        raise UserError(
            f"language is {language!r}: the rules of Moses know {', '.join(sorted(known))}; the tokenizer 'unicode' "
            "is for every language"
        )
    moses = MosesTokenizer(language)
    # Its own methods make sets of thousands of characters for every full stop.
    moses.islower = frozenset(moses.IsLower).issuperset
    alphabet = frozenset(moses.IsAlpha)
    moses.isanyalpha = lambda text: not alphabet.isdisjoint(text)
    return functools.partial(moses.tokenize, escape=False)
