import gzip
import re
from collections import Counter

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data.corpus import prepare
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import text_source
from elmo_jax.data.vocab import Vocabulary, build, build_from_corpus, build_from_types
from elmo_jax.errors import UserError

SPECIALS = ["<S>", "</S>", "<UNK>"]


@pytest.fixture
def load(tmp_path):
    """Loads a vocabulary of these bytes, with these counts."""

    def loaded(words: bytes, counts: bytes | None = None) -> Vocabulary:
        (tmp_path / "vocab.txt").write_bytes(words)
        if counts is not None:
            (tmp_path / "vocab.counts.txt").write_bytes(counts)
        return Vocabulary.load(tmp_path / "vocab.txt")

    return loaded


def refusal(load, *args: bytes) -> str:
    with pytest.raises(UserError) as caught:
        load(*args)
    return str(caught.value)


# Files


def test_a_vocabulary_of_bilm_tf_is_read(load):
    vocabulary = load(b"</S>\n<S>\n<UNK>\nthe\n!!!MAXTERMID\n  of \r\n\xc3\xa9\n")
    assert vocabulary.words == ["</S>", "<S>", "<UNK>", "the", "of", "é"]
    assert (vocabulary.eos_id, vocabulary.bos_id, vocabulary.unk_id) == (0, 1, 2)
    assert vocabulary.counts is None
    assert len(vocabulary) == 6


def test_the_specials_may_stand_anywhere(load):
    vocabulary = load(b"the\n<UNK>\nof\n<S>\n</S>")
    assert [vocabulary.id(word) for word in ["the", "of", "<S>", "</S>", "<UNK>", "new", "The"]] == [
        0,
        2,
        3,
        4,
        1,
        1,
        1,
    ]
    assert vocabulary.ids == {word: i for i, word in enumerate(vocabulary.words)}


@pytest.mark.parametrize("counts", [None, [3, 3, 5, 7, 2]])
@pytest.mark.parametrize("tokenizer", [None, "moses de"])
def test_saved_is_loaded(tmp_path, counts, tokenizer):
    Vocabulary([*SPECIALS, "old"], [1, 2, 3, 4], "unicode").save(tmp_path / "new" / "vocab.txt")
    vocabulary = Vocabulary([*SPECIALS, "the", "\u2028x"[1:]], counts, tokenizer)
    vocabulary.save(tmp_path / "new" / "vocab.txt")
    loaded = Vocabulary.load(tmp_path / "new" / "vocab.txt")
    assert loaded.words == vocabulary.words
    assert loaded.digest() == vocabulary.digest()
    assert (loaded.counts is None) == (counts is None)
    if counts is not None:
        assert loaded.counts.dtype == np.int64
        assert loaded.counts.tolist() == counts
    assert loaded.tokenizer == tokenizer
    assert len(list((tmp_path / "new").iterdir())) == 1 + (counts is not None) + (tokenizer is not None)


def test_digests_tell_vocabularies_apart():
    words = [[*SPECIALS, "a", "b"], [*SPECIALS, "b", "a"], [*SPECIALS, "ab"], [*SPECIALS, "a"]]
    digests = {Vocabulary(w).digest() for w in words}
    assert len(digests) == 4
    assert all(len(bytes.fromhex(digest)) == 8 for digest in digests)


# What is refused


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (b"<S>\n<UNK>\nthe\n", "has no line </S>"),
        (b"the\n", "has no line <S> and no line </S> and no line <UNK>"),
        (b"", "has no line <S> and no line </S> and no line <UNK>"),
        (b"<S>\n</S>\n<UNK>\nthe\nof\nthe\n", "vocab.txt:6: 'the' is already at line 4"),
        (b"<S>\n</S>\n!!!MAXTERMID\n<UNK>\na\n<S>\n", "vocab.txt:6: '<S>' is already at line 1"),
        (b"<S>\n\n</S>\n<UNK>\n \nthe\n", "empty at lines 2, 5"),
        (b"<S>\n</S>\n<UNK>\nthe\n\n", "empty at line 5;"),
        (b"<S>\n</S>\nth\xff\n", "vocab.txt:3: invalid UTF-8 at byte 11"),
        (b"<S>\n</S>\n<UNK>\n", "holds only <S>, </S>, <UNK>"),
    ],
)
def test_what_is_no_vocabulary_is_located(load, words, named):
    assert named in refusal(load, words)


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        (b"1\n2\n3\n", "vocab.counts.txt: 3 counts for 4 words"),
        (b"", "0 counts for 4 words"),
        (b"1\n2\nx\n4\n", "no count at line 3 ('x')"),
        (b"1\n2.0\n-3\n4\n", "no count at lines 2, 3 ('2.0')"),
    ],
)
def test_wrong_counts_are_located(load, counts, named):
    assert named in refusal(load, b"<S>\n</S>\n<UNK>\nthe\n", counts)


def test_files_that_cannot_be_read_or_written_are_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.txt: No such file"):
        Vocabulary.load(tmp_path / "none.txt")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"):
        Vocabulary([*SPECIALS, "a"]).save(tmp_path / "file" / "vocab.txt")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_small_file_that_becomes_a_large_one_is_refused(tmp_path, suffix):
    """A megabyte can become a gigabyte of empty lines, each of them an object in memory."""
    path = tmp_path / f"vocab.txt{suffix}"
    lines = b"\n" * (1 << 26)
    path.write_bytes(gzip.compress(lines) if suffix == ".gz" else zstandard.ZstdCompressor().compress(lines))
    with pytest.raises(UserError, match=r"has more than 1\d,\d{3},\d{3} bytes, which is no vocabulary"):
        Vocabulary.load(path)


# Building

COUNTS = {"b": 5, "a": 5, "c": 9, "d": 1, "e": 1, "<S>": 6, "</S>": 6, "<UNK>": 2}


def test_words_are_sorted_by_count_and_then_by_themselves():
    vocabulary = build(COUNTS, min_count=1, max_size=100)
    assert vocabulary.words == [*SPECIALS, "c", "a", "b", "d", "e"]
    assert vocabulary.counts.tolist() == [6, 6, 2, 9, 5, 5, 1, 1]


@pytest.mark.parametrize(("min_count", "max_size", "words"), [(2, 100, "cab"), (1, 5, "ca"), (9, 4, "c")])
def test_what_is_left_out_counts_as_unknown(min_count, max_size, words):
    vocabulary = build(COUNTS.items(), min_count, max_size)
    assert vocabulary.words == [*SPECIALS, *words]
    assert vocabulary.counts.sum() == sum(COUNTS.values())


@pytest.mark.parametrize(("min_count", "max_size"), [(10, 100), (1, 3), (1, 0)])
def test_nothing_left_is_refused(min_count, max_size):
    with pytest.raises(UserError, match=f"min_count {min_count} and max_vocabulary {max_size}.*occurs 9 times"):
        build(COUNTS, min_count, max_size)


@given(
    st.dictionaries(st.sampled_from(["<UNK>", *"abcdefghij"]), st.integers(1, 6), min_size=1),
    st.integers(1, 7),
    st.integers(4, 20),
)
def test_words_that_are_dropped_early_make_no_difference(counts, min_count, max_size):
    counts = {"<S>": 2, "</S>": 2, **counts}
    types = (counts.keys(), np.fromiter(counts.values(), np.int64))
    try:
        expected = build(counts, min_count, max_size, "moses de")
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error)[:60])):
            build_from_types(*types, min_count, max_size)
        return
    made = build_from_types(*types, min_count, max_size, "moses de")
    assert made.words == expected.words
    assert made.counts.tolist() == expected.counts.tolist()
    assert made.tokenizer == expected.tokenizer


def test_text_and_its_encoding_give_one_vocabulary(encoded, documents):
    sentences = [sentence for document in documents for sentence in document]
    of_text = build(Counter(token for sentence in sentences for token in ["<S>", "</S>", *sentence]), 2, 20)
    corpus = encoded(documents)
    of_corpus = build_from_corpus(corpus, 2, 20)
    assert of_text.words == of_corpus.words
    assert of_text.counts.tolist() == of_corpus.counts.tolist()
    assert of_corpus.counts.sum() == corpus.n_predictions + corpus.n_sentences  # <S> and </S>: one a direction each


def test_the_vocabulary_of_raw_text_has_its_words_and_the_name_of_its_tokenizer(tmp_path):
    path = tmp_path / "raw"
    path.write_text("It's late. Isn't it?\n\nNo!\n")
    source = text_source(str(path), Segmentation("unicode", "unicode"))
    made = build_from_corpus(prepare(source, tmp_path / "cache"), 1, 20, "unicode")
    assert made.words == [*SPECIALS, *["!", ".", "?", "Isn't", "It's", "No", "it", "late"]]
    assert made.counts.tolist() == [3, 3, 0, *[1] * 8]
    assert made.tokenizer == "unicode"
