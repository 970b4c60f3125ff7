"""The whole network: against independent NumPy code and recorded outputs; no leak; distinct types; dropout by row."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Model, Softmax
from elmo_jax.data.characters import character_ids
from elmo_jax.interop import bilm_tf
from elmo_jax.model.bilm import BiLM, smallest_inputs, zero_carry
from elmo_jax.model.char_cnn import CharEncoder
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
VOCABULARY = ["<UNK>", "x", "A", "first", "</S>", "sentence", "of", "again", "<S>", "and", "?"]
BATCHES = [
    [["A", "first", "sentence", "of", "extraordinary", "length"], ["Māris", "?"], []],
    [["again"], ["and", "a", "longer", "one"], ["x", "y", "z"]],
]


def with_(cnn=None, lstm=None, **model):
    return dataclasses.replace(
        SMALL,
        **model,
        char_cnn=dataclasses.replace(SMALL.char_cnn, **(cnn or {})),
        lstm=dataclasses.replace(SMALL.lstm, **(lstm or {})),
    )


def weights_for(options):
    return {name: 0.5 * value for name, value in random_weights(options, np.random.default_rng(3)).items()}


def inputs_of(config, sentences, room=None):
    words = VOCABULARY if config.input == "words" else None
    return arrays(sentences, config.token_width, room=room, words=words, n_directions=len(config.directions))


def initialised(config):
    model = BiLM(config, Clusters(11))
    return model, random_parameters(model, *smallest_inputs(config), method="everything")["params"]


def applied(module, params, *inputs):
    """What a module makes of its inputs, compiled."""
    return jax.jit(lambda params, *inputs: module.apply({"params": params}, *inputs))(params, *inputs)


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
    "short tokens": with_(cnn={"max_characters_per_token": 5}),
    "long tokens": with_(cnn={"max_characters_per_token": 70}),
    "forward only": with_(bidirectional=False),
    "words": with_(input="words"),
    "words, forward only": with_(input="words", bidirectional=False, lstm={"n_layers": 1, "dim": 6}),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_equals_independent_numpy_code_with_carried_state(name):
    """Float32 against a float64 implementation written from ELMO_SPEC alone."""
    config = ARCHITECTURES[name]
    options = bilm_tf.options(Config(model=config), 11)
    weights = weights_for(options)
    reference = NumpyBiLM(options, weights, VOCABULARY)
    model, _ = initialised(config)
    params = bilm_tf.parameters(weights, Config(model=config))
    carry, state = zero_carry(config, 3), None
    run = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs))
    for sentences in BATCHES:
        layers, carry = run(params, *inputs_of(config, sentences, room=(16, 10)), carry)
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


def numbered_types(config, n):
    """Types that share no row of the encoder's table, so that its gradient tells which types were read."""
    words = np.arange(n, dtype=np.int32)
    return words if config.input == "words" else np.repeat(words[:, None].astype(np.uint16), config.token_width, axis=1)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("as published", 0), ("as published", 1), ("forward only", 0), ("words", 0), ("words", 1)],
)
def test_no_output_depends_on_what_its_direction_reads_later(name, direction):
    config = ARCHITECTURES[name]
    model, params = initialised(config)
    steps = 6
    text = np.arange(steps)
    index = np.stack([text, text[::-1]])[: len(config.directions), :, None]
    mask = np.ones((steps, 1), bool)
    table_name = "embedding" if config.input == "words" else "char_embed"

    def output(table, t):
        changed = {**params, "encoder": {**params["encoder"], table_name: table}}
        inputs = (numbered_types(config, steps), steps, index, ~mask, mask, zero_carry(config, 1))
        layers, _ = model.apply({"params": changed}, *inputs)
        return layers[-1][direction][t].sum()

    gradient_of = jax.jit(jax.grad(output))
    for t in range(steps):
        gradient = np.abs(gradient_of(params["encoder"][table_name], t)).sum(axis=1)
        read = index[direction, : t + 1, 0]
        assert (gradient[read] > 0).all()
        unread = np.setdiff1d(text, read)
        assert (gradient[unread] == 0).all()


def test_a_table_of_encoded_words_gives_what_their_characters_give():
    """Word input through the encodings that a char model gives its vocabulary, as bilm-tf caches them."""
    chars, params = initialised(SMALL)
    words, _ = initialised(ARCHITECTURES["words"])
    known = [[word for word in sentence if word in VOCABULARY] for sentence in BATCHES[0]]
    wanted = applied(chars, params, *inputs_of(SMALL, known), zero_carry(SMALL, 3))
    spelt = character_ids(VOCABULARY, 12)
    table = applied(CharEncoder(SMALL.char_cnn, 6), params["encoder"], spelt, np.int32(len(spelt)))
    params = {**params, "encoder": {"embedding": table}}
    found = applied(words, params, *inputs_of(words.config, known), zero_carry(SMALL, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, wanted)


def test_a_forward_only_model_is_the_forward_half_of_one_with_both_directions():
    both, params = initialised(SMALL)
    one, shapes = initialised(ARCHITECTURES["forward only"])
    forward = {
        name: {k: v[:1] for k, v in part.items()} if name.startswith("lstm") else part for name, part in params.items()
    }
    assert jax.tree.map(np.shape, forward) == jax.tree.map(np.shape, shapes)
    wanted, wanted_carry = applied(both, params, *inputs_of(SMALL, BATCHES[0]), zero_carry(SMALL, 3))
    layers, carry = applied(one, forward, *inputs_of(one.config, BATCHES[0]), zero_carry(one.config, 3))
    for got, expected in zip(layers, wanted, strict=True):
        np.testing.assert_allclose(got, expected[:1], atol=1e-6)
    for name, value in carry.items():
        np.testing.assert_allclose(value, wanted_carry[name][:, :, :1], atol=1e-6)


@pytest.mark.parametrize("name", ["as published", "words, forward only"])
def test_windows_of_any_length_with_carried_state_are_one_long_window(name):
    config = ARCHITECTURES[name]
    model, params = initialised(config)
    rng = np.random.default_rng(0)
    steps, rows = 8, 3
    index = rng.integers(0, 7, (len(config.directions), steps, rows))
    reset, keep = rng.random((2, steps, rows)) < [[[0.2]], [[0.7]]]
    types = numbered_types(config, 7)
    run = jax.jit(lambda *inputs: model.apply({"params": params}, types, np.int32(7), *inputs))

    def read(cuts):
        carry, tops = zero_carry(config, rows), []
        for a, b in itertools.pairwise(cuts):
            layers, carry = run(index[:, a:b], reset[a:b], keep[a:b], carry)
            tops.append(layers[-1])
        return np.concatenate(tops, axis=1), carry

    wanted = read([0, steps])
    for cuts in (range(steps + 1), [0, 7, steps]):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), read(cuts), wanted)


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
    inputs = smallest_inputs(config)
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
