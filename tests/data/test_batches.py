import itertools

import numpy as np
import pytest

from elmo_jax.data.batches import Batch, Batches, prefetch
from elmo_jax.data.characters import character_ids
from elmo_jax.data.streams import Rows
from elmo_jax.data.vocab import Vocabulary, build_from_corpus
from elmo_jax.errors import UserError

B, T, WIDTH = 6, 5, 9


@pytest.fixture
def corpus(encoded, documents):
    return encoded([*documents, [["a-very-long-word", "é"]]])


@pytest.fixture
def vocabulary(corpus):
    # The specials come last: no id is theirs by accident.
    return Vocabulary(build_from_corpus(corpus, 2, 30).words[::-1])


@pytest.fixture
def batches(corpus, vocabulary):
    """Makes the batches of six rows."""

    def make(parts: int = 1, rows: range = range(B), width: int | None = WIDTH, n_directions=2, **settings) -> Batches:
        read = Rows(corpus, B, rows, 0, **settings)
        return Batches(read, corpus, corpus.word_ids(vocabulary), parts, width, T, n_directions)

    return make


def assert_same(a: Batch, b: Batch) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
@pytest.mark.parametrize("epochs", [None, 1])
def test_the_table_spells_every_input_and_the_targets_are_words(batches, corpus, vocabulary, parts, epochs):
    made = batches(parts, epochs=epochs)
    rows = made.rows
    for batch, (window, _) in zip(
        (batch for batch, _ in made.stream(rows.start(), 20)), windows_of(rows, 20), strict=True
    ):
        tables = batch.types.reshape(parts, -1, WIDTH)
        by_part = batch.index.reshape(parts, -1)
        inputs = [corpus.word(i) for i in window.inputs.ravel()]
        read = np.concatenate([table[index] for table, index in zip(tables, by_part, strict=True)])
        np.testing.assert_array_equal(read, character_ids(inputs, WIDTH))

        targets = [vocabulary.id(corpus.word(i)) for i in window.targets.ravel()]
        np.testing.assert_array_equal(batch.targets.ravel(), np.where(kept_twice(window.keep), targets, 0))
        np.testing.assert_array_equal(batch.reset, window.reset)
        np.testing.assert_array_equal(batch.keep, window.keep)
        assert not batch.index[~kept_twice(window.keep).reshape(batch.index.shape)].any()


def windows_of(rows: Rows, n: int):
    position = rows.start()
    for _ in range(n):
        window, position = rows.read(position, T)
        yield window, position


def kept_twice(keep):
    return np.stack([keep, keep], axis=1).ravel()


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("epochs", [None, 1])
def test_a_table_of_words_has_each_word_once_and_one_for_all_that_are_unknown(
    batches, corpus, vocabulary, parts, epochs
):
    made = batches(parts, width=None, epochs=epochs)
    unknown = 0
    stream = (batch for batch, _ in made.stream(made.rows.start(), 20))
    for batch, (window, _) in zip(stream, windows_of(made.rows, 20), strict=True):
        words = [vocabulary.id(corpus.word(i)) for i in window.inputs.ravel()]
        tables, by_part = batch.types.reshape(parts, -1), batch.index.reshape(parts, -1)
        read = np.concatenate([table[index] for table, index in zip(tables, by_part, strict=True)])
        np.testing.assert_array_equal(read, words)
        for table, n in zip(tables, batch.n_types, strict=True):
            assert len(set(table[:n].tolist())) == n
            assert not table[n:].any()
        unknown += words.count(vocabulary.unk_id)
    assert unknown > 20


@pytest.mark.parametrize("width", [WIDTH, None])
def test_forward_only_is_the_forward_half_and_has_the_types_of_no_other(batches, width):
    both, one = batches(2, width=width, epochs=1), batches(2, width=width, n_directions=1, epochs=1)
    steps = both.rows.n_windows(T) + 1
    for (two, _), (forward, _) in zip(both.stream(both.start(), steps), one.stream(one.start(), steps), strict=True):
        tables = [batch.types.reshape(2, -1, *batch.types.shape[1:]) for batch in (two, forward)]
        assert tables[1].shape[1] == tables[0].shape[1] // 2
        for part in range(2):
            rows = slice(3 * part, 3 * part + 3)
            index = forward.index[rows, 0]
            np.testing.assert_array_equal(tables[1][part][index], tables[0][part][two.index[rows, 0]])
            assert set(index.ravel().tolist()) == set(range(forward.n_types[part]))
        np.testing.assert_array_equal(forward.targets, two.targets[:, :1])
        for name in ("reset", "keep", "row"):
            np.testing.assert_array_equal(getattr(forward, name), getattr(two, name))


@pytest.mark.parametrize("parts", [1, 3])
def test_the_table_of_a_part_has_each_type_once_and_short_ones_first(batches, parts):
    made = batches(parts)
    for batch, _ in made.stream(made.rows.start(), 10):
        for table, n, index in zip(
            batch.types.reshape(parts, -1, WIDTH), batch.n_types, batch.index.reshape(parts, -1), strict=True
        ):
            assert set(index.tolist()) == set(range(n))
            assert len(set(map(bytes, table[:n]))) == n
            assert (table[n:] == 260).all()
            lengths = (table[:n] != 260).sum(1)
            # The two boundaries come first whatever their names.
            assert (np.diff(lengths[2:]) >= 0).all()


@pytest.mark.parametrize("n_directions", [1, 2])
@pytest.mark.parametrize("width", [WIDTH, None])
def test_shapes_and_dtypes(batches, width, n_directions):
    batch, position = batches(3, width=width, n_directions=n_directions).at(np.zeros((B, 3), np.int32))
    room = n_directions * (B // 3) * T
    assert {name: (array.shape, array.dtype.name) for name, array in batch._asdict().items()} == {
        "types": ((3 * room, WIDTH), "uint16") if width else ((3 * room,), "int32"),
        "n_types": ((3,), "int32"),
        "index": ((B, n_directions, T), "int32"),
        "targets": ((B, n_directions, T), "int32"),
        "reset": ((B, T), "bool"),
        "keep": ((B, T), "bool"),
        "row": ((B,), "int32"),
    }
    assert (position.shape, position.dtype) == ((B, 3), np.int32)
    assert all(array.flags.c_contiguous for array in batch)


def test_rows_carry_their_global_numbers(batches):
    batch, _ = batches(rows=range(2, 5)).at(np.zeros((3, 3), np.int32))
    assert batch.row.tolist() == [2, 3, 4]


def test_a_process_makes_its_parts_of_the_whole_batch(batches):
    whole, _ = batches(parts=3).at(np.zeros((B, 3), np.int32))
    parts = [batches(parts=1, rows=range(i, i + 2)).at(np.zeros((2, 3), np.int32))[0] for i in (0, 2, 4)]
    assert_same(Batch(*map(np.concatenate, zip(*parts, strict=True))), whole)


@pytest.mark.parametrize("epochs", [None, 2])
def test_a_stream_is_its_batches_one_by_one(batches, epochs):
    made = batches(2, epochs=epochs)
    position = made.rows.start()
    for streamed, after in made.stream(position, 80):
        batch, position = made.at(position)
        assert_same(streamed, batch)
        np.testing.assert_array_equal(after, position)


def test_a_stream_goes_on_from_any_of_its_positions(batches):
    made = batches()
    whole = list(made.stream(made.rows.start(), 40))
    rest = list(made.stream(whole[12][1], 27))
    for (a, _), (b, _) in zip(whole[13:], rest, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("rows", [range(B), range(4, 5)])
def test_a_stream_ends_with_its_rows(batches, rows):
    made = batches(rows=rows, epochs=2)
    kept = [int(batch.keep.sum()) for batch, _ in made.stream(made.rows.start())]
    assert all(kept)
    if rows == range(B):
        assert sum(kept) == 2 * made.rows.corpus.n_predictions
        assert len(kept) == made.rows.n_windows(T)


def test_a_stream_of_given_steps_goes_on_with_padding(batches):
    made = batches(epochs=1)
    steps = made.rows.n_windows(T) + 3
    kept = [bool(batch.keep.any()) for batch, _ in made.stream(made.rows.start(), steps)]
    assert kept == [True] * (steps - 3) + [False] * 3


def test_a_stream_without_steps_or_epochs_has_no_end(batches):
    made = batches()
    stream = prefetch(made.stream(made.rows.start()))
    assert sum(1 for _ in itertools.islice(stream, 100)) == 100
    stream.close()


def test_rows_must_fill_the_parts(batches):
    with pytest.raises(UserError, match=r"6 rows cannot be cut in 4 equal parts .*: use 4 or another multiple of 4"):
        batches(parts=4)


def test_a_batch_is_a_function_of_its_window(batches):
    made, fresh = batches(2), batches(2)
    window, _ = made.rows.read(made.rows.start(), T)
    batch = made.of(window)
    for _ in made.stream(made.start(), 5):
        pass
    assert_same(made.of(window), batch)
    assert_same(fresh.at(fresh.start())[0], batch)
