"""The mix of layers against its definition (ELMO_SPEC 2.8) in float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.embed.scalar_mix import ScalarMix
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Mix

LAYERS, ROWS, LENGTH, WIDTH = 3, 4, 7, 10
# The cases of bilm-tf's own test of its mixing.
LEARNT = [Mix((0.1, 0.3, 0.5), 1.1), Mix((0.2, 0.4, 0.6), 0.88)]


def softmax(weights):
    shares = np.exp(np.float64(weights))
    return shares / shares.sum()


def by_definition(layers, mix, counted, mask):
    """ELMO_SPEC 2.8, written out."""
    total = 0.0
    for share, h in zip(softmax(mix.weights), np.float64(layers), strict=True):
        if mix.norm != "none":
            m = counted[..., None]
            size = counted.sum() * h.shape[-1]
            mean = (h * m).sum() / size
            variance = (((h * m - mean) * m) ** 2).sum() / size
            h = (h - mean) / np.sqrt(variance + {"tokens": 1e-12, "tokens+boundaries": 1e-13}[mix.norm])
        total = total + share * h
    return mix.gamma * total * mask[..., None]


def sentences(lengths, seed=0, lead=None):
    """Random layers, mask and boundaries of sentences of these lengths, boundaries included."""
    rng = np.random.default_rng(seed)
    layers = rng.normal(0.5, 2, (LAYERS, len(lengths), LENGTH, WIDTH)).astype(np.float32)
    place = np.arange(LENGTH)
    mask = place < np.array(lengths)[:, None]
    boundaries = mask & ((place == 0) | (place == np.array(lengths)[:, None] - 1))
    if lead is not None:
        layers = layers.reshape(LAYERS, *lead, LENGTH, WIDTH)
        mask, boundaries = (x.reshape(*lead, LENGTH) for x in (mask, boundaries))
    return layers, mask, boundaries


def mixed(mix, *inputs, **attributes):
    module = ScalarMix(mix, **attributes)
    return module.apply(module.init(jax.random.key(0), *inputs), *inputs)


@pytest.mark.parametrize("mix", LEARNT)
@pytest.mark.parametrize("norm", ["none", "tokens", "tokens+boundaries"])
@pytest.mark.parametrize("lead", [(4,), (2, 2)])
def test_equals_the_definition(mix, norm, lead):
    layers, mask, boundaries = sentences([7, 2, 4, 3], lead=lead)
    mix = Mix(mix.weights, mix.gamma, norm)
    counted = {"none": mask, "tokens": mask & ~boundaries, "tokens+boundaries": mask}[norm]
    expected = by_definition(layers, mix, counted, mask)
    np.testing.assert_allclose(mixed(mix, layers, mask, boundaries), expected, atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(mixed(mix, list(layers), mask, boundaries), expected, atol=1e-6, rtol=1e-5)


def test_the_two_normalisations_differ():
    inputs = sentences([7, 2, 4, 3])
    both = [mixed(Mix((), 1.0, norm), *inputs) for norm in ("tokens", "tokens+boundaries")]
    assert jnp.abs(both[0] - both[1]).max() > 0.01


@given(st.lists(st.integers(2, LENGTH), min_size=1, max_size=4), st.integers(0, 9))
def test_padding_has_no_influence(lengths, seed):
    """More of it, or other numbers in it."""
    layers, mask, boundaries = sentences(lengths, seed)
    mix = Mix((0.3, 0.2, -0.1), 2.0, "tokens+boundaries")
    wanted = by_definition(layers, mix, mask, mask)
    noisy = np.where(mask[..., None], layers, 1e4)
    wider = [np.pad(x, [(0, 0)] * (x.ndim - n) + [(0, 3)] + [(0, 0)] * (n - 1)) for x, n in ((noisy, 2), (mask, 1))]
    found = mixed(mix, *wider, np.pad(boundaries, [(0, 0), (0, 3)]))
    np.testing.assert_allclose(found[:, :LENGTH], wanted, atol=2e-6, rtol=1e-5)
    assert not found[:, LENGTH:].any()


def test_without_weights_it_starts_as_the_average():
    layers, mask, _ = sentences([LENGTH] * 4)
    np.testing.assert_allclose(mixed(Mix(), layers), layers.mean(0), atol=1e-6)
    np.testing.assert_allclose(mixed(Mix(), layers, mask), layers.mean(0), atol=1e-6)


def test_bilm_tf_adds_a_constant_to_the_weights_which_changes_nothing():
    layers, mask, _ = sentences([7, 3])
    shifted = Mix(tuple(w + 1 / LAYERS for w in LEARNT[0].weights), LEARNT[0].gamma)
    np.testing.assert_allclose(mixed(LEARNT[0], layers, mask), mixed(shifted, layers, mask), atol=1e-6)


def test_top_only_is_gamma_times_the_top_layer():
    layers, mask, _ = sentences([7, 3])
    module = ScalarMix(Mix(gamma=0.88), use_top_only=True)
    variables = module.init(jax.random.key(0), layers, mask)
    assert list(variables["params"]) == ["gamma"]
    found = module.apply(variables, layers, mask)
    np.testing.assert_allclose(found, np.float32(0.88) * layers[-1] * mask[..., None], rtol=1e-6)
    learnt = module.learnt(variables["params"], LAYERS)
    np.testing.assert_array_equal(mixed(learnt, layers, mask), found)


def test_weights_and_gamma_are_learnt_unless_they_are_fixed():
    layers, mask, _ = sentences([7, 3])
    mix = LEARNT[0]
    params = ScalarMix(mix).init(jax.random.key(0), layers, mask)["params"]
    assert {name: value.shape for name, value in params.items()} == {"weights": (LAYERS,), "gamma": ()}
    gradient = jax.grad(lambda p: (ScalarMix(mix).apply({"params": p}, layers, mask) ** 2).sum())(params)
    assert all(np.abs(g).min() > 0 for g in gradient.values())
    fixed = ScalarMix(mix, trainable=False)
    assert fixed.init(jax.random.key(0), layers, mask) == {}
    np.testing.assert_array_equal(fixed.apply({}, layers, mask), mixed(mix, layers, mask))
    assert fixed.learnt({}, LAYERS) == mix
    moved = {"weights": jnp.array([1.0, 2.0, 3.0]), "gamma": jnp.float32(0.5)}
    assert ScalarMix(mix).learnt(moved, LAYERS) == Mix((1.0, 2.0, 3.0), 0.5)


def test_the_l2_term_is_sown_for_the_loss():
    layers, mask, _ = sentences([7, 3])
    module = ScalarMix(Mix((0.1, 0.3, 0.5)), l2_coefficient=0.2)
    variables = module.init(jax.random.key(0), layers, mask)
    assert set(variables) == {"params"}

    def loss(params):
        _, state = module.apply({"params": params}, layers, mask, mutable=["losses"])
        return sum(jax.tree.leaves(state["losses"]))

    value, gradient = jax.value_and_grad(loss)(variables["params"])
    assert value == pytest.approx(0.2 * (0.01 + 0.09 + 0.25))
    np.testing.assert_allclose(gradient["weights"], 0.4 * np.array([0.1, 0.3, 0.5]), rtol=1e-6)
    np.testing.assert_array_equal(module.apply(variables, layers, mask), mixed(Mix((0.1, 0.3, 0.5)), layers, mask))


def test_dropout_is_of_the_result_and_drawn_from_its_key():
    layers = np.ones((LAYERS, 50, 20, 50), np.float32)
    module = ScalarMix(dropout=0.3)
    variables = module.init(jax.random.key(0), layers)
    kept = module.apply(variables, layers, deterministic=False, rngs={"dropout": jax.random.key(1)})
    assert {round(float(v), 5) for v in np.unique(kept)} == {0.0, round(1 / 0.7, 5)}
    assert np.mean(kept == 0) == pytest.approx(0.3, abs=0.01)
    np.testing.assert_array_equal(module.apply(variables, layers), np.ones_like(kept))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"initial": Mix((0.0, 1.0))}, "the mix has 2 weights for 3 layers"),
        ({"initial": Mix(norm="tokens"), "use_top_only": True}, "use_top_only has no weights, norm or L2 term"),
        ({"l2_coefficient": 0.1, "use_top_only": True}, "use_top_only has no weights, norm or L2 term"),
        ({"initial": Mix(norm="tokens+boundaries")}, 'norm "tokens.boundaries" is over the vectors of <S> and </S>'),
    ],
)
def test_what_makes_no_sense_is_refused(attributes, message):
    layers, mask, _ = sentences([7, 3])
    with pytest.raises(UserError, match=message):
        ScalarMix(**attributes).init(jax.random.key(0), layers, mask)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (((0.0, float("nan")),), "has the weights .*nan.*: they must be finite"),
        (((0.0,), float("inf")), "gamma inf: they must be finite"),
        (((0.0,), 1.0, "batch"), "the norm of a mix is 'batch': use one of none, tokens, tokens.boundaries"),
    ],
)
def test_a_mix_that_can_be_none_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        Mix(*values)
