"""Tokens and the characters of the line that they were made of."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data.alignment import Token, align
from elmo_jax.data.segmentation import Segmentation


def tokens_of(line, segmentation):
    return [token for sentence in segmentation(line) for token in sentence]


@pytest.mark.parametrize("segmentation", [Segmentation(), Segmentation("unicode", "unicode")], ids=str)
@given(st.text())
def test_tokens_that_were_only_cut_are_found_exactly(segmentation, line):
    tokens = tokens_of(line, segmentation)
    found = align(line, tokens)
    assert [token.text for token in found] == tokens == [line[token.start : token.end] for token in found]
    assert all(a.end <= b.start for a, b in pairwise(found))


@given(st.text(alphabet="ab .,'\"-$%\x01\u00a0\u4e2d&<", max_size=30))
def test_moses_tokens_lie_in_order_inside_the_line(line):
    tokens = tokens_of(line, Segmentation("moses"))
    found = align(line, tokens)
    assert [token.text for token in found] == tokens
    assert all(0 <= token.start <= token.end <= len(line) for token in found)
    assert all(a.end <= b.start or (b.start, b.end) == (a.start, a.end) for a, b in pairwise(found))


def test_the_same_word_twice():
    assert [(t.start, t.end) for t in align("the the  the", ["the"] * 3)] == [(0, 3), (4, 7), (9, 12)]


def test_a_rewritten_token_keeps_the_characters_between_its_neighbours():
    assert align('He said "no" .', ["He", "said", "``", "no", "''", "."]) == [
        Token("He", 0, 2),
        Token("said", 3, 7),
        Token("``", 8, 9),
        Token("no", 9, 11),
        Token("''", 11, 12),
        Token(".", 13, 14),
    ]


def test_characters_that_were_left_out_belong_to_the_token_around_them():
    assert align("so\x01ft", ["soft"]) == [Token("soft", 0, 5)]


def test_a_token_made_of_nothing_has_no_characters():
    assert align("a b", ["a", "<new>", "b"]) == [Token("a", 0, 1), Token("<new>", 1, 1), Token("b", 2, 3)]
