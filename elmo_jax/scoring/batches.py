"""Sentences as the batches of a language model: inputs and targets of both directions, each from its own boundary."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.config import Model
from elmo_jax.data.spelling import Spelling
from elmo_jax.data.text import BOS, EOS
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError

# Sentences that are sorted by length together, and positions of a batch.
BLOCK_SENTENCES = 4096
BATCH_POSITIONS = 4096
SHORTEST_BUCKET = 8


@dataclass(frozen=True)
class SentenceBatch:
    """What the network reads and predicts; a sentence of m words makes m + 1 predictions in each direction.

    Attributes:
        types: the distinct tokens as the encoder reads them, with room for more.
        n_types: int32, how many there are.
        index: int32 ``[D, T, B]``, the type of every position in reading order.
        keep: bool ``[T, B]``, a real position.
        targets: int32 ``[D, T, B]``, the word of the vocabulary that follows in reading order.
    """

    types: npt.NDArray[Any]
    n_types: np.int32
    index: npt.NDArray[np.int32]
    keep: npt.NDArray[np.bool_]
    targets: npt.NDArray[np.int32]


def blocks(sentences: Iterable[Sequence[str]], size: int = BLOCK_SENTENCES) -> Iterator[list[Sequence[str]]]:
    """Sentences, so many at a time as are sorted by length together.

    Raises:
        UserError: for a sentence that is text instead of a list of tokens, and for a boundary among its tokens.
    """
    iterator = iter(sentences)
    while block := list(islice(iterator, size)):
        for sentence in block:
            if isinstance(sentence, str):
                raise UserError(f"a sentence is a list of tokens, not the text {sentence[:40]!r}: use its .split()")
            for mark in {BOS, EOS}.intersection(sentence):
                raise UserError(f"the token {mark} is the mark of a sentence boundary: leave it out, it is added")
        yield block


def buckets(lengths: Sequence[int]) -> Iterator[tuple[list[int], int, int]]:
    """Which sentences share a batch: their numbers, and the rows and positions that the batch has room for."""
    groups: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        groups.setdefault(bucket(length + 1), []).append(number)
    for room, numbers in groups.items():
        n_rows = max(1, BATCH_POSITIONS // room)
        for begin in range(0, len(numbers), n_rows):
            yield numbers[begin : begin + n_rows], n_rows, room


def bucket(length: int) -> int:
    """The smallest power of two that holds ``length``, at least ``SHORTEST_BUCKET``."""
    return max(SHORTEST_BUCKET, 1 << (length - 1).bit_length())


def make_batch(
    sentences: Sequence[Sequence[str]],
    n_rows: int,
    length: int,
    config: Model,
    spelling: Spelling,
    vocabulary: Vocabulary,
) -> SentenceBatch:
    """At most ``n_rows`` sentences of less than ``length`` words."""
    n_directions = len(config.directions)
    number = {BOS: 0, EOS: 1}
    index = np.zeros((n_directions, length, n_rows), np.int32)
    targets = np.zeros_like(index)
    keep = np.zeros((length, n_rows), bool)
    for row, sentence in enumerate(sentences):
        tokens = [BOS, *sentence, EOS]
        types = [number.setdefault(token, len(number)) for token in tokens]
        words = [vocabulary.id(token) for token in tokens]
        n = len(sentence) + 1
        index[:, :n, row] = [types[:-1], types[:0:-1]][:n_directions]
        targets[:, :n, row] = [words[1:], words[-2::-1]][:n_directions]
        keep[:n, row] = True
    spelt = spelling(list(number))
    types_U = np.full((n_rows * length + 1, *spelt.shape[1:]), spelling.pad, spelt.dtype)
    types_U[: len(number)] = spelt
    return SentenceBatch(types_U, np.int32(len(number)), index, keep, targets)
