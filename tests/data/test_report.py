"""A report equals what a plain reading of the text counts, whatever the blocks it is read in."""

import itertools
import json
import math
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data import coverage, repeats, report
from elmo_jax.data.corpus import Corpus, encode, open_corpus
from elmo_jax.data.report import Distribution, corpus_report
from elmo_jax.data.vocab import build_from_corpus

WIDTH = 8  # ids of a token: six bytes are kept
SIZES = (4, 5, 7)
SHOWN = 12  # characters

WORDS = st.text(alphabet="ab.é€𝄞", min_size=1, max_size=4) | st.sampled_from(["<UNK>", "a" * 6, "a" * 7, "€" * 13])
SENTENCES = st.lists(st.none() | st.lists(WORDS, max_size=6) | st.sampled_from([["a"], ["b", "a"]])).filter(any)
# Entries in memory at once: predictions, hashes, counted tokens, types.
BLOCKS = st.sampled_from([(1 << 17, 1 << 24, 1 << 20, 1 << 14), (1, 1, 1, 1), (5, 3, 4, 2)])


# A plain reading of the text


def described(sentences: list[list[str] | None]) -> dict:
    """What the report says, but for the most repeated sentences: of equally frequent ones any may be shown."""
    real = list(filter(None, sentences))
    tokens = [token for sentence in real for token in sentence]
    counts = Counter(tokens)
    by_bytes = sorted(counts, key=lambda word: (len(word.encode()), word.encode()))
    cropped = [word for word in counts if len(word.encode()) > WIDTH - 2]
    return {
        "sentences": len(real),
        "documents": sum(not ended for ended, _ in itertools.groupby(sentences, key=lambda s: not s)),
        "empty_lines": sentences.count([]),
        "tokens": len(tokens),
        "types": len(counts),
        "sentence_tokens": spread(list(map(len, real))),
        "types_per_token": len(counts) / len(tokens),
        "hapax_share": list(counts.values()).count(1) / len(counts),
        "unknown": unknown(real, counts),
        "bytes_per_character": len("".join(tokens).encode()) / len("".join(tokens)),
        "non_ascii_share": sum(not token.isascii() for token in tokens) / len(tokens),
        "punctuation_share": sum(len(token) > 1 and token[-1] in ".,;:!?" for token in tokens) / len(tokens),
        "token_characters": spread(list(map(len, tokens))),
        "max_characters": WIDTH,
        "cropped_share": sum(counts[word] for word in cropped) / len(tokens),
        "cropped_types_share": len(cropped) / len(counts),
        "repeated_share": sum(sentence in real[:i] for i, sentence in enumerate(real)) / len(real),
        "most_frequent": [shown(w, counts) for w in sorted(by_bytes, key=lambda word: -counts[word])[:10]],
        "longest_tokens": [shown(w, counts) for w in by_bytes[::-1][:5]],
        "longest_sentences": [line(real, i) for i in sorted(range(len(real)), key=lambda i: -len(real[i]))[:5]],
    }


def spread(values: list[int]) -> dict:
    def percentile(percent: int) -> int:
        return min(v for v in values if 100 * sum(other <= v for other in values) >= percent * len(values))

    mean = sum(values) / len(values)
    return {
        "mean": mean,
        "median": percentile(50),
        "percentile_95": percentile(95),
        "percentile_99": percentile(99),
        "largest": max(values),
    }


def unknown(real: list[list[str]], counts: Counter[str]) -> list[dict]:
    """Shares of tokens that are out of the most frequent words: of the text, and of the rest for each twentieth."""
    n_predictions = sum(len(sentence) + 1 for sentence in real)
    position, folds = 0, [Counter[str]() for _ in range(20)]
    for sentence in real:
        fold = max(k for k in range(20) if k * n_predictions // 20 <= position)
        folds[fold].update(sentence)
        position += len(sentence) + 1

    def n_unknown(known: Counter[str], text: Counter[str], size: int) -> int:
        order = sorted(filter(known.get, known), key=lambda word: (-known[word], len(word.encode()), word.encode()))
        words = [word for word in order if word != "<UNK>"][: size - 3]
        return sum(count for word, count in text.items() if word not in words)

    whole = 3 + len(set(counts) - {"<UNK>"})
    return [
        {
            "vocabulary_size": size,
            "share": n_unknown(counts, counts, size) / counts.total(),
            "new_text": sum(n_unknown(counts - fold, fold, size) for fold in folds) / counts.total(),
        }
        for size in [*(size for size in SIZES if size < whole), whole]
    ]


def shown(word: str, counts: Counter[str]) -> dict:
    return {"text": shortened(word), "n_bytes": len(word.encode()), "count": counts[word]}


def line(real: list[list[str]], i: int) -> dict:
    return {"text": shortened(" ".join(real[i])), "number": i + 1, "tokens": len(real[i])}


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


# The laws


@given(SENTENCES, BLOCKS)
def test_a_report_is_what_a_plain_reading_counts(tmp_path_factory, sentences, blocks):
    directory = tmp_path_factory.mktemp("encoded") / "corpus"
    encode(iter(sentences), directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "SIZES", SIZES)
        patch.setattr(report, "SHOWN_CHARACTERS", SHOWN)
        limits = [
            (repeats, "BLOCK_PREDICTIONS"),
            (repeats, "HASHES_AT_ONCE"),
            (coverage, "BLOCK_TOKENS"),
            (report, "TYPES_AT_ONCE"),
        ]
        for (module, name), value in zip(limits, blocks, strict=True):
            patch.setattr(module, name, value)
        found = corpus_report(open_corpus(directory), max_characters=WIDTH, progress=False).as_dict()

    found = json.loads(json.dumps(found))
    most = found.pop("most_repeated")
    assert found == described(sentences)

    real = list(filter(None, sentences))
    times = Counter(map(tuple, real))
    expected = sorted((count for count in times.values() if count > 1), reverse=True)[:5]
    assert [sentence["count"] for sentence in most] == expected
    assert most == sorted(most, key=lambda sentence: (-sentence["count"], sentence["number"]))
    for sentence in most:
        i = sentence["number"] - 1
        assert i == real.index(real[i])
        assert sentence == {**line(real, i), "count": times[tuple(real[i])]}


@pytest.mark.parametrize("size", [4, 10, 20, 40, 62])
def test_unknown_words_are_those_of_a_vocabulary_of_that_size(encoded, documents, monkeypatch, size):
    corpus = encoded([*documents, [["<UNK>", "<UNK>"]]])
    monkeypatch.setattr(coverage, "SIZES", (size,))
    vocabulary = build_from_corpus(corpus, 1, size)
    first = corpus_report(corpus, progress=False).unknown[0]
    assert first.vocabulary_size == len(vocabulary)
    assert first.share == vocabulary.counts[vocabulary.unk_id] / corpus.n_tokens


def test_a_part_of_a_corpus_is_described_like_a_text_of_its_own(encoded, documents):
    sentences = [sentence for document in documents for sentence in document]
    part = encoded(documents).first(sum(len(sentence) + 1 for sentence in documents[0]))
    whole = encoded(documents[:1])
    assert corpus_report(part, progress=False) == corpus_report(whole, progress=False)
    assert part.n_sentences < len(sentences)


def test_percentiles_are_exact_and_weights_are_repetitions():
    ones = np.ones(100, np.int64)
    assert distribution_of(np.arange(1, 101), ones) == Distribution(50.5, 50, 95, 99, 100)
    assert distribution_of([7, 3], [99, 1]) == Distribution(6.96, 7, 7, 7, 7)
    assert distribution_of([7, 3], [5, 95]) == Distribution(3.2, 3, 3, 7, 7)


def distribution_of(values, weights) -> Distribution:
    return report.distribution(np.array(values), np.array(weights))


# Hashes


def synthetic(sentences: np.ndarray, n_types: int) -> Corpus:
    """A corpus in memory whose rows are sentences of type ids."""
    n, length = sentences.shape
    ids = np.zeros((n, length + 1), np.int32)
    ids[:, 1:] = sentences
    flat = np.append(ids.ravel(), np.int32(0))
    counts = np.bincount(flat, minlength=n_types)
    counts[:2] = n
    words = b"".join(b"%06x" % number for number in range(2, n_types))
    return Corpus(
        directory=Path(),
        fingerprint="",
        ids=flat,
        starts=np.arange(n + 1) * (length + 1),
        documents=np.array([0, n]),
        type_bytes=np.frombuffer(b"<S></S>" + words, np.uint8),
        type_offsets=np.concatenate([[0, 3], 7 + 6 * np.arange(n_types - 1)]),
        type_counts=counts,
        n_empty_lines=0,
        longest_token_bytes=6,
    )


def n_repeats(corpus: Corpus) -> int:
    return repeats.find_repeats(corpus, 5, lambda n: None).n_repeats


def test_sentences_that_differ_in_any_way_have_different_hashes(encoded):
    every = [list(words) for n in range(1, 8) for words in itertools.product("abc", repeat=n)]
    assert n_repeats(encoded([every])) == 0
    assert n_repeats(encoded([every, every[7:30]])) == 23


def test_repeats_are_counted_exactly_among_many_sentences():
    rng = np.random.default_rng(0)
    sentences = rng.integers(2, 40, (200_000, 3), np.int32)
    assert n_repeats(synthetic(sentences, 40)) == len(sentences) - len(np.unique(sentences, axis=0))


def test_the_work_of_every_part_is_told(encoded, documents, monkeypatch):
    corpus, told = encoded(documents), []
    for hashes_at_once in (10**9, corpus.n_sentences - 1, 1):
        monkeypatch.setattr(repeats, "HASHES_AT_ONCE", hashes_at_once)
        repeats.find_repeats(corpus, 5, told.append)
        assert (
            sum(told)
            == repeats.n_hashed(corpus)
            == corpus.n_predictions * math.ceil(corpus.n_sentences / hashes_at_once)
        )
        told.clear()


# Memory


def test_memory_follows_the_types_and_eight_bytes_a_sentence():
    rng, peaks, sentences = np.random.default_rng(0), [], [20_000, 160_000]
    for n in sentences:
        corpus = synthetic(rng.integers(2, 5_000, (n, 25), np.int32), 5_000)
        tracemalloc.start()
        corpus_report(corpus, progress=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    more = peaks[1] - peaks[0]
    assert more < 10 * (sentences[1] - sentences[0]) + 2**20
