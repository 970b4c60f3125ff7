"""The words of a text that vocabularies of several sizes do not know."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import utf8
from elmo_jax.data.corpus import Corpus
from elmo_jax.data.vocab import SPECIALS, UNK

# Smaller vocabularies than that of all words are reported at these sizes, specials included.
SIZES = (1_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 800_000)
# Parts of the text, one after the other, each of which is taken for new text in its turn.
FOLDS = 20
# Tokens counted at once, or as many as there are types.
BLOCK_TOKENS = 1 << 20


@dataclass(frozen=True)
class Unknown:
    """The share of tokens that the vocabulary of the most frequent words makes ``<UNK>``.

    Attributes:
        vocabulary_size: with the three specials.
        share: of the tokens of this text.
        new_text: to be expected of further text of the same kind: of the tokens of each twentieth of this text, in
            its order, when the other nineteen make the vocabulary. Where neighbouring sentences come from different
            places, as in shuffled text, it is the expectation for further sentences from those places.
    """

    vocabulary_size: int
    share: float
    new_text: float


def unknown_shares(corpus: Corpus, advance: Callable[[int], object]) -> tuple[Unknown, ...]:
    """Unknown tokens at ``SIZES``, and for the vocabulary of all words.

    A token ``<UNK>`` of the text is always unknown. Of words that occur equally often, those of lower type are taken
    first.

    Args:
        corpus: the text.
        advance: told of the predictions as they are read, ``corpus.n_predictions`` in all.
    """
    counts, words = _without_boundaries(corpus.type_counts), _words(corpus)
    whole = len(SPECIALS) + int(np.count_nonzero(counts[words]))
    sizes = [*(size for size in SIZES if size < whole), whole]
    new = np.zeros(len(sizes), np.int64)
    cuts = np.searchsorted(corpus.starts, np.arange(FOLDS + 1) * corpus.n_predictions // FOLDS)
    for start, end in pairwise(corpus.starts[cuts].tolist()):
        fold = _count(corpus, start, end)
        new += _unknown_tokens(counts - fold, words, sizes, fold)
        advance(end - start)
    here = _unknown_tokens(counts, words, sizes, counts)
    shares = (np.stack([here, new]) / corpus.n_tokens).tolist()
    return tuple(map(Unknown, sizes, *shares))


def _unknown_tokens(
    known: npt.NDArray[np.int64], words: npt.NDArray[np.int64], sizes: Sequence[int], text: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How many tokens of ``text`` are not among the most frequent words of ``known``, for each size."""
    order = words[np.argsort(-known[words], kind="stable")]
    order = order[: np.count_nonzero(known[words])]
    covered = np.concatenate([np.zeros(1, np.int64), np.cumsum(text[order])])
    return text.sum() - covered[np.minimum(np.array(sizes) - len(SPECIALS), len(order))]


def _count(corpus: Corpus, start: int, end: int) -> npt.NDArray[np.int64]:
    """int64 ``[n_types]``: how often each type occurs at the positions from start to end."""
    counts = np.zeros(corpus.n_types, np.int64)
    step = max(BLOCK_TOKENS, corpus.n_types)
    for begin in range(start, end, step):
        counts += np.bincount(corpus.ids[begin : min(begin + step, end)], minlength=corpus.n_types)
    return _without_boundaries(counts)


def _without_boundaries(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(2, np.int64), counts[2:]])


def _words(corpus: Corpus) -> npt.NDArray[np.int64]:
    """The types that a vocabulary may hold as words: all but the boundaries and ``<UNK>``."""

    def key(type_id: int) -> tuple[int, bytes]:
        start, end = corpus.type_offsets[type_id : type_id + 2]
        return int(end - start), corpus.type_bytes[start:end].tobytes()

    # Types are sorted by (byte length, bytes).
    unk = (len(utf8(UNK)), utf8(UNK))
    found = bisect_left(range(corpus.n_types), unk, lo=2, key=key)
    end = found + 1 if found < corpus.n_types and key(found) == unk else found
    return np.concatenate([np.arange(2, found), np.arange(end, corpus.n_types)])
