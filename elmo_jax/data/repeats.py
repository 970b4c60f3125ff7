"""Sentences that repeat an earlier one, found by 64-bit hashes of all sentences."""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.corpus import Corpus

# Predictions that are hashed at once: their arrays stay in the cache of a core.
BLOCK_PREDICTIONS = 1 << 17
# Hashes in memory at once (128 MiB). A text of more sentences is hashed again for each further part of them.
HASHES_AT_ONCE = 1 << 24


class Repeats(NamedTuple):
    """What a corpus holds more than once."""

    n_repeats: int  # sentences that are equal to an earlier one
    most: list[tuple[int, int]]  # (times, number of the first) of the sentences that occur most often, at least twice


def find_repeats(corpus: Corpus, n_most: int, advance: Callable[[int], object]) -> Repeats:
    """Count the repeated sentences, and find those that occur most often.

    Different sentences are taken for equal when their hashes are, which happens somewhere among n sentences with a
    probability of about n^2 / 2^65: 1 in 40,000 for 30 million sentences.

    Args:
        corpus: what to search.
        n_most: how many of the most repeated sentences to find.
        advance: told of the predictions as they are hashed, ``corpus.n_predictions`` for each part.
    """
    n_parts = _n_parts(corpus)
    hashes = np.empty(corpus.n_sentences, np.uint64)  # memory is taken only where it is written
    n_repeats, most = 0, list[tuple[int, int]]()
    for part in range(n_parts):
        n = 0
        for first, last in sentence_blocks(corpus):
            block = sentence_hashes(corpus, first, last)
            block = block[block % np.uint64(n_parts) == part]
            hashes[n : n + len(block)] = block
            n += len(block)
            advance(int(corpus.starts[last] - corpus.starts[first]))
        ordered = hashes[:n]
        ordered.sort()
        again = ordered[1:][ordered[1:] == ordered[:-1]]
        n_repeats += len(again)
        repeated, times = np.unique(again, return_counts=True)
        top = np.lexsort((repeated, -times))[:n_most]
        found = zip((-1 - times[top]).tolist(), repeated[top].tolist(), strict=True)
        most = heapq.nsmallest(n_most, [*most, *found])
    del hashes
    first_of = _first_sentences(corpus, [value for _, value in most])
    return Repeats(n_repeats, sorted(((-times, first_of[value]) for times, value in most), key=lambda m: (-m[0], m[1])))


def n_hashed(corpus: Corpus) -> int:
    """The predictions that ``find_repeats`` tells ``advance`` of, in all."""
    return _n_parts(corpus) * corpus.n_predictions


def sentence_blocks(corpus: Corpus) -> Iterator[tuple[int, int]]:
    """The sentences in blocks of ``BLOCK_PREDICTIONS`` or one sentence: the first of a block, and the next one's."""
    first = 0
    while first < corpus.n_sentences:
        end = corpus.starts[first] + BLOCK_PREDICTIONS
        last = max(first + 1, int(np.searchsorted(corpus.starts, end, side="right")) - 1)
        yield first, last
        first = last


def sentence_hashes(corpus: Corpus, first: int, last: int) -> npt.NDArray[np.uint64]:
    """uint64 ``[last - first]``: a hash of each sentence, the sum of its mixed (position, type) pairs modulo 2^64.

    The mixing is a bijection of 64-bit integers, that of SplitMix64 (Steele, Lea and Flood 2014).
    """
    starts = corpus.starts[first : last + 1] - corpus.starts[first]
    mixed = corpus.ids[corpus.starts[first] : corpus.starts[last]].astype(np.uint64)
    position = np.arange(len(mixed)) - np.repeat(starts[:-1], np.diff(starts))
    mixed |= position.view(np.uint64) << np.uint64(32)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.add.reduceat(mixed, starts[:-1])


def _n_parts(corpus: Corpus) -> int:
    return -(-corpus.n_sentences // HASHES_AT_ONCE)


def _first_sentences(corpus: Corpus, wanted: list[int]) -> dict[int, int]:
    """The first sentence that has each hash."""
    left, found = np.array(wanted, np.uint64), dict[int, int]()
    for first, last in sentence_blocks(corpus):
        if not len(left):
            break
        hashes = sentence_hashes(corpus, first, last)
        for i in np.flatnonzero(np.isin(hashes, left)).tolist():
            found.setdefault(int(hashes[i]), first + i)
        left = left[[int(value) not in found for value in left]]
    return found
