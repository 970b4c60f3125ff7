"""The table of words: each distinct word is read once; a softmax that shares it trains the one table of both."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import LSTM, Model, Softmax
from elmo_jax.model.bilm import BiLM, smallest_inputs, zero_carry
from elmo_jax.model.clusters import Clusters
from elmo_jax.model.word_table import WordEncoder
from tests.model.parameters import random_parameters

WORDS, WIDTH = 12, 5


def test_the_gradient_reaches_the_words_in_use_and_no_other():
    encoder = WordEncoder(WORDS, WIDTH)
    words, used = np.array([7, 2, 11, 0, 0]), np.int32(3)
    params = random_parameters(encoder, words, used, method="__call__")
    table = params["params"]["embedding"]
    np.testing.assert_array_equal(encoder.apply(params, words, used), [*table[words[:3]], *np.zeros((2, WIDTH))])
    weight = np.arange(1.0, 26.0, dtype=np.float32).reshape(5, WIDTH)
    gradient = jax.grad(lambda p: (encoder.apply(p, words, used) * weight).sum())(params)["params"]["embedding"]
    wanted = np.zeros((WORDS, WIDTH))
    wanted[words[:3]] = weight[:3]
    np.testing.assert_array_equal(gradient, wanted)


def test_a_table_starts_with_the_values_of_glorot():
    table = WordEncoder(1000, 64).init(jax.random.key(0), np.zeros(1, int), 1)["params"]["embedding"]
    limit = (6 / (1000 + 64)) ** 0.5
    assert 0.99 * limit < jnp.abs(table).max() <= limit


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_a_shared_table_has_the_loss_of_two_equal_ones_and_the_sum_of_their_gradients(kind):
    apart = Model(input="words", lstm=LSTM(dim=7, projection_dim=WIDTH, n_layers=1), softmax=Softmax(kind, (), 4.0, 6))
    models = [
        BiLM(config, Clusters(WORDS)) for config in (apart, dataclasses.replace(apart, share_embedding_softmax=True))
    ]
    shared = random_parameters(models[1], *smallest_inputs(apart), method="everything")["params"]
    assert set(shared["softmax"]) == {"bias"}
    own = {**shared, "softmax": {"kernel": shared["encoder"]["embedding"], **shared["softmax"]}}
    rng = np.random.default_rng(0)
    index, targets = rng.integers(0, 4, (2, 3, 2)), rng.integers(0, WORDS, (2, 3, 2))
    mask = np.ones((3, 2), bool)
    inputs = np.array([3, 8, 1, 5]), np.int32(4), index, ~mask, mask, zero_carry(apart, 2)

    @partial(jax.jit, static_argnums=1)
    @jax.value_and_grad
    def loss(params, model):
        layers, _ = model.apply({"params": params}, *inputs)
        rest = targets, jnp.ones(targets.shape), jax.random.key(1)
        return model.apply({"params": params}, layers[-1], *rest, method="loss")[0]

    (wanted, two), (found, one) = loss(own, models[0]), loss(shared, models[1])
    assert found == wanted
    sums = {**two, "encoder": {"embedding": two["encoder"]["embedding"] + two["softmax"].pop("kernel")}}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, sums)
