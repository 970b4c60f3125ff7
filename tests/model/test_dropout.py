"""Dropout: where it acts, what its masks depend on, and that it keeps the mean."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Model, Softmax
from elmo_jax.interop import bilm_tf
from elmo_jax.model.bilm import BiLM, zero_carry
from elmo_jax.model.clusters import Clusters
from tests.model.sentences import arrays
from tests.reference.numpy_bilm import NumpyBiLM, random_weights

LAYERS = 3
PLACES = {"input": [0], "between": [1, 2], "output": [3]}
SMALL = Model(
    char_cnn=CharCNN(embedding=CharEmbedding(4), filters=((1, 4), (2, 5)), max_characters_per_token=12, n_highway=1),
    lstm=LSTM(dim=10, projection_dim=6, n_layers=LAYERS),
    softmax=Softmax("full"),
    dropout=0.4,
)
SHAPE = D, T, B, P = 2, 5, 3, 6
KEYS = jax.random.split(jax.random.key(4), B)


def with_(**changes):
    return dataclasses.replace(SMALL, **changes)


def factors(config, keys, site, length=T):
    """What dropout multiplies the input of layer ``site`` with, ``[D, T, B, P]``."""
    return np.asarray(BiLM(config, Clusters(5)).bind({})._dropout(jnp.ones((D, length, len(keys), P)), keys, site))


def dropped_top(reference, tokens, factors_SDTP):
    """ELMO_SPEC 2.12: the input of every layer is dropped, the skip adds the dropped input, and so is the top."""
    e_TP = np.stack([reference.token_encoding(token) for token in tokens])
    tops = []
    for direction in range(D):
        state = reference.initial_state(1)
        cells, hiddens = state["cell"][0, :, direction], state["hidden"][0, :, direction]
        y_TP = e_TP if direction == 0 else e_TP[::-1]
        for layer in range(LAYERS):
            x_TP, y_TP = factors_SDTP[layer][direction] * y_TP, np.zeros_like(y_TP)
            for t, x in enumerate(x_TP):
                cells[layer], hiddens[layer] = reference.cell(x, cells[layer], hiddens[layer], layer, direction)
                y_TP[t] = hiddens[layer] + (x if layer > 0 else 0)
        tops.append(factors_SDTP[LAYERS][direction] * y_TP)
    return np.stack(tops)


@pytest.mark.parametrize(
    ("places", "mask"),
    [
        (("input", "between", "output"), "position"),
        (("input", "between", "output"), "window"),
        (("input",), "position"),
        (("between",), "window"),
        (("output",), "position"),
        ((), "position"),
    ],
)
def test_it_acts_on_these_places_and_on_no_other(places, mask):
    """Against independent NumPy code that multiplies with the masks, which are the same whatever the places."""
    config, everywhere = with_(dropout_places=places, dropout_mask=mask), with_(dropout_mask=mask)
    options = bilm_tf.options(Config(model=config), 11)
    weights = {name: 0.5 * value for name, value in random_weights(options, np.random.default_rng(3)).items()}
    params = bilm_tf.parameters(weights, Config(model=config))
    sentences = [["a", "few", "words"], ["Māris", "has", "three"], ["the", "last", "row"]]
    inputs = (*arrays(sentences, config.char_cnn.max_characters_per_token), zero_carry(config, B), KEYS)
    layers, _ = jax.jit(lambda *inputs: BiLM(config, Clusters(11)).apply({"params": params}, *inputs))(*inputs)
    active = {site for place in places for site in PLACES[place]}
    for row, tokens in enumerate(sentences):
        ones = np.ones((D, T, P))
        by_site = [factors(everywhere, KEYS, site)[:, :, row] if site in active else ones for site in range(LAYERS + 1)]
        wanted = dropped_top(NumpyBiLM(options, weights), ["<S>", *tokens, "</S>"], by_site)
        np.testing.assert_allclose(layers[-1][:, :, row], wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("mask", "length"), [("position", T), ("window", 1)])
def test_the_mask_of_a_row_is_drawn_from_its_key_and_the_site(mask, length):
    for site in (1, LAYERS):
        draws = [jax.random.bernoulli(jax.random.fold_in(key, site), 0.6, (D, length, P)) for key in KEYS]
        wanted = np.broadcast_to(np.stack(draws, axis=2), SHAPE) / np.float32(0.6)
        np.testing.assert_array_equal(factors(with_(dropout_mask=mask), KEYS, site), wanted)


@pytest.mark.parametrize("mask", ["position", "window"])
def test_masks_of_rows_sites_directions_and_steps_have_nothing_to_do_with_each_other(mask):
    """Of two independent masks of rate 0.4, 0.6^2 of the elements survive in both."""
    rows = 4000
    config, keys = with_(dropout_mask=mask), jax.random.split(jax.random.key(0), rows)
    other_keys = jax.vmap(lambda key: jax.random.fold_in(key, 9))(keys)
    kept = factors(config, keys, 0, 2) > 0
    pairs = {
        "rows": (kept[:, :, 1:], kept[:, :, :-1]),
        "sites": (kept, factors(config, keys, 1, 2) > 0),
        "directions": (kept[0], kept[1]),
        "keys": (kept, factors(config, other_keys, 0, 2) > 0),
        "units": (kept[..., 1:], kept[..., :-1]),
    }
    for name, (one, other) in pairs.items():
        # Five standard deviations; in a window mask the positions are copies of each other.
        tolerance = 5 * (0.36 * 0.64 / (one.size / 2)) ** 0.5
        assert abs((one & other).mean() - 0.36) < tolerance, name
    both_positions = (kept[:, 0] & kept[:, 1]).mean()
    assert both_positions == pytest.approx(0.36 if mask == "position" else 0.6, abs=0.01)


@pytest.mark.parametrize("mask", ["position", "window"])
def test_it_keeps_the_mean(mask):
    keys = jax.random.split(jax.random.key(0), 4000)
    dropped = factors(with_(dropout_mask=mask), keys, 0)
    assert set(np.unique(dropped).tolist()) == {0.0, float(np.float32(1) / np.float32(0.6))}
    np.testing.assert_allclose(dropped.mean(axis=2), 1, atol=0.08)


def test_a_mask_of_a_window_is_the_same_at_all_its_positions():
    dropped = factors(with_(dropout_mask="window"), KEYS, 0)
    assert (dropped == dropped[:, :1]).all()
    fresh = factors(SMALL, KEYS, 0)
    assert (fresh != fresh[:, :1]).any()
