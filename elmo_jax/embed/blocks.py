"""Sentences in blocks: their words as numbers among the distinct words of the block."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from elmo_jax.data.sentence_ids import refuse_text
from elmo_jax.data.text import BOS, EOS
from elmo_jax.errors import UserError

Array = npt.NDArray[Any]
T = TypeVar("T")

# Empty sentences count little, but they count.
MOST_SENTENCES = 65_536


@dataclass(frozen=True)
class Block:
    """N sentences.

    Attributes:
        words: the distinct words; the first two are ``<S>`` and ``</S>``.
        ids: int32, the number of every word among them, all sentences one after the other.
        end_N: where each sentence ends in ``ids``.
        length_N: words of each, with its boundaries if it has them.
        boundaries: whether every sentence has its boundaries.
    """

    words: list[str]
    ids: Array
    end_N: Array
    length_N: Array
    boundaries: bool

    def sentence(self, number: int) -> Array:
        """The ids of a sentence."""
        end = self.end_N[number]
        return self.ids[end - self.length_N[number] : end]


class _Numbers(dict[str, int]):
    """Numbers words as they come."""

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        return number


def block_of(sentences: Sequence[Sequence[str]], boundaries: bool = True) -> Block:
    """A block of these sentences, with or without the boundaries of each.

    Raises:
        UserError: for a token that is no text.
    """
    numbers = _Numbers({BOS: 0, EOS: 1})
    length_N = np.fromiter(map(len, sentences), np.int64, len(sentences))
    try:
        ids = np.fromiter(map(numbers.__getitem__, chain.from_iterable(sentences)), np.int32, length_N.sum())
    except TypeError as error:
        raise UserError("a token is not text: give each sentence as a list of str") from error
    for word in numbers:
        if not isinstance(word, str):
            raise UserError(f"a token is not text but {word!r}: give each sentence as a list of str")
    if boundaries:
        length_N += 2
        end_N = np.cumsum(length_N)
        with_boundaries = np.zeros(length_N.sum(), np.int32)
        is_word = np.ones(len(with_boundaries), bool)
        is_word[end_N - length_N] = is_word[end_N - 1] = False
        with_boundaries[is_word] = ids
        with_boundaries[end_N - 1] = 1
        ids = with_boundaries
    return Block(list(numbers), ids, np.cumsum(length_N), length_N, boundaries)


def blocks(sentences: Iterable[Sequence[str]], capacity: int) -> Iterator[Block]:
    """Blocks of at most ``capacity`` words and boundaries, or of one sentence that is longer."""
    pending: list[Sequence[str]] = []
    size = 0
    for sentence in checked(sentences):
        if pending and (size + len(sentence) + 2 > capacity or len(pending) == MOST_SENTENCES):
            yield block_of(pending)
            pending, size = [], 0
        pending.append(sentence)
        size += len(sentence) + 2
    if pending:
        yield block_of(pending)


def checked(sentences: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Sentences as sequences of Python's own strings.

    Raises:
        UserError: for text where a list of tokens should be.
    """
    if isinstance(sentences, str):
        raise UserError(f"sentences are a list of lists of tokens, not the text {sentences[:40]!r}")
    for sentence in sentences:
        refuse_text(sentence)
        # Scalars of NumPy are slower to look up.
        yield np.asarray(sentence).tolist() if hasattr(sentence, "dtype") else list(sentence)


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The items, each after the next has been made."""
    iterator = iter(items)
    for held in iterator:
        for item in iterator:
            yield held
            held = item
        yield held
