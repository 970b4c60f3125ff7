"""Rows of sentences: every word at one place, read in both directions, and little besides."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.embed.blocks import ahead, block_of, blocks
from elmo_jax.embed.packing import pack, side_by_side

WINDOW = 8
LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=30)


def sentences(lengths):
    return [[f"{number}.{word}" for word in range(length)] for number, length in enumerate(lengths)]


@given(LENGTHS)
def test_every_direction_reads_every_sentence_in_its_order(lengths):
    block = block_of(sentences(lengths))
    packing = pack(block.length_N, (1, 4, 16), WINDOW)
    (forward_SB, backward_SB), reset_SB, keep_SB = packing.arrays(block, 2)
    assert keep_SB.sum() == sum(length + 2 for length in lengths)
    assert reset_SB.sum() == len(lengths)
    for number, words in enumerate(sentences(lengths)):
        start, row = packing.start_N[number], packing.row_N[number]
        steps = slice(start, start + len(words) + 2)
        assert reset_SB[start, row]
        assert [block.words[i] for i in forward_SB[steps, row]] == ["<S>", *words, "</S>"]
        assert [block.words[i] for i in backward_SB[steps, row]] == ["</S>", *reversed(words), "<S>"]


@given(LENGTHS, st.integers(0, 29))
def test_pieces_cover_a_sentence_once(lengths, number):
    packing = pack(np.array(lengths) + 1, (1, 4), WINDOW)
    number %= len(lengths)
    covered = []
    for window, steps, places in packing.pieces(number, WINDOW):
        assert packing.start_N[number] + places.start == window * WINDOW + steps.start
        assert steps.stop <= WINDOW
        covered += range(places.start, places.stop)
    assert covered == list(range(lengths[number] + 1))


def test_rows_of_many_sentences_hold_hardly_any_padding():
    lengths = np.random.default_rng(0).integers(2, 60, 1000)
    packing = pack(lengths, (1, 4, 16, 64), 32)
    assert packing.n_rows == 64
    assert lengths.sum() / (packing.n_rows * packing.n_steps) > 0.95


def test_one_long_sentence_is_one_row():
    assert pack(np.array([10_000]), (1, 4, 16, 64), 32).n_rows == 1


def test_side_by_side_each_has_its_row():
    packing = side_by_side(np.array([3, 20]), 4, WINDOW)
    assert (packing.n_rows, packing.n_steps, list(packing.row_N), list(packing.start_N)) == (4, 24, [0, 1], [0, 0])


@given(LENGTHS, st.integers(1, 60))
def test_blocks_keep_order_and_size(lengths, capacity):
    found = list(blocks(sentences(lengths), capacity))
    words = [[block.words[i] for i in block.sentence(n)[1:-1]] for block in found for n in range(len(block.length_N))]
    assert words == sentences(lengths)
    assert all(len(block.ids) <= capacity or len(block.length_N) == 1 for block in found)


def test_ahead_makes_one_more_than_it_gives():
    made = []
    items = ahead(made.append(i) or i for i in range(4))
    assert (next(items), made) == (0, [0, 1])
    assert [*items] == [1, 2, 3]
    assert list(ahead([])) == []
