import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data import characters
from elmo_jax.data.characters import (
    BOS,
    BOW,
    EOS,
    EOW,
    N_CHARACTERS,
    PAD,
    CharacterTable,
    character_ids,
    character_rows,
    utf8,
)

WIDTH = 50
TOKENS = st.lists(st.text(max_size=12).filter(lambda token: token not in ("<S>", "</S>")))


def spelled(token: str, width: int = WIDTH) -> list[int]:
    """The ids before the padding, which is checked."""
    (row,) = character_ids([token], width).tolist()
    while row[-1] == PAD:
        row.pop()
    return row


def test_ids_of_the_marks():
    assert (BOS, EOS, BOW, EOW, PAD, N_CHARACTERS) == (256, 257, 258, 259, 260, 261)


@pytest.mark.parametrize(
    ("token", "row"),
    [
        ("<S>", [258, 256, 259]),
        ("</S>", [258, 257, 259]),
        ("<s>", [258, *b"<s>", 259]),
        ("<UNK>", [258, *b"<UNK>", 259]),
        ("Ā" + "t", [258, 196, 128, 116, 259]),
        ("", [258, 259]),
        ("a\ud800b", [258, 97, 98, 259]),
    ],
)
def test_examples_of_the_specification(token, row):
    assert spelled(token) == row


@pytest.mark.parametrize("n_bytes", [47, 48, 49, 1000])
def test_a_long_token_keeps_its_first_bytes(n_bytes):
    assert spelled("x" * n_bytes) == [258, *[120] * min(n_bytes, 48), 259]


def test_a_character_may_be_cut_in_its_middle():
    assert spelled("x" + "€" * 2, width=7) == [258, 120, *"€".encode(), "€".encode()[0], 259]


def test_shape_and_dtype():
    rows = character_ids(["a", "bc", "<S>"], 6)
    assert rows.dtype == np.uint16
    assert rows.shape == (3, 6)
    assert character_ids([], 6).shape == (0, 6)


@given(TOKENS, st.integers(3, 20))
def test_every_row_is_the_reference(tokens, width):
    for token, row in zip(tokens, character_ids(tokens, width).tolist(), strict=True):
        data = token.encode("utf-8", "ignore")[: width - 2]
        assert row == [BOW, *data, EOW] + [PAD] * (width - 2 - len(data))


@given(TOKENS, st.integers(3, 20), st.data())
def test_rows_of_flat_bytes_are_the_rows_of_the_tokens(words, width, data):
    types = ["<S>", "</S>", *words]
    offsets = np.cumsum([0, *(len(utf8(word)) for word in types)])
    flat = np.frombuffer(b"".join(map(utf8, types)), np.uint8)
    ids = np.array(data.draw(st.lists(st.integers(0, len(types) - 1))), np.int32)
    expected = character_ids([types[i] for i in ids], width)
    np.testing.assert_array_equal(character_rows(flat, offsets, ids, width), expected)


@pytest.mark.parametrize("kept", [1, 3, 100])
def test_a_table_spells_the_types_it_keeps_and_all_others(encoded, documents, monkeypatch, kept):
    monkeypatch.setattr(characters, "TYPES_KEPT", kept)
    corpus = encoded([*documents, [["a-very-long-word", "é"]]])
    table = CharacterTable(corpus.type_bytes, corpus.type_offsets, corpus.type_counts, 9)
    for ids in (np.arange(corpus.n_types), np.array([7, 3, 0, 7]), np.array([], np.int32)):
        rows = np.zeros((len(ids), 9), np.uint16)
        table.spell(ids, rows)
        np.testing.assert_array_equal(rows, character_ids([corpus.word(i) for i in ids], 9))
