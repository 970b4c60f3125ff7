"""Pieces of text as numbers: the first half of encoding, in which pieces know nothing of each other."""

import itertools
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.lines import BOS, EOS, Piece, Sentence
from elmo_jax.errors import UserError

# Among the numbers of tokens: the end of a line, with or without tokens, and that of a document.
LINE_END, DOCUMENT_END = 0, 1
FIRST_TOKEN = 2

SENTENCES_AT_ONCE = 1 << 12


class Numbered(NamedTuple):
    """A piece of text whose distinct tokens are numbered from 2 as they appear in it."""

    tokens: list[str]
    numbers: npt.NDArray[np.int32]  # those of all tokens, with a LINE_END after each line and DOCUMENT_ENDs


def number(piece: Piece | None) -> Numbered:
    """Number a piece of text; None is the end of a shard.

    Raises:
        UserError: what reading the piece raises.
    """
    return number_sentences([None] if piece is None else piece.sentences())


def number_sentences(sentences: Iterable[Sentence]) -> Numbered:
    """Number sentences: tokens, ``[]`` for an empty line, None for the end of a document.

    Raises:
        UserError: for a token that is the mark of a boundary.
    """
    # A new token gets the next number when it is looked up.
    fresh: Callable[[], int] = itertools.count(FIRST_TOKEN).__next__
    numbers: dict[str, int] = defaultdict(fresh)
    numbered = array("i")
    for sentence in sentences:
        if sentence is None:
            numbered.append(DOCUMENT_END)
        else:
            numbered.extend(map(numbers.__getitem__, sentence))
            numbered.append(LINE_END)
    for mark in (BOS, EOS):
        if mark in numbers:
            raise UserError(f"the token {mark} is the mark of a sentence boundary and may not occur in text; remove it")
    return Numbered(list(numbers), np.frombuffer(numbered, np.int32))


def number_parts(sentences: Iterable[Sentence]) -> Iterator[Numbered]:
    """Number sentences that are not in pieces, some at a time."""
    left = iter(sentences)
    while part := list(itertools.islice(left, SENTENCES_AT_ONCE)):
        yield number_sentences(part)
