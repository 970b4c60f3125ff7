"""Ids of sentences as bilm-tf and AllenNLP have them, and batches of distinct words that say the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data.sentence_ids import DistinctIds, batch_to_ids
from elmo_jax.data.spelling import Characters, Words
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from tests.reference.numpy_bilm import character_ids

SENTENCES = st.lists(st.lists(st.sampled_from(["a", "bc", "Āt", "<S>", "", "x" * 20, "中文"]), max_size=6), max_size=5)
KNOWN = st.lists(st.sampled_from(["a", "zz", "<S>", "中文"]), unique=True)


@given(SENTENCES)
def test_every_token_is_the_reference_and_all_else_is_zero(sentences):
    ids = batch_to_ids(sentences, Characters(9))
    assert ids.dtype == np.int32
    assert ids.shape == (len(sentences), max(map(len, sentences), default=0), 9)
    for row, sentence in zip(ids, sentences, strict=True):
        for token, word in zip(row, sentence, strict=False):
            np.testing.assert_array_equal(token, character_ids(word, 9))
        assert not row[len(sentence) :].any()


def test_the_published_width_is_the_default():
    ids = batch_to_ids([["Hello", "Āt"]])
    assert ids.shape == (1, 2, 50)
    assert ids[0, 0, :8].tolist() == [259, 73, 102, 109, 109, 112, 260, 261]
    assert ids[0, 1, :6].tolist() == [259, 197, 129, 117, 260, 261]


def test_with_boundaries_it_is_the_batcher_of_bilm_tf():
    """The shifted marks of ELMO_SPEC 2.1 around every sentence, an empty one too."""
    ids = batch_to_ids([["th"], []], Characters(5), boundaries=True)
    begin, end, none = [259, 257, 260, 261, 261], [259, 258, 260, 261, 261], [0] * 5
    assert ids.tolist() == [[begin, [259, 117, 105, 260, 261], end], [begin, end, none]]


def test_words_with_boundaries_are_the_token_batcher_of_bilm_tf():
    vocabulary = Vocabulary(["</S>", "<S>", "It", "The", "first", ".", "said", "<UNK>"])
    ids = batch_to_ids([["The", "first", "."], ["It", "said"]], Words(vocabulary), boundaries=True)
    assert ids.tolist() == [[2, 4, 5, 6, 1], [2, 3, 7, 1, 0]]
    assert batch_to_ids([["never", "said"]], Words(vocabulary)).tolist() == [[8, 7]]


def test_tokens_to_add_are_one_character_of_a_given_id():
    """ELMO_SPEC 2.1: ``[258, k, 259, 260 ...]``, each plus one, wherever the token stands; even a boundary's name."""
    spelling = Characters(6, {"[MASK]": 1, "<s>": 256, "<S>": 7})
    ids = batch_to_ids([["a", "[MASK]"], ["<s>", "<S>"]], spelling)
    assert ids[0, 1].tolist() == [259, 2, 260, 261, 261, 261]
    assert ids[1].tolist() == [[259, 257, 260, 261, 261, 261], [259, 8, 260, 261, 261, 261]]
    np.testing.assert_array_equal(ids[0, 0], character_ids("a", 6))


@pytest.mark.parametrize("character", [-1, 258, 261])
def test_tokens_to_add_that_no_table_has_are_refused(character):
    with pytest.raises(UserError, match=f"'x': {character}; a character is a byte, 0 to 255, or 256 or 257"):
        Characters(50, {"x": character})


@given(SENTENCES, KNOWN)
def test_distinct_words_are_the_words(sentences, known):
    """What an id stands for, looked up by hand, is the token; each unknown word is spelt once and known ones never."""
    spelling = Characters(9)
    ids, types, n_types = DistinctIds(spelling, known)(sentences)
    spelt = [*spelling(known).tolist(), *types[:n_types].tolist()]
    for row, sentence in zip(ids, sentences, strict=True):
        assert [spelt[k - 1] for k in row[: len(sentence)]] == spelling(sentence).tolist()
        assert not row[len(sentence) :].any()
    assert n_types == len({token for sentence in sentences for token in sentence} - set(known))
    assert (types[n_types:] == spelling.pad).all()


def test_shapes_can_be_fixed_for_a_compiled_program():
    numbered = DistinctIds(Characters(6))
    assert [array.shape for array in numbered([["a", "b"], ["c"]], length=4, room=7)] == [(2, 4), (7, 6), ()]
    assert numbered([["a", "b", "c"]]).types.shape == (4, 6)
    assert batch_to_ids([["a"]], length=3).shape == (1, 3, 50)
    with pytest.raises(UserError, match="3 distinct words are to be spelt and room is 2"):
        numbered([["a", "b", "c"]], room=2)
    with pytest.raises(UserError, match="has 4 tokens and length is 3; raise length or cut"):
        batch_to_ids([["a", "b"]], boundaries=True, length=3)


@pytest.mark.parametrize("make", [batch_to_ids, DistinctIds(Characters(50))])
def test_text_instead_of_tokens_is_refused(make):
    with pytest.raises(UserError, match=r"not the text 'A sentence': use its \.split\(\)"):
        make(["A sentence"])
