"""ELMo as a layer: the vectors of independent NumPy code for every form of input; gradients where they belong."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from elmo_jax.config import Config
from elmo_jax.data.sentence_ids import DistinctIds, batch_to_ids
from elmo_jax.data.spelling import Characters
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.embed.elmo import Elmo
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.interop.pretrained import Mix, Pretrained
from tests.embed.test_scalar_mix import by_definition
from tests.reference.numpy_bilm import NumpyBiLM, random_weights
from tests.train.small import MODEL

pytestmark = pytest.mark.usefixtures("hastily")

WIDTH, P, LAYERS = MODEL.char_cnn.max_characters_per_token, MODEL.lstm.projection_dim, MODEL.lstm.n_layers + 1
SPELLING = Characters(WIDTH)
SENTENCES = [["A", "first", "sentence"], [], ["Māris", "?"], ["again", "and", "again", "and", "<S>"], ["x"], ["y", "x"]]
VOCABULARY = Vocabulary(["x", "</S>", "A", "<S>", "again", "and", "<UNK>", "?"])
MIX = Mix((0.1, -0.3, 0.5), 1.1)
TIGHT = {"atol": 2e-6, "rtol": 1e-5}


def made(vocabulary=None, **model):
    """A model with random weights, and the independent implementation of the same."""
    config = Config(model=dataclasses.replace(MODEL, **model))
    options = bilm_tf.options(config, len(vocabulary or ()))
    weights = {name: 0.5 * value for name, value in random_weights(options, np.random.default_rng(3)).items()}
    params = bilm_tf.parameters(weights, config)
    reference = NumpyBiLM(options, weights, vocabulary and vocabulary.words)
    return Pretrained(config, params, vocabulary, "random weights"), reference


@pytest.fixture(scope="module")
def model():
    return made()[0]


@pytest.fixture(scope="module")
def reference():
    return made()[1]


@pytest.fixture(scope="module")
def ids():
    return batch_to_ids(SENTENCES, SPELLING)


@partial(jax.jit, static_argnums=(0, 1))
def _apply(elmo, mutable, variables, inputs):
    return elmo.apply(variables, **inputs, mutable=list(mutable))


@partial(jax.jit, static_argnums=0)
def encode(elmo, params, types):
    """The table of a vocabulary, compiled."""
    return elmo.apply({"params": params}, types, method="encode")


def run(elmo, params, ids, **inputs):
    """The output, compiled."""
    return _apply(elmo, (), {"params": params}, {"ids": ids, **inputs})[0]


def unperturbed(elmo, params, **inputs):
    """The output, and perturbations of zero."""
    output, state = _apply(elmo, ("perturbations",), {"params": params}, inputs)
    return output, state["perturbations"]


def padded(arrays, axis=-2):
    """Arrays of different lengths as one, zeros behind."""
    longest = max(array.shape[axis] for array in arrays)
    widths = [[(0, 0)] * array.ndim for array in arrays]
    for array, width in zip(arrays, widths, strict=True):
        width[axis] = (0, longest - array.shape[axis])
    return np.stack([np.pad(array, width) for array, width in zip(arrays, widths, strict=True)], axis=1)


KINDS = {
    "characters": {},
    "words": {"vocabulary": VOCABULARY, "input": "words"},
    "forward only": {"bidirectional": False},
    "words, forward only": {"vocabulary": VOCABULARY, "input": "words", "bidirectional": False},
}


@pytest.mark.parametrize("kind", KINDS)
def test_equals_independent_numpy_code(kind):
    pretrained, reference = made(**KINDS[kind])
    ids = batch_to_ids(SENTENCES, pretrained.spelling)
    elmo, params = Elmo.from_pretrained(pretrained, mixes=(MIX,), keep_sentence_boundaries=True)
    output = run(elmo, params, ids)
    layers, state = reference(SENTENCES)
    wanted = padded(layers)
    mask = np.arange(wanted.shape[-2]) < np.array([[len(s) + 2] for s in SENTENCES])
    np.testing.assert_array_equal(output.mask, mask)
    np.testing.assert_allclose(output.layers, wanted, **TIGHT)
    np.testing.assert_allclose(output.representations[0], by_definition(wanted, MIX, mask, mask), **TIGHT)
    for part, value in state.items():
        np.testing.assert_allclose(output.carry[part], value, **TIGHT)

    stripped = run(*Elmo.from_pretrained(pretrained, mixes=(MIX,)), ids)
    wanted = padded([layer[:, 1:-1] for layer in layers])
    mask = mask[:, 2:]
    np.testing.assert_array_equal(stripped.mask, mask)
    np.testing.assert_allclose(stripped.layers, wanted, **TIGHT)
    np.testing.assert_allclose(stripped.representations[0], by_definition(wanted, MIX, mask, mask), **TIGHT)


@pytest.mark.parametrize("norm", ["tokens", "tokens+boundaries"])
def test_normalised_layers_count_what_their_dialect_counts(model, reference, ids, norm):
    """Stripped or not, the statistics of AllenNLP have the boundaries and those of bilm-tf do not."""
    mix = dataclasses.replace(MIX, norm=norm)
    layers = reference(SENTENCES)[0]
    whole, inner = padded(layers), padded([layer[:, 1:-1] for layer in layers])
    # Shape and place of the words among the boundaries.
    counted = np.arange(whole.shape[-2]) < np.array([[len(s) + 2] for s in SENTENCES])
    if norm == "tokens":
        words = by_definition(inner, mix, counted[:, 2:], counted[:, 2:])
    else:
        words = by_definition(whole, mix, counted, counted)[:, 1:-1] * counted[:, 2:, None]
    elmo, params = Elmo.from_pretrained(model, mixes=(mix,))
    np.testing.assert_allclose(run(elmo, params, ids).representations[0], words, atol=5e-6, rtol=1e-5)
    kept = run(elmo.clone(keep_sentence_boundaries=True), params, ids).representations[0]
    np.testing.assert_allclose(kept[:, 1:-1] * counted[:, 2:, None], words, atol=5e-6, rtol=1e-5)


def test_dimensions_before_the_sentence_are_free(model, ids):
    elmo, params = Elmo.from_pretrained(model)
    flat = run(elmo, params, ids)
    for lead in [(3, 2), (1, 2, 3)]:
        shaped = run(elmo, params, ids.reshape(*lead, *ids.shape[1:]))
        assert shaped.mask.shape == (*lead, ids.shape[1])
        for got, wanted in zip(jax.tree.leaves(shaped), jax.tree.leaves(flat), strict=True):
            np.testing.assert_allclose(got.reshape(wanted.shape), wanted, atol=1e-6)
    np.testing.assert_allclose(run(elmo, params, ids[3]).representations[0], flat.representations[0][3], **TIGHT)
    mapped = jax.jit(jax.vmap(lambda row: elmo.apply({"params": params}, row).representations[0]))(ids)
    np.testing.assert_allclose(mapped, flat.representations[0], **TIGHT)


@pytest.mark.parametrize("shape", [(0, 4, WIDTH), (2, 0, WIDTH), (2, 3, WIDTH)])
def test_nothing_to_read_has_no_vectors(model, shape):
    elmo, params = Elmo.from_pretrained(model)
    output = run(elmo, params, np.zeros(shape, np.int32))
    assert output.representations[0].shape == (*shape[:2], 2 * P)
    assert not output.representations[0].any()
    assert not output.mask.any()


def test_a_sentence_has_the_same_vectors_in_any_company(model, ids):
    elmo, params = Elmo.from_pretrained(model)
    together = run(elmo, params, ids).representations[0]
    for row, sentence in enumerate(SENTENCES):
        alone = run(elmo, params, batch_to_ids([sentence], SPELLING, length=9)).representations[0]
        np.testing.assert_allclose(alone[0, : len(sentence)], together[row, : len(sentence)], **TIGHT)
        assert not alone[0, len(sentence) :].any()


@pytest.mark.parametrize("known", [[], ["again", "x", "<S>"], sorted({w for s in SENTENCES for w in s})])
@pytest.mark.parametrize("kind", ["characters", "words"])
def test_a_cached_vocabulary_gives_the_vectors_of_the_characters(kind, known):
    """Words that it lacks are spelt; boundaries need no place in it, and one in it is still the boundary (T1, T11)."""
    pretrained, _ = made(**KINDS[kind])
    elmo, params = Elmo.from_pretrained(pretrained)
    wanted = run(elmo, params, batch_to_ids(SENTENCES, pretrained.spelling))
    batch = DistinctIds(pretrained.spelling, known)(SENTENCES)
    table = encode(elmo, params, pretrained.spelling(known))
    assert table.shape == (len(known) + 2, P)
    found = run(elmo, params, batch.ids, types=batch.types, n_types=batch.n_types, table=table)
    np.testing.assert_array_equal(found.mask, wanted.mask)
    np.testing.assert_allclose(found.layers, wanted.layers, atol=1e-6)
    if batch.n_types == 0:
        np.testing.assert_allclose(run(elmo, params, batch.ids, table=table).layers, wanted.layers, atol=1e-6)
    # Without the table the same types are spelt.
    spelt = DistinctIds(pretrained.spelling)(SENTENCES)
    np.testing.assert_allclose(run(elmo, params, **spelt._asdict()).layers, wanted.layers, atol=1e-6)


def test_an_encoding_without_a_positive_number_is_a_word_all_the_same(model):
    """T11: what is a word is told by ids, never by values."""
    elmo, params = Elmo.from_pretrained(model)
    table = -jnp.abs(encode(elmo, params, SPELLING(["a"])))
    for encodings in (table, 0 * table):
        output = run(elmo, params, np.array([[1, 1, 0]]), table=encodings)
        assert output.mask.tolist() == [[True, True, False]]
        np.testing.assert_array_equal(output.layers[0, 0, :2, :P], [encodings[2]] * 2)


def test_an_id_that_the_table_lacks_is_no_other_word(model):
    elmo, params = Elmo.from_pretrained(model)
    table = encode(elmo, params, SPELLING(["a", "b"]))
    assert np.isnan(run(elmo, params, np.array([[1, 3]]), table=table).representations[0]).any()
    assert np.isfinite(run(elmo, params, np.array([[1, 2]]), table=table).representations[0]).all()


def test_a_carried_state_is_an_argument_and_a_result(model, reference, ids):
    """Two calls, the second on from the first, as bilm-tf's hidden state goes (ELMO_SPEC 2.6)."""
    elmo, params = Elmo.from_pretrained(model, keep_sentence_boundaries=True)
    first = run(elmo, params, ids.reshape(2, 3, *ids.shape[1:]))
    second = run(elmo, params, ids[::-1].reshape(2, 3, *ids.shape[1:]), carry=first.carry)
    _, state = reference(SENTENCES)
    wanted, _ = reference(SENTENCES[::-1], state)
    wanted = padded(wanted)
    np.testing.assert_allclose(second.layers.reshape(wanted.shape), wanted, **TIGHT)


def test_several_mixes_each_with_its_own_values_and_projection(model, ids):
    mixes = (MIX, Mix((2.0, 0.0, -1.0), 0.5), Mix())
    elmo, params = Elmo.from_pretrained(dataclasses.replace(model, mixes=mixes))
    assert elmo.mixes == mixes
    output = run(elmo, params, ids)
    for found, mix in zip(output.representations, mixes, strict=True):
        weights = Mix(mix.weights or (0.0,) * LAYERS, mix.gamma)
        np.testing.assert_allclose(found, by_definition(output.layers, weights, output.mask, output.mask), **TIGHT)
    narrow, params = Elmo.from_pretrained(model, mixes=mixes, projection_dim=3, seed=1)
    for r, found in enumerate(run(narrow, params, ids).representations):
        dense = params[f"projection_{r}"]
        biased = {**params, f"projection_{r}": {**dense, "bias": jnp.ones(3)}}
        wanted = output.representations[r] @ dense["kernel"] + np.ones(3)
        np.testing.assert_allclose(
            run(narrow, biased, ids).representations[r], wanted * output.mask[..., None], **TIGHT
        )
        assert found.shape == (*output.mask.shape, 3)


def test_fixed_mixes_have_no_parameters(model, ids):
    elmo, params = Elmo.from_pretrained(model, mixes=(MIX,), train_mixes=False)
    assert list(params) == ["bilm"]
    learnt = run(*Elmo.from_pretrained(model, mixes=(MIX,)), ids)
    np.testing.assert_array_equal(run(elmo, params, ids).representations[0], learnt.representations[0])


TRAINED = {"nothing": [], "lstm": ["lstm_0", "lstm_1"], "all": ["encoder", "lstm_0", "lstm_1"]}


@pytest.mark.parametrize("train_bilm", TRAINED)
def test_a_gradient_reaches_what_is_trained_and_nothing_else(model, ids, train_bilm):
    elmo, params = Elmo.from_pretrained(model, mixes=(MIX,), train_bilm=train_bilm)
    gradient = jax.grad(lambda p: (run(elmo, p, ids).representations[0] ** 2).sum())(params)
    reached = [name for name, part in gradient["bilm"].items() if any(g.any() for g in jax.tree.leaves(part))]
    assert sorted(reached) == TRAINED[train_bilm]
    assert gradient["mix_0"]["weights"].any()
    assert gradient["mix_0"]["gamma"] != 0


def test_the_gradient_of_distinct_words_is_that_of_every_token(model, ids):
    """Through a table made inside the loss too: down to the embeddings of characters."""
    elmo, params = Elmo.from_pretrained(model, mixes=(MIX,), train_bilm="all")
    known = ["again", "x", "unused"]
    batch = DistinctIds(SPELLING, known)(SENTENCES)

    def loss(params, apply):
        return (apply({"params": params}).representations[0] ** 2).sum()

    def by_table(variables):
        table = elmo.apply(variables, SPELLING(known), method="encode")
        return elmo.apply(variables, **batch._asdict(), table=table)

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    wanted = gradient(params, lambda variables: elmo.apply(variables, ids))
    found = gradient(params, by_table)
    assert wanted["bilm"]["encoder"]["char_embed"].any()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-4), found, wanted)


def test_saliency_is_the_slope_at_every_character_and_token(model):
    """Central differences, in a frozen model."""
    # A largest response of two equal characters has a corner and not a slope, so no word has two; nor has padding one.
    ids = batch_to_ids([["Kino", "auf"], ["y"], []], SPELLING)
    elmo, params = Elmo.from_pretrained(model, mixes=(MIX,))
    plain, zeros = unperturbed(elmo, params, ids=ids)
    assert {name: value.shape for name, value in zeros.items()} == {
        "characters": (3, 2, WIDTH, MODEL.char_cnn.embedding.dim),
        "encodings": (3, 4, P),
    }

    @jax.jit
    @jax.value_and_grad
    def loss(shift):
        return (elmo.apply({"params": params, "perturbations": shift}, ids).representations[0] ** 2).sum()

    value, slopes = loss(zeros)
    np.testing.assert_allclose(value, (plain.representations[0] ** 2).sum(), rtol=1e-6)
    assert not slopes["characters"][~plain.mask].any()  # no token, no influence
    rng = np.random.default_rng(0)
    smooth = {"characters": ((ids > 0) & (ids < 261))[..., None], "encodings": True}
    for name, slope in slopes.items():
        way = rng.normal(size=slope.shape).astype(np.float32) * smooth[name]
        difference = loss({**zeros, name: 1e-3 * way})[0] - loss({**zeros, name: -1e-3 * way})[0]
        np.testing.assert_allclose((slope * way).sum(), difference / 2e-3, rtol=5e-3)


def test_saliency_of_the_characters_of_distinct_words(model):
    """One row for each word: the sum over its occurrences."""
    elmo, params = Elmo.from_pretrained(model)
    ids, batch = batch_to_ids([["a", "b", "a"]], SPELLING), DistinctIds(SPELLING)([["a", "b", "a"]])

    def slopes(**inputs):
        _, zeros = unperturbed(elmo, params, **inputs)

        def loss(shift):
            return elmo.apply({"params": params, "perturbations": shift}, **inputs).representations[0].sum()

        return jax.jit(jax.grad(loss))(zeros)["characters"]

    single, distinct = slopes(ids=ids), slopes(**batch._asdict())
    np.testing.assert_allclose(distinct[0], single[0, 0] + single[0, 2], **TIGHT)
    np.testing.assert_allclose(distinct[1], single[0, 1], **TIGHT)


class Tagger(nn.Module):
    """Someone's own model."""

    elmo: Elmo

    @nn.compact
    def __call__(self, ids, deterministic=True):
        output = self.elmo(ids, deterministic=deterministic)
        return nn.Dense(2)(output.representations[0]), output.mask


def trained_tagger(model, ids, train_bilm, freeze, steps=20):
    """Initial and trained parameters, and the losses, of a tagger that learns which words have an "a"."""
    elmo, params = Elmo.from_pretrained(model, train_bilm=train_bilm, dropout=0.1, l2_coefficient=0.01)
    tagger = Tagger(elmo)
    variables = jax.jit(tagger.init)(jax.random.key(0), ids)
    assert set(variables) == {"params"}
    start = {**variables["params"], "elmo": params}
    jax.tree.map(lambda a, b: a.shape == b.shape or pytest.fail("shapes"), start, variables["params"])
    labels = jax.tree.map(lambda _: "train", start)
    labels["elmo"]["bilm"] = {name: "freeze" if name in freeze else "train" for name in params["bilm"]}
    optimizer = optax.multi_transform({"train": optax.adamw(0.1), "freeze": optax.set_to_zero()}, labels)
    tags = jnp.array((ids == ord("a") + 1).any(-1), int)

    def loss(params, key):
        apply = partial(tagger.apply, {"params": params}, ids, False, rngs={"dropout": key}, mutable=["losses"])
        (logits, mask), state = apply()
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, tags)
        return (losses * mask).sum() / mask.sum() + sum(jax.tree.leaves(state["losses"]))

    @jax.jit
    def step(params, state, key):
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params, state, losses = start, optimizer.init(start), []
    for key in jax.random.split(jax.random.key(1), steps):
        params, state, value = step(params, state, key)
        losses.append(value)
    return start, params, losses


@pytest.mark.parametrize("train_bilm", ["nothing", "lstm"])
def test_a_tagger_learns_and_what_is_frozen_stays_bit_for_bit(model, ids, train_bilm):
    freeze = {"encoder", "lstm_0", "lstm_1"} - set(TRAINED[train_bilm])
    start, end, losses = trained_tagger(model, ids, train_bilm, freeze)
    assert losses[-1] < 0.7 * losses[0]
    for name, before in start["elmo"]["bilm"].items():
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(end["elmo"]["bilm"][name]), strict=True):
            assert np.array_equal(a, b) == (name in freeze), name
    assert not np.array_equal(start["elmo"]["mix_0"]["weights"], end["elmo"]["mix_0"]["weights"])
    assert not np.array_equal(start["Dense_0"]["kernel"], end["Dense_0"]["kernel"])


def test_what_was_fine_tuned_comes_back_out(model, ids):
    """To tools that know nothing of this layer, and into bilm-tf's datasets; mixes included."""
    _, end, _ = trained_tagger(model, ids, "all", (), steps=2)
    elmo, _ = Elmo.from_pretrained(model, train_bilm="all")
    tuned = elmo.to_pretrained(end["elmo"], model)
    wanted = run(elmo, end["elmo"], ids)
    weights = bilm_tf.datasets(tuned.params, tuned.config)
    layers, _ = NumpyBiLM(bilm_tf.options(tuned.config, 0), weights)(SENTENCES)
    for row, (vectors, expected) in enumerate(zip(Embedder(tuned).embed(SENTENCES), layers, strict=True)):
        np.testing.assert_allclose(vectors, expected[:, 1:-1], **TIGHT)
        np.testing.assert_allclose(vectors, wanted.layers[:, row, : vectors.shape[1]], **TIGHT)
    again, params = Elmo.from_pretrained(tuned)
    np.testing.assert_array_equal(run(again, params, ids).representations[0], wanted.representations[0])


def test_a_softmax_stays_only_with_the_weights_it_was_trained_with(model):
    softmax = {"kernel": np.ones((4, P), np.float32), "bias": np.zeros(4, np.float32)}
    source = dataclasses.replace(model, params={**model.params, "softmax": softmax})
    for train_bilm, kept in (("nothing", True), ("lstm", False), ("all", False)):
        elmo, params = Elmo.from_pretrained(source, train_bilm=train_bilm)
        assert "softmax" not in params["bilm"]
        assert ("softmax" in elmo.to_pretrained(params, source).params) == kept


def test_characters_of_another_width_are_refused(model):
    elmo, params = Elmo.from_pretrained(model)
    with pytest.raises(UserError, match=f"50 characters a token and the model reads {WIDTH}; give batch_to_ids the"):
        elmo.apply({"params": params}, batch_to_ids(SENTENCES))


def test_a_wrong_name_for_what_is_trained_is_refused(model):
    with pytest.raises(UserError, match="train_bilm is 'LSTM': use 'nothing', 'lstm' or 'all'"):
        Elmo.from_pretrained(model, train_bilm="LSTM")
