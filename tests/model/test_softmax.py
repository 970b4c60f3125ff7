"""Each output layer is a distribution; its losses, samples and gradients are what they should be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import Softmax
from elmo_jax.model import cross_entropy, softmax
from elmo_jax.model.clusters import Clusters, choose_cutoffs, tail_dim
from elmo_jax.model.softmax import expected_tries, log_inclusion, make_softmax
from tests.model.parameters import random_parameters

WIDTH, WORDS, N = 20, 60, 9
CLUSTERS = Clusters(WORDS, (10, 12, 40))
KINDS = [Softmax("adaptive"), Softmax("full"), Softmax("sampled", n_negative_samples_batch=25)]


def layer(config, clusters=CLUSTERS):
    module = make_softmax(config, clusters, WIDTH, jnp.float32)
    hidden, target = example()
    return module, random_parameters(module, hidden, target, method="log_prob")


def run(module, method, *inputs):
    """The method of a module with its parameters, compiled."""
    return jax.jit(lambda *inputs: module.apply(*inputs, method=method))(*inputs)


def example(targets="mixed"):
    rng = np.random.default_rng(2)
    hidden = jnp.asarray(rng.normal(size=(2, N, WIDTH)), jnp.float32)
    words = {
        "mixed": rng.integers(0, WORDS, (2, N)),
        "all in the head": rng.integers(0, 10, (2, N)),
        "all in one tail": rng.integers(12, 40, (2, N)),
        "all the same": np.full((2, N), WORDS - 1),
        "none in one tail": rng.choice([3, 11, 50], (2, N)),
        "one row each": np.where(np.arange(2 * N) < 3, [[20, 11, 50] + (2 * N - 3) * [4]], 4).reshape(2, N),
    }
    return hidden, jnp.asarray(words[targets])


@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)
def test_the_distribution_sums_to_one(config):
    module, params = layer(config)
    hidden, _ = example()
    total = jnp.exp(run(module, "log_probs", params, hidden[0])).sum(axis=-1)
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("targets", ["mixed", "all in the head", "all in one tail", "all the same"])
@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)
def test_log_prob_is_the_entry_of_the_distribution(config, targets):
    module, params = layer(config)
    hidden, target = example(targets)
    whole = run(module, "log_probs", params, hidden.reshape(-1, WIDTH))
    wanted = jnp.take_along_axis(whole, target.reshape(-1, 1), axis=1).reshape(2, N)
    np.testing.assert_allclose(run(module, "log_prob", params, hidden, target), wanted, atol=1e-5)


@pytest.mark.parametrize("config", KINDS[:2], ids=lambda c: c.kind)
def test_adaptive_and_full_train_on_the_exact_distribution(config):
    module, params = layer(config)
    hidden, target = example()
    weight = jnp.linspace(0, 2, target.size).reshape(target.shape)
    total, nll = run(module, "loss", params, hidden, target, weight)
    np.testing.assert_array_equal(nll, -run(module, "log_prob", params, hidden, target))
    np.testing.assert_allclose(total, (nll * weight).sum(), rtol=1e-6)


@pytest.mark.parametrize("cut", [(1, 1), (4, 7), (3, WORDS), (50, WORDS)], ids=str)
def test_values_and_gradients_of_the_adaptive_softmax_are_those_of_its_whole_distribution(cut, monkeypatch):
    """For any targets, chunks and blocks; the whole distribution is plain products, of which JAX takes the gradient."""
    monkeypatch.setattr(
        cross_entropy, "chunk_and_block", lambda size, words, whole=True: (min(cut[0], size), min(cut[1], words))
    )
    monkeypatch.setattr(softmax, "PROJECTIONS", -(-2 * N // cut[0]))
    module, params = layer(KINDS[0])
    weight = jnp.asarray(np.random.default_rng(3).normal(size=(2, N)), jnp.float32)

    def plain(params, hidden, target):
        whole = module.apply(params, hidden.reshape(-1, WIDTH), method="log_probs")
        return -(jnp.take_along_axis(whole, target.reshape(-1, 1), axis=1).ravel() * weight.ravel()).sum()

    def fast(params, hidden, target):
        return module.apply(params, hidden, target, weight, method="loss")[0]

    fast, plain = (jax.jit(jax.value_and_grad(f, (0, 1))) for f in (fast, plain))
    for targets in ("mixed", "all in the head", "all in one tail", "all the same", "none in one tail", "one row each"):
        inputs = params, *example(targets)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), fast(*inputs), plain(*inputs))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_large_tail_has_no_second_table_and_no_logits_of_all_its_rows(dtype):
    size, words = 4096, 200_000
    module = make_softmax(KINDS[0], Clusters(words, (1000, 20_000)), 64, dtype)
    hidden, target = jax.ShapeDtypeStruct((1, size, 64), dtype), jax.ShapeDtypeStruct((1, size), jnp.int32)
    weight = jax.ShapeDtypeStruct((1, size), jnp.float32)
    params = jax.eval_shape(lambda h, t: module.init(jax.random.key(0), h, t, method="log_prob"), hidden, target)

    def loss(params, hidden, target, weight):
        return module.apply(params, hidden, target, weight, method="loss")[0]

    plan = jax.jit(jax.grad(loss)).lower(params, hidden, target, weight).compile().memory_analysis()
    table = 4 * 180_000 * 16
    assert plan.temp_size_in_bytes < 2 * table
    assert table < plan.output_size_in_bytes < 1.5 * table


def test_adaptive_without_clusters_is_the_full_softmax():
    module, params = layer(Softmax("adaptive"), Clusters(WORDS))
    full, _ = layer(Softmax("full"))
    hidden, target = example()
    renamed = {"params": {name.removeprefix("head_"): value for name, value in params["params"].items()}}
    np.testing.assert_array_equal(
        run(module, "log_prob", params, hidden, target), run(full, "log_prob", renamed, hidden, target)
    )


@pytest.mark.parametrize("n_samples", [WORDS, 10 * WORDS])
def test_sampled_with_every_word_drawn_is_the_full_softmax(n_samples):
    module, params = layer(Softmax("sampled", n_negative_samples_batch=n_samples))
    full, _ = layer(Softmax("full"))
    hidden, target = example()

    def loss(module, params):
        return run(module, "loss", params, hidden, target, jnp.full(target.shape, 1 / target.size), jax.random.key(7))[
            0
        ]

    got, wanted = (jax.value_and_grad(lambda p, m=m: loss(m, p))(params) for m in (module, full))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, wanted)


def test_sampled_words_are_distinct_and_drawn_as_often_as_the_correction_says():
    law = jnp.log(jnp.log1p(1 / (jnp.arange(30) + 1.0)) / np.log(31))
    draws = 4000
    keys = jax.random.split(jax.random.key(0), draws)
    drawn = jax.vmap(lambda key: jax.lax.top_k(law + jax.random.gumbel(key, (30,)), 8)[1])(keys)
    assert all(len(set(row)) == 8 for row in np.asarray(drawn).tolist())
    frequency = np.bincount(np.asarray(drawn).ravel(), minlength=30) / draws
    wanted = -np.expm1(expected_tries(30, 8) * np.log1p(-np.exp(np.asarray(law))))
    np.testing.assert_allclose(np.exp(log_inclusion(law, 8)), wanted, rtol=1e-4)
    # The expected count is exact for draws with replacement; without it is within a few per cent.
    np.testing.assert_allclose(frequency, wanted, atol=0.05)
    assert expected_tries(30, 8) > 8


def test_a_drawn_word_that_is_the_target_is_not_its_own_rival():
    module, params = layer(Softmax("sampled", n_negative_samples_batch=WORDS - 1))
    hidden, _ = example()
    target = jnp.zeros((2, N), int)  # word 0 is the likeliest to be drawn
    # A rival logit equal to the target's bounds the probability by one half.
    strong = jax.tree.map(np.copy, params)
    strong["params"]["bias"][0] += 50.0
    _, nll = run(module, "loss", strong, hidden, target, jnp.ones(target.shape), jax.random.key(0))
    assert (nll < 1e-3).all()


@pytest.mark.parametrize("targets", ["mixed", "all in one tail", "all the same"])
@pytest.mark.parametrize("config", KINDS, ids=lambda c: c.kind)
def test_gradients_agree_with_finite_differences(config, targets):
    module, params = layer(config)
    hidden, target = example(targets)

    def loss(hidden, params):
        return run(module, "loss", params, hidden, target, jnp.ones(target.shape), jax.random.key(5))[0]

    loss = jax.jit(loss)
    gradient = jax.jit(jax.grad(loss, (0, 1)))(hidden, params)
    leaves, structure = jax.tree.flatten((hidden, params))
    keys = jax.random.split(jax.random.key(9), len(leaves))
    for i, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        along = jax.random.normal(keys[i], leaf.shape)
        step = 1e-2 / jnp.linalg.norm(along)

        def moved(sign, i=i, along=along, step=step):
            changed = [x + sign * step * along if k == i else x for k, x in enumerate(leaves)]
            return loss(*jax.tree.unflatten(structure, changed))

        measured = (moved(1) - moved(-1)) / (2 * step)
        np.testing.assert_allclose((slope * along).sum(), measured, rtol=0.02, atol=0.03)


def test_the_head_holds_four_fifths_of_the_text_and_the_work_is_less():
    counts = 1e7 / np.arange(1, 50_001)
    cutoffs = choose_cutoffs(counts, 128, 4.0)
    assert len(cutoffs) >= 1
    assert counts[: cutoffs[0]].sum() >= 0.8 * counts.sum()
    clusters = Clusters(50_000, cutoffs)
    work = 128 * (clusters.head + len(clusters.tails)) + sum(
        counts[a:b].sum() / counts.sum() * tail_dim(128, 4.0, k) * (128 + b - a)
        for k, (a, b) in enumerate(clusters.tails)
    )
    assert work < 0.75 * 128 * 50_000


def test_a_small_or_flat_vocabulary_stays_whole():
    assert choose_cutoffs(np.ones(50), 512, 4.0) == ()
    assert choose_cutoffs(np.array([5, 3, 1, 1]), 16, 4.0) == ()


def test_a_config_field_changes_the_width_of_tails():
    wide, _ = layer(dataclasses.replace(KINDS[0], factor=1.0))
    assert tail_dim(WIDTH, wide.factor, 0) == WIDTH
    assert tail_dim(64, 4.0, 0) == 16
    assert tail_dim(512, 4.0, 1) == 32
