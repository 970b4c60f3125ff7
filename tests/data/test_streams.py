"""The rows of a corpus against a reference in plain lists."""

import itertools
from collections import Counter

import numpy as np
import pytest

from elmo_jax.data.permutation import epoch_key, permute
from elmo_jax.data.streams import Rows, Window
from elmo_jax.errors import UserError

B = 7


def words_of(corpus, ids) -> list[str]:
    return [corpus.word(int(i)) for i in ids]


def joined(windows: list[Window], axis: int) -> Window:
    return Window(*(np.concatenate(arrays, axis) for arrays in zip(*windows, strict=True)))


def assert_same(a: Window, b: Window) -> None:
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def read_to_the_end(rows: Rows) -> Window:
    return rows.read(rows.start(), rows.n_windows(1))[0]


# The reference: what a row reads, prediction by prediction.


def predictions(sentence: list[str]) -> list[tuple[str, str, str, str, bool]]:
    """(forward input, forward target, backward input, backward target, first of the sentence)."""
    forward = ["<S>", *sentence, "</S>"]
    backward = forward[::-1]
    first = [True] + [False] * len(sentence)
    return list(zip(forward[:-1], forward[1:], backward[:-1], backward[1:], first, strict=True))


def reference(units: list[list[list[str]]], row: int, seed: int | None, epochs: int) -> list[tuple]:
    read = []
    for epoch in range(epochs):
        for number in range(row, len(units), B):
            unit = number
            if seed is not None:
                unit = int(permute(np.array([number]), len(units), epoch_key(seed, np.array([epoch])))[0])
            read += [p for sentence in units[unit] for p in predictions(sentence)]
    return read


def units_of(documents, unit: str) -> list[list[list[str]]]:
    return documents if unit == "document" else [[sentence] for document in documents for sentence in document]


@pytest.mark.parametrize("unit", ["sentence", "document"])
@pytest.mark.parametrize("seed", [None, 5])
@pytest.mark.parametrize("reset", [1, 0])
def test_rows_read_what_the_specification_says(encoded, documents, unit, seed, reset):
    corpus = encoded(documents)
    window = read_to_the_end(Rows(corpus, B, range(B), seed, unit, 2, reset))
    for row in range(B):
        expected = reference(units_of(documents, unit), row, seed, epochs=2)
        n = len(expected)
        forward_in, forward_out, backward_in, backward_out, first = zip(*expected, strict=True)
        assert words_of(corpus, window.inputs[row, 0, :n]) == [*forward_in]
        assert words_of(corpus, window.targets[row, 0, :n]) == [*forward_out]
        assert words_of(corpus, window.inputs[row, 1, :n]) == [*backward_in]
        assert words_of(corpus, window.targets[row, 1, :n]) == [*backward_out]
        if reset:
            assert window.reset[row, :n].tolist() == [*first]
        else:
            assert window.reset[row].tolist() == [True] + [False] * (window.keep.shape[1] - 1)
        # After its last epoch a row is padding.
        assert window.keep[row].tolist() == [True] * n + [False] * (window.keep.shape[1] - n)
        assert not any(array[row, ..., n:].any() for array in window)


def test_random_resets_fall_on_sentences_and_change_nothing_else(encoded, documents):
    corpus = encoded(documents)
    every, some, none = (read_to_the_end(Rows(corpus, B, range(B), 5, "sentence", 40, reset)) for reset in (1, 0.3, 0))
    assert not (some.reset & ~every.reset).any()
    assert some.reset[:, 0].all()
    assert_same(some._replace(reset=none.reset), none)
    assert some.reset.sum() / every.reset.sum() == pytest.approx(0.3, abs=0.03)


def test_random_resets_differ_by_epoch_and_seed(encoded, documents):
    def resets(seed, epoch):
        position = np.broadcast_to(np.array([epoch, 0, 0], np.int32), (B, 3))
        return Rows(encoded(documents), B, range(B), seed, "document", None, 0.5).read(position, 30)[0].reset.tobytes()

    assert len({resets(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


# Coverage


def sentences_by_epoch(corpus, rows: Rows, epochs: int) -> list[list[tuple[list[str], list[str]]]]:
    """The (forward, backward) targets of every sentence that the rows read in each epoch, read one by one."""
    read: list[list[tuple[list[str], list[str]]]] = [[] for _ in range(epochs)]
    present = {}
    position = rows.start()
    while (position[:, 0] < epochs).any():
        epoch = position[:, 0]
        window, position = rows.read(position, 1)
        for row in np.flatnonzero(window.keep[:, 0] & (epoch < epochs)):
            if window.reset[row, 0]:
                present[row] = ([], [])
                read[epoch[row]].append(present[row])
            for direction in range(2):
                present[row][direction].append(corpus.word(int(window.targets[row, direction, 0])))
    return read


@pytest.mark.parametrize("unit", ["sentence", "document"])
@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("epochs", [None, 2])
@pytest.mark.parametrize("processes", [[range(7)], [range(3), range(3, 5), range(5, 7)]])
def test_every_epoch_reads_every_sentence_once_in_both_directions(encoded, documents, unit, seed, epochs, processes):
    corpus = encoded(documents)
    parts = [sentences_by_epoch(corpus, Rows(corpus, B, r, seed, unit, epochs, reset=1), 2) for r in processes]
    for of_one_epoch in zip(*parts, strict=True):
        read = list(itertools.chain(*of_one_epoch))
        assert all(forward[-1] == "</S>" and backward[-1] == "<S>" for forward, backward in read)
        assert all(forward[:-1] == backward[-2::-1] for forward, backward in read)
        wanted = Counter(tuple(sentence) for document in documents for sentence in document)
        assert Counter(tuple(forward[:-1]) for forward, _ in read) == wanted


@pytest.mark.parametrize("unit", ["sentence", "document"])
@pytest.mark.parametrize("reset", [1, 0.5, 0])
@pytest.mark.parametrize("epochs", [None, 2])
def test_short_windows_make_up_a_long_one(encoded, documents, unit, reset, epochs):
    corpus = encoded(documents)
    rows = Rows(corpus, B, range(B), 9, unit, epochs, reset)
    lengths = np.random.default_rng(2).integers(1, 25, 30)
    position, windows = rows.start(), []
    for length in lengths:
        window, position = rows.read(position, int(length))
        windows.append(window)
    whole, end = rows.read(rows.start(), int(lengths.sum()))
    assert_same(joined(windows, axis=-1), whole)
    np.testing.assert_array_equal(position, end)
    assert end.dtype == np.int32
    assert end[:, 0].max() >= 2  # it went over two epochs


def test_many_windows_at_once_are_the_windows_one_by_one(encoded, documents):
    corpus = encoded(documents)
    rows = Rows(corpus, B, range(B), 9, "sentence", 3, reset=0.5)
    position = rows.read(rows.start(), 5)[1]
    block, positions = rows.read_windows(position, 8, 6)
    for i in range(6):
        window, position = rows.read(position, 8)
        assert_same(block.cut(8 * i, 8 * i + 8), window)
        np.testing.assert_array_equal(positions[i], position)


def test_a_row_does_not_depend_on_the_rows_beside_it(encoded, documents):
    corpus = encoded(documents)
    whole, end = Rows(corpus, B, range(B), 1).read(np.zeros((B, 3), np.int32), 40)
    parts = [Rows(corpus, B, r, 1).read(np.zeros((len(r), 3), np.int32), 40) for r in (range(3), range(3, 7))]
    assert_same(joined([window for window, _ in parts], axis=0), whole)
    np.testing.assert_array_equal(np.concatenate([position for _, position in parts]), end)


def test_rows_may_be_in_different_epochs(encoded, documents):
    corpus = encoded(documents)
    rows = Rows(corpus, B, range(B), 1, "document")
    far = rows.read(rows.start(), 500)[1]
    mixed = np.where(np.arange(B)[:, None] % 2, far, rows.start())
    window = rows.read(mixed, 30)[0]
    for row in range(B):
        of_all = rows.read((rows.start(), far)[row % 2], 30)[0]
        assert_same(Window(*(x[row] for x in window)), Window(*(x[row] for x in of_all)))


def test_seeds_give_different_orders(encoded, documents):
    corpus = encoded(documents)
    read = {
        Rows(corpus, B, range(B), seed).read(np.zeros((B, 3), np.int32), 20)[0].inputs.tobytes()
        for seed in (*range(5), None)
    }
    assert len(read) == 6


# Positions and ends


def test_a_position_is_epoch_units_finished_and_predictions_of_the_present_one(encoded):
    rows = Rows(encoded([[["a", "b"], ["c"]]]), 1, range(1), seed=None)
    positions = [rows.read(rows.start(), length)[1][0].tolist() for length in (1, 2, 3, 4, 5, 6, 8, 10)]
    assert positions == [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1], [1, 1, 0], [2, 0, 0]]


def test_dtypes_and_shapes(encoded, documents):
    window, _ = Rows(encoded(documents), B, range(2, 6), 0).read(np.zeros((4, 3), np.int32), 9)
    assert [(x.shape, x.dtype) for x in window] == [
        *[((4, 2, 9), np.int32)] * 2,
        *[((4, 9), bool)] * 2,
    ]


def test_the_number_of_windows_is_that_of_the_longest_row(encoded, documents):
    corpus = encoded(documents)
    for seed, unit, length in itertools.product((None, 4), ("sentence", "document"), (1, 5, 20)):
        rows = Rows(corpus, B, range(2), seed, unit, 3)
        units = units_of(documents, unit)
        longest = max(len(reference(units, row, seed, 3)) for row in range(B))
        assert rows.n_windows(length) == -(-longest // length)


def test_rows_without_a_unit_are_padding(encoded):
    corpus = encoded([[["a", "b"], ["c"]]])
    rows = Rows(corpus, 4, range(4), 0, epochs=1)
    window, position = rows.read(rows.start(), 3)
    assert window.keep.sum(1).tolist() in ([3, 2, 0, 0], [2, 3, 0, 0])
    assert position.tolist() == [[1, 0, 0]] * 4
    window, again = rows.read(position, 5)
    assert not any(array.any() for array in window)
    np.testing.assert_array_equal(again, position)


@pytest.mark.parametrize(("unit", "named"), [("sentence", "3 sentences"), ("document", "2 documents")])
def test_endless_rows_need_a_unit_each(encoded, unit, named):
    corpus = encoded([[["a"], ["b"]], [["c"]]])
    with pytest.raises(UserError, match=f"4 rows cannot share {named}.*batch_size to at most"):
        Rows(corpus, 4, range(4), 0, unit)


def test_rows_beyond_the_last_are_padding(encoded, documents):
    corpus = encoded(documents)
    more = read_to_the_end(Rows(corpus, B, range(5, B + 3), 0, epochs=1))
    fewer = read_to_the_end(Rows(corpus, B, range(5, B), 0, epochs=1))
    assert_same(Window(*(x[: B - 5] for x in more)), fewer)
    assert not any(x[B - 5 :].any() for x in more)
    with pytest.raises(ValueError, match="not among 7 rows"):
        Rows(corpus, B, range(5, B + 3), 0)


def test_endless_rows_have_no_number_of_windows(encoded):
    with pytest.raises(ValueError, match="no end"):
        Rows(encoded([[["a"]]]), 1, range(1), 0).n_windows(5)
