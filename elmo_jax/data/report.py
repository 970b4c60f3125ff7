"""What an encoded corpus holds, as numbers: sentences, types, unknown words, characters, repetitions."""

import heapq
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.data.corpus import TYPES_AT_ONCE, Corpus
from elmo_jax.data.coverage import Unknown, unknown_shares
from elmo_jax.data.progress import Progress
from elmo_jax.data.repeats import find_repeats, n_hashed, sentence_blocks

# Examples of each kind, and of the most frequent tokens.
N_SHOWN, N_FREQUENT = 5, 10
# Characters of a text that are shown.
SHOWN_CHARACTERS = 60
PUNCTUATION = b".,;:!?"


@dataclass(frozen=True)
class Distribution:
    """A whole number over many things: a percentile is the least value that so many of them do not exceed."""

    mean: float
    median: int
    percentile_95: int
    percentile_99: int
    largest: int


@dataclass(frozen=True)
class Token:
    """A type, shortened, with its UTF-8 bytes and how often it occurs."""

    text: str
    n_bytes: int
    count: int


@dataclass(frozen=True)
class Sentence:
    """A sentence, shortened, with its number (from 1, empty lines not counted) and its tokens."""

    text: str
    number: int
    tokens: int


@dataclass(frozen=True)
class RepeatedSentence(Sentence):
    """The first of some equal sentences, and how many they are."""

    count: int


@dataclass(frozen=True)
class CorpusReport:
    """A corpus in numbers. Tokens are running words; types are distinct tokens, without boundaries."""

    sentences: int
    documents: int
    empty_lines: int
    tokens: int
    types: int
    sentence_tokens: Distribution  # tokens of a sentence
    types_per_token: float
    hapax_share: float  # of types that occur once
    unknown: tuple[Unknown, ...]
    bytes_per_character: float  # over tokens; characters are code points
    non_ascii_share: float  # of tokens
    punctuation_share: float  # of tokens of two characters or more that end in . , ; : ! or ?
    token_characters: Distribution  # characters of a token
    max_characters: int  # ids of a token; two of them are its marks, the others hold its first bytes
    cropped_share: float  # of tokens that have more bytes
    cropped_types_share: float  # of types
    repeated_share: float  # of sentences that are equal to an earlier one
    most_frequent: tuple[Token, ...]
    longest_tokens: tuple[Token, ...]  # by bytes
    most_repeated: tuple[RepeatedSentence, ...]
    longest_sentences: tuple[Sentence, ...]

    def as_dict(self) -> dict[str, Any]:
        """All of it as nested dictionaries, which ``json.dumps`` takes."""
        return asdict(self)


def corpus_report(corpus: Corpus, *, max_characters: int = 50, progress: bool = True) -> CorpusReport:
    """Describe a corpus.

    Memory follows the types, with 8 bytes a sentence besides, or 30 where most repeat another, for at most 17 million
    sentences at once.

    Args:
        corpus: what to describe.
        max_characters: ids of a token (``config.model.char_cnn.max_characters_per_token``).
        progress: show it.
    """
    present = 2 + np.flatnonzero(corpus.type_counts[2:])
    counts = corpus.type_counts[present]
    n_bytes, characters = np.diff(corpus.type_offsets)[present], _type_characters(corpus)[present]
    cropped, non_ascii = n_bytes > max_characters - 2, n_bytes > characters
    sentence_tokens, longest = _sentence_lengths(corpus)
    width = corpus.ids.itemsize
    with Progress("describing the text", (corpus.n_predictions + n_hashed(corpus)) * width, shown=progress) as bar:
        unknown = unknown_shares(corpus, lambda n: bar.advance(n * width))
        repeats = find_repeats(corpus, N_SHOWN, lambda n: bar.advance(n * width))
    frequent = present[np.argsort(-counts, kind="stable")[:N_FREQUENT]]
    return CorpusReport(
        sentences=corpus.n_sentences,
        documents=corpus.n_documents,
        empty_lines=corpus.n_empty_lines,
        tokens=corpus.n_tokens,
        types=len(present),
        sentence_tokens=sentence_tokens,
        types_per_token=len(present) / corpus.n_tokens,
        hapax_share=_share(counts == 1),
        unknown=unknown,
        bytes_per_character=int(counts @ n_bytes) / int(counts @ characters),
        non_ascii_share=_share(non_ascii, counts),
        punctuation_share=_share(_ends_in_punctuation(corpus)[present] & (characters > 1), counts),
        token_characters=distribution(characters, counts),
        max_characters=max_characters,
        cropped_share=_share(cropped, counts),
        cropped_types_share=_share(cropped),
        repeated_share=repeats.n_repeats / corpus.n_sentences,
        most_frequent=tuple(_token(corpus, i) for i in frequent),
        longest_tokens=tuple(_token(corpus, i) for i in present[: -N_SHOWN - 1 : -1]),
        most_repeated=tuple(
            RepeatedSentence(**vars(_sentence(corpus, number)), count=times) for times, number in repeats.most
        ),
        longest_sentences=tuple(_sentence(corpus, number) for number in longest),
    )


def distribution(values: npt.NDArray[np.int64], weights: npt.NDArray[np.int64]) -> Distribution:
    """The distribution of values that occur ``weights`` times, exactly."""
    order = np.argsort(values)
    values, reached = values[order], np.cumsum(weights[order])
    total = int(reached[-1])
    median, p95, p99 = (int(values[np.searchsorted(100 * reached, percent * total)]) for percent in (50, 95, 99))
    return Distribution(int(values @ weights[order]) / total, median, p95, p99, int(values[-1]))


def _share(where: npt.NDArray[np.bool_], counts: npt.NDArray[np.int64] | None = None) -> float:
    """The share of types, or with ``counts`` of tokens, that are ``where``."""
    return int(where.sum()) / len(where) if counts is None else int(counts[where].sum()) / int(counts.sum())


def _type_characters(corpus: Corpus) -> npt.NDArray[np.int64]:
    """int64 ``[n_types]``: the code points of each type, which are the bytes that continue none."""
    characters = np.empty(corpus.n_types, np.int64)
    for first in range(0, corpus.n_types, TYPES_AT_ONCE):
        offsets = corpus.type_offsets[first : first + TYPES_AT_ONCE + 1]
        begins = corpus.type_bytes[offsets[0] : offsets[-1]] & 0xC0 != 0x80
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(begins)])
        characters[first : first + TYPES_AT_ONCE] = np.diff(before[offsets - offsets[0]])
    return characters


def _ends_in_punctuation(corpus: Corpus) -> npt.NDArray[np.bool_]:
    """bool ``[n_types]``: whether the last byte is in ``PUNCTUATION``."""
    return np.isin(corpus.type_bytes[corpus.type_offsets[1:] - 1], np.frombuffer(PUNCTUATION, np.uint8))


def _sentence_lengths(corpus: Corpus) -> tuple[Distribution, list[int]]:
    """The distribution of tokens over sentences, and the numbers of the longest sentences."""
    histogram, longest = Counter[int](), list[tuple[int, int]]()
    for first, last in sentence_blocks(corpus):
        lengths = np.diff(corpus.starts[first : last + 1]) - 1
        values, times = np.unique(lengths, return_counts=True)
        histogram.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
        top = np.argsort(-lengths, kind="stable")[:N_SHOWN]
        found = zip((-lengths[top]).tolist(), (first + top).tolist(), strict=True)
        longest = heapq.nsmallest(N_SHOWN, [*longest, *found])
    values, times = (np.fromiter(column, np.int64) for column in (histogram.keys(), histogram.values()))
    return distribution(values, times), [number for _, number in longest]


def _token(corpus: Corpus, type_id: int) -> Token:
    start, end = map(int, corpus.type_offsets[type_id : type_id + 2])
    # A character has four bytes at most.
    head = corpus.type_bytes[start : min(end, start + 4 * (SHOWN_CHARACTERS + 1))].tobytes().decode(errors="ignore")
    return Token(_shortened(head), end - start, int(corpus.type_counts[type_id]))


def _sentence(corpus: Corpus, number: int) -> Sentence:
    start, end = map(int, corpus.starts[number : number + 2])
    head = corpus.ids[start + 1 : min(end, start + 2 + SHOWN_CHARACTERS)]
    text = " ".join(_token(corpus, type_id).text for type_id in head)
    return Sentence(_shortened(text), number + 1, end - start - 1)


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
