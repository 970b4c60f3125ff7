"""Words and sentences by the default rules of Unicode (UAX #29), as one regular expression each.

Every character is replaced by a sign of its class, which the package ``uniseg`` knows; the rules are a pattern over
these signs. The package's own functions apply the rules to one character after the other, which takes far longer
(``benchmarks/segmentation.py``), and their SB8 does not look past characters of class Other.
"""

import functools
import re
from collections.abc import Callable

from elmo_jax.errors import UserError

# Changes when the rules below do: encoded corpora are told apart by it.
RULES = 1

# The sign of each value of Word_Break. Whitespace of every kind is " ".
_WORD_SIGNS = {
    "Other": "o",
    "ALetter": "a",
    "Hebrew_Letter": "h",
    "Katakana": "k",
    "Numeric": "0",
    "ExtendNumLet": "_",
    "Single_Quote": "'",
    "Double_Quote": '"',
    "MidNumLet": ".",
    "MidLetter": ":",
    "MidNum": ",",
    "Extend": "e",
    "Format": "e",
    "ZWJ": "z",
    "Regional_Indicator": "r",
    "CR": " ",
    "LF": " ",
    "Newline": " ",
    "WSegSpace": " ",
}
# Of characters that are Extended_Pictographic besides.
_PICTOGRAPHIC_SIGNS = {"o": "p", "a": "q"}

# The sign of each value of Sentence_Break.
_SENTENCE_SIGNS = {
    "Other": "o",
    "Lower": "l",
    "Upper": "u",
    "OLetter": "t",
    "Numeric": "0",
    "Extend": "e",
    "Format": "e",
    "ATerm": ".",
    "STerm": "!",
    "SContinue": ",",
    "Close": ")",
    "Sp": " ",
    "CR": "\r",
    "LF": "\n",
    "Sep": "\v",
}


def _word_pattern() -> str:
    extend = "[ez]*+"  # WB4
    any_letter = "[aqh]"
    # A mark between two letters or two numbers belongs to them: WB6, WB7; WB7b, WB7c; WB11, WB12.
    letters = f"[aq]++{extend}(?:[:.']{extend}(?={any_letter}))?"
    final_quote = f"h{extend}'{extend}(?!{any_letter})"  # WB7a
    hebrew = f"(?!{final_quote})h{extend}(?:[:.']{extend}(?={any_letter})|\"{extend}(?=h))?"
    numbers = f"0++{extend}(?:[,.']{extend}(?=0))?"
    alphanumeric = f"(?:{letters}|{numbers}|{hebrew})"  # WB5, WB8 to WB10
    katakana = f"(?:k{extend})"  # WB13
    joiner = f"(?:_{extend})"  # WB13a, WB13b
    word = (
        f"{joiner}*+(?:(?:{alphanumeric}++|{katakana}++){joiner}++)*+"
        f"(?:{alphanumeric}*+{final_quote}|{alphanumeric}++|{katakana}++)?"
    )
    flag = f"r{extend}(?:r{extend})?"  # WB15, WB16
    first = f"(?:(?=[aqh0k_]){word}|{flag}|[^ ]{extend})"
    joined_emoji = f"(?<=z)(?:p{extend}|(?=q){word})"  # WB3c
    plain = "[a0]++(?![^ o])"  # most words: an alternative only for speed
    return f"{plain}|{first}(?:{joined_emoji})*+"


def _sentence_pattern() -> str:
    extend = "e*+"  # SB5
    paragraph_end = r"(?:\r\n|[\r\n\v])"  # SB3, SB4
    after = rf"{extend}(?:\){extend})*+(?: {extend})*+"  # SB9, SB10
    inside = "|".join(
        [
            r"[^.!\r\n\vul]++",
            rf"[ul]++{extend}(?:\.{extend}(?=u))?",  # SB7
            rf"\.{extend}(?=0)",  # SB6
            rf"\.{after}(?=[^tul\r\n\v.!]*+l)",  # SB8
            rf"[.!]{after}(?=[,.!])",  # SB8a
        ]
    )
    end = f"(?:[.!]{after}{paragraph_end}?|{paragraph_end})"  # SB11
    return f"(?:{inside})++{end}?|{end}"


_WORD, _SENTENCE = re.compile(_word_pattern()), re.compile(_sentence_pattern())


def words(text: str) -> list[str]:
    """The words of ``text``; punctuation marks and other signs are words of their own.

    Whitespace parts words and is dropped; so a no-break space, which UAX #29 puts into numbers, is never inside one.

    Raises:
        UserError: when ``uniseg`` is not installed.
    """
    spans = map(re.Match.span, _WORD.finditer(text.translate(_word_signs())))
    return [text[start:end] for start, end in spans]


def sentences(text: str) -> list[str]:
    """The sentences of ``text``, which together are ``text``.

    A separator of paragraphs ends a sentence, and a full stop, ``?`` or ``!`` where the rules say so.

    Raises:
        UserError: when ``uniseg`` is not installed.
    """
    spans = map(re.Match.span, _SENTENCE.finditer(text.translate(_sentence_signs())))
    return [text[start:end] for start, end in spans]


class _Signs(dict[int, str]):
    """From code point to sign, for ``str.translate``; a character is looked up when it is first met."""

    def __init__(self, sign: Callable[[str], str]) -> None:
        super().__init__()
        self._sign = sign

    def __missing__(self, code: int) -> str:
        self[code] = sign = self._sign(chr(code))
        return sign


@functools.cache
def _word_signs() -> _Signs:
    try:
        from uniseg.emoji import extended_pictographic
        from uniseg.wordbreak import word_break
    except ImportError as error:
        raise _missing(error) from error

    def sign(character: str) -> str:
        if character.isspace():
            return " "
        plain = _WORD_SIGNS[word_break(character).value]
        return _PICTOGRAPHIC_SIGNS[plain] if extended_pictographic(character) else plain

    return _Signs(sign)


@functools.cache
def _sentence_signs() -> _Signs:
    try:
        from uniseg.sentencebreak import sentence_break
    except ImportError as error:
        raise _missing(error) from error
    return _Signs(lambda character: _SENTENCE_SIGNS[sentence_break(character).value])


def _missing(error: ImportError) -> UserError:
    return UserError(f"the rules of Unicode need the package uniseg ({error}): pip install uniseg")
