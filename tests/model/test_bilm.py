"""The whole network: against independent NumPy code and recorded outputs; no leak; distinct types; dropout by row."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Model, Softmax
from elmo_jax.interop import bilm_tf
from elmo_jax.model.bilm import BiLM, zero_carry
from elmo_jax.model.clusters import Clusters
from tests.model.parameters import random_parameters
from tests.model.sentences import arrays, in_text_order
from tests.reference.numpy_bilm import NumpyBiLM, load_hdf5, random_weights
from tests.shared import shared

SMALL = Model(
    char_cnn=CharCNN(
        embedding=CharEmbedding(4), filters=((1, 4), (2, 5), (4, 3)), max_characters_per_token=12, n_highway=2
    ),
    # Tight clips, so that they bite on values that float32 holds to better than 1e-6.
    lstm=LSTM(dim=10, projection_dim=6, cell_clip=0.6, proj_clip=0.3),
    softmax=Softmax("full"),
    dropout=0.5,
)
BATCHES = [
    [["A", "first", "sentence", "of", "extraordinary", "length"], ["Māris", "?"], []],
    [["again"], ["and", "a", "longer", "one"], ["x", "y", "z"]],
]


def with_(cnn=None, lstm=None):
    return dataclasses.replace(
        SMALL,
        char_cnn=dataclasses.replace(SMALL.char_cnn, **(cnn or {})),
        lstm=dataclasses.replace(SMALL.lstm, **(lstm or {})),
    )


def weights_for(options):
    return {name: 0.5 * value for name, value in random_weights(options, np.random.default_rng(3)).items()}


def example_inputs(config):
    return (*arrays([["a"]], config.char_cnn.max_characters_per_token), zero_carry(config, 1))


def initialised(config):
    model = BiLM(config, Clusters(11))
    return model, random_parameters(model, *example_inputs(config), method="everything")["params"]


ARCHITECTURES = {
    "as published": SMALL,
    "no skip connections": with_(lstm={"use_skip_connections": False}),
    "no clips": with_(lstm={"cell_clip": None, "proj_clip": None}),
    "one layer": with_(lstm={"n_layers": 1}),
    "three layers": with_(lstm={"n_layers": 3}),
    "tanh": with_(cnn={"activation": "tanh"}),
    "no highway": with_(cnn={"n_highway": 0}),
    "P = C": with_(lstm={"dim": 6}),
    "filters = P": with_(lstm={"projection_dim": 12, "dim": 14}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_independent_numpy_code_with_carried_state(name):
    """Float32 against a float64 implementation written from ELMO_SPEC alone."""
    config = ARCHITECTURES[name]
    options = bilm_tf.options(Config(model=config), 11)
    weights = weights_for(options)
    reference = NumpyBiLM(options, weights)
    model, _ = initialised(config)
    params = bilm_tf.parameters(weights, Config(model=config))
    carry, state = zero_carry(config, 3), None
    run = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
    for sentences in BATCHES:
        inputs = arrays(sentences, config.char_cnn.max_characters_per_token, room=(16, 10))
        layers, carry = run(params, *inputs, carry)
        wanted, state = reference(sentences, state)
        for got, expected in zip(in_text_order(layers, sentences), wanted, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-6, rtol=1e-5)
    for part, value in state.items():
        np.testing.assert_allclose(carry[part], value, atol=1e-6, rtol=1e-5)


def test_the_clips_and_the_skip_matter_in_that_comparison():
    changed = {"no skip connections", "no clips"}
    outputs = {}
    for name in ["as published", *changed]:
        config = ARCHITECTURES[name]
        options = bilm_tf.options(Config(model=SMALL), 11)
        params = bilm_tf.parameters(weights_for(options), Config(model=config))
        model, _ = initialised(config)
        inputs = (*arrays(BATCHES[0], 12), zero_carry(config, 3))
        layers, _ = jax.jit(lambda params, model=model, inputs=inputs: model.apply({"params": params}, *inputs))(params)
        outputs[name] = layers[-1]
    for name in changed:
        assert jnp.abs(outputs[name] - outputs["as published"]).max() > 0.05


def test_recorded_outputs_of_bilm_tf_in_ten_stateful_batches():
    folder = shared("fixtures/bilm_tf/model")
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    cnn, lstm = options["char_cnn"], options["lstm"]
    config = Model(
        char_cnn=CharCNN(
            cnn["activation"],
            CharEmbedding(cnn["embedding"]["dim"]),
            tuple(map(tuple, cnn["filters"])),
            cnn["max_characters_per_token"],
            cnn["n_highway"],
        ),
        lstm=LSTM(**lstm),
        softmax=Softmax("full"),
    )
    params = bilm_tf.parameters(load_hdf5(folder / "lm_weights.hdf5"), Config(model=config))
    model, _ = initialised(config)
    texts = json.loads((folder / "lm_embeddings_sentences.json").read_text(encoding="utf-8"))
    recorded = [load_hdf5(folder / f"lm_embeddings_{k}.hdf5") for k in range(len(texts))]
    run = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    carry = zero_carry(config, 3)
    for i in range(10):
        sentences = [text[i].split() for text in texts]
        layers, carry = run(*arrays(sentences, cnn["max_characters_per_token"], room=(150, 80)), carry)
        for got, outputs in zip(in_text_order(layers, sentences), recorded, strict=True):
            forward, backward = np.split(got[-1, 1:-1], 2, axis=-1)
            np.testing.assert_allclose([forward, backward], outputs[str(i)], atol=1e-6, rtol=1e-5)


def one_character_a_type(n):
    """Types that share no character, so that the gradient of a character table row tells which type was read."""
    return np.repeat(np.arange(n, dtype=np.uint16)[:, None], 12, axis=1)


@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "backward"])
def test_no_output_depends_on_what_its_direction_reads_later(direction):
    model, params = initialised(SMALL)
    steps = 6
    text = np.arange(steps)
    index = np.stack([text, text[::-1]])[:, :, None]
    mask = np.ones((steps, 1), bool)

    def output(table, t):
        changed = {**params, "encoder": {**params["encoder"], "char_embed": table}}
        inputs = (one_character_a_type(steps), steps, index, ~mask, mask, zero_carry(SMALL, 1))
        layers, _ = model.apply({"params": changed}, *inputs)
        return layers[-1][direction][t].sum()

    gradient_of = jax.jit(jax.grad(output))
    for t in range(steps):
        gradient = np.abs(gradient_of(params["encoder"]["char_embed"], t)).sum(axis=1)
        read = index[direction, : t + 1, 0]
        assert (gradient[read] > 0).all()
        unread = np.setdiff1d(text, read)
        assert (gradient[unread] == 0).all()


def test_encoding_distinct_types_equals_encoding_every_token():
    model, params = initialised(SMALL)
    sentences = BATCHES[0]
    chars, n, index, reset, keep = arrays(sentences, 12)
    padded = np.concatenate([chars, np.full((9, 12), 260, np.uint16)])
    each = chars[index.ravel()]
    run = jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))
    layers, _ = run(padded, n, index, reset, keep, zero_carry(SMALL, 3))
    every_index = np.arange(index.size).reshape(index.shape)
    wanted, _ = run(each, np.int32(index.size), every_index, reset, keep, zero_carry(SMALL, 3))
    for got, expected in zip(layers, wanted, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_dropout_of_a_row_depends_on_its_key_alone():
    model, params = initialised(SMALL)
    chars, n, index, reset, keep = arrays([BATCHES[0][0], BATCHES[0][0][::-1], BATCHES[0][0]], 12)
    keys = jax.random.split(jax.random.key(4), 3)

    def top(rows):
        inputs = (chars, n, index[:, :, rows], reset[:, rows], keep[:, rows], zero_carry(SMALL, len(rows)))
        return jax.jit(lambda *inputs: model.apply({"params": params}, *inputs))(*inputs, keys[np.array(rows)])[0][-1]

    together, alone = top([0, 1, 2]), top([1])
    np.testing.assert_allclose(together[:, :, 1:2], alone, atol=1e-6)
    assert jnp.abs(together[:, :, 0] - together[:, :, 2]).max() > 0.01


def test_dropout_keeps_the_mean():
    model = BiLM(SMALL, Clusters(5))
    keys = jax.random.split(jax.random.key(0), 4000)
    dropped = model.bind({})._dropout(jnp.ones((2, 3, 4000, 6)), keys, 0)
    assert set(np.unique(dropped).tolist()) == {0.0, 2.0}
    np.testing.assert_allclose(dropped.mean(axis=2), 1, atol=0.08)


def test_initial_values_are_those_of_the_specification():
    config = Model(softmax=Softmax("full"), lstm=LSTM(dim=256, projection_dim=64))
    model = BiLM(config, Clusters(500))
    inputs = example_inputs(config)
    params = jax.jit(lambda key: model.init(key, *inputs, method="everything"))(jax.random.key(0))["params"]
    encoder, first = params["encoder"], params["lstm_0"]
    assert -1 <= encoder["char_embed"].min() < -0.98
    assert 0.98 < encoder["char_embed"].max() <= 1
    assert 0.049 < jnp.abs(encoder["cnn_6"]["kernel"]).max() <= 0.05
    assert (encoder["highway_0"]["carry_bias"] == -2).all()
    np.testing.assert_allclose(encoder["highway_1"]["transform_kernel"].std(), 2048**-0.5, rtol=0.02)
    np.testing.assert_allclose(params["softmax"]["kernel"].std(), 64**-0.5, rtol=0.02)
    limit = (6 / (2 * 64 + 4 * 256)) ** 0.5
    for name in ("input_kernel", "recurrent_kernel"):
        assert 0.99 * limit < jnp.abs(first[name]).max() <= limit
    assert not first["bias"].any()
