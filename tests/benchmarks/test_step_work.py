"""The operations and products of a step, against a count of every single multiply-add."""

import dataclasses

import numpy as np
import pytest

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Model, Softmax
from elmo_jax.model.clusters import Clusters, tail_dim

CNN = CharCNN(embedding=CharEmbedding(3), filters=((1, 2), (2, 4), (4, 5)), max_characters_per_token=9, n_highway=2)
LENGTHS = np.array([3, 4, 7, 8, 9])  # 7: room for a window of padding of some filters only
BATCH, UNROLL = 4, 6
COUNTS = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 1])


def work(kind="adaptive", cutoffs=(4, 7), **changes):
    from step_work import Work

    model = Model(char_cnn=CNN, lstm=LSTM(dim=8, projection_dim=6), softmax=Softmax(kind=kind, factor=2.0))
    clusters = Clusters(len(COUNTS), cutoffs if kind == "adaptive" else ())
    return Work(dataclasses.replace(model, **changes), clusters, COUNTS, BATCH, UNROLL, len(LENGTHS), lengths=LENGTHS)


def product_macs(a: np.ndarray, b: np.ndarray) -> int:
    """Multiply-adds of a product that is written out."""
    return sum(1 for _ in range(a.shape[0]) for _ in range(b.shape[1]) for _ in range(a.shape[1]))


def matrices(*shapes: tuple[int, int, int]) -> int:
    return sum(product_macs(np.empty((m, k)), np.empty((k, n))) for m, k, n in shapes)


def convolutions(windows_matter) -> int:
    """One for each type, filter, window that matters, character of it and number of its embedding."""
    return sum(
        n * width * CNN.embedding.dim
        for length in LENGTHS
        for width, n in CNN.filters
        for start in range(9 - width + 1)
        if windows_matter(start, length)
    )


def lstm() -> int:
    """Both directions, both layers, all positions: gates from input and state, and the projection."""
    return 2 * 2 * BATCH * UNROLL * matrices((1, 6 + 6, 4 * 8), (1, 8, 6))


def adaptive(word: int, cutoffs=(4, 7)) -> int:
    """Head, and the tail of the word if it has one."""
    macs = matrices((1, 6, cutoffs[0] + len(cutoffs)))
    ends = (*cutoffs, len(COUNTS))
    for k in range(len(cutoffs)):
        if ends[k] <= word < ends[k + 1]:
            dim = tail_dim(6, 2.0, k)
            macs += matrices((1, 6, dim), (1, dim, ends[k + 1] - ends[k]))
    return macs


def rest_of_encoder() -> int:
    return len(LENGTHS) * matrices((1, 11, 11), (1, 11, 11), (1, 11, 11), (1, 11, 11), (1, 11, 6))


def expected_softmax() -> float:
    """Over targets that are spread like the counts."""
    return 2 * BATCH * UNROLL * sum(count * adaptive(word) for word, count in enumerate(COUNTS)) / COUNTS.sum()


def test_useful_operations_are_those_of_the_model_with_every_window():
    encoder = convolutions(lambda start, length: True) + rest_of_encoder()
    # The softmax is counted in whole multiply-adds a position.
    assert work().useful_flop() == pytest.approx(6 * (encoder + lstm() + expected_softmax()), rel=1e-3)


def test_needed_operations_leave_out_all_windows_of_padding_but_one():
    encoder = convolutions(lambda start, length: start <= length) + rest_of_encoder()
    assert work().needed_flop() == pytest.approx(6 * (encoder + lstm() + expected_softmax()), rel=1e-3)


@pytest.mark.parametrize("kind", ["adaptive", "sampled", "full"])
def test_the_products_are_all_of_the_operations(kind):
    from step_work import products

    # Lengths whose mean is whole, in words with room for padding: the products of a chunk have one width.
    same = dataclasses.replace(work(kind), lengths=np.array([4, 4, 4, 4, 4]))
    total = sum(product.flop for product in products(same, chunk=2))
    # The products of the first layer's input, recurrence and weights are there; nothing else is.
    assert total == pytest.approx(same.needed_flop(), rel=1e-3)


def test_lengths_are_the_characters_that_are_no_padding():
    from step_work import lengths

    from elmo_jax.data.characters import PAD

    assert lengths(np.array([[258, 97, 259, PAD], [258, 97, 98, 259]])).tolist() == [3, 4]


def test_word_input_has_no_encoder():
    from step_work import products

    with_words = dataclasses.replace(work(input="words"), lengths=np.zeros(0, int))
    assert {product.part for product in products(with_words)} == {
        "lstm inputs",
        "recurrence",
        "lstm weights",
        "projection",
        "softmax",
    }
