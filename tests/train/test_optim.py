"""The optimiser is the published one; the schedule goes where it says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from elmo_jax.config import PUBLISHED_OPTIMIZER, Optimizer
from elmo_jax.train.optim import clip_by_global_norm, make_optimizer, scale_by_inverse_root, schedule


def test_adagrad_is_that_of_bilm_tf():
    """acc <- acc + g^2 from 1.0; w <- w - 0.2 g / sqrt(acc), no epsilon (ELMO_SPEC 2.12)."""
    optimizer = make_optimizer(PUBLISHED_OPTIMIZER, 100)
    params = {"kernel": jnp.array([1.0, -2.0])}
    state = optimizer.init(params)
    weight, accumulator = np.array([1.0, -2.0]), np.ones(2)
    for gradient in ([0.5, -1.0], [2.0, 0.25], [-1.5, 3.0]):
        updates, state = optimizer.update({"kernel": jnp.array(gradient)}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
        accumulator += np.square(gradient)
        weight -= 0.2 * np.array(gradient) / np.sqrt(accumulator)
        np.testing.assert_allclose(params["kernel"], weight, rtol=1e-6)


@pytest.mark.parametrize("initial", [0.0, 1e-30, 1.0])
def test_adagrad_without_epsilon_is_that_of_optax_also_where_no_gradient_was(initial):
    ours, wanted = scale_by_inverse_root(initial), optax.scale_by_rss(initial, eps=0.0)
    gradients = {"kernel": jnp.array([0.0, 1e-12, -3.0, 1e15, 0.0])}
    state = ours.init(gradients)
    assert jax.tree.structure(state) == jax.tree.structure(wanted.init(gradients))
    for _ in range(3):
        expected = wanted.update(gradients, state)
        updates, state = ours.update(gradients, state)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-7), (updates, state), expected)


def test_gradients_are_clipped_by_their_global_norm():
    optimizer = make_optimizer(
        dataclasses.replace(PUBLISHED_OPTIMIZER, learning_rate=1.0, initial_accumulator=1e12, all_clip_norm_val=10.0), 1
    )
    gradients = {"a": jnp.array([30.0]), "b": {"kernel": jnp.array([40.0])}}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    np.testing.assert_allclose(
        np.array([updates["a"][0], updates["b"]["kernel"][0]]), np.array([-6e-6, -8e-6]), rtol=1e-4
    )


@pytest.mark.parametrize("scale", [0.0, 1.0, 1.99, 2.01, 1e6, 1e30])
def test_clipping_is_that_of_optax_and_gradients_within_the_limit_stay_as_they_are(scale):
    gradients = {"a": scale * jnp.array([3.0, 0.0]), "b": {"kernel": scale * jnp.array([[4.0]])}}
    got, wanted = (clip(10.0).update(gradients, None)[0] for clip in (clip_by_global_norm, optax.clip_by_global_norm))
    if scale < 1e18:  # the square of the norm is finite
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), got, wanted)
    if scale < 2:
        jax.tree.map(np.testing.assert_array_equal, got, gradients)


def test_clipping_makes_no_copy_of_the_gradients():
    """Beside clipping, eight large gradients need less memory than four of them: there is no second copy of all."""
    optimizer = make_optimizer(PUBLISHED_OPTIMIZER, 1)
    params = {f"kernel_{n}": jax.ShapeDtypeStruct((1024, 1024), jnp.float32) for n in range(8)}
    state = jax.eval_shape(optimizer.init, params)

    def step(gradients, state, params):
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    plan = jax.jit(step, donate_argnums=(1, 2)).lower(params, state, params).compile().memory_analysis()
    assert plan.temp_size_in_bytes < 4 * 4 * 1024**2


@pytest.mark.parametrize("name", ["adamw", "lion", "adafactor"])
def test_weight_decay_is_for_matrices_and_follows_the_learning_rate(name):
    config = Optimizer(name, learning_rate=0.1, schedule="cosine", weight_decay=0.5)
    optimizer, rate = make_optimizer(config, 3), schedule(config, 3)
    params = {"softmax": {"kernel": jnp.ones(2), "head_bias": jnp.ones(2)}}
    zero = {"softmax": {"kernel": jnp.zeros(2), "head_bias": jnp.zeros(2)}}
    state = optimizer.init(params)
    for step in range(3):
        updates, state = optimizer.update(zero, state, params)
        np.testing.assert_allclose(updates["softmax"]["kernel"], -0.5 * rate(step), rtol=1e-6)
        np.testing.assert_allclose(updates["softmax"]["head_bias"], 0)


def test_warm_up_then_cosine():
    config = Optimizer(learning_rate=1.0, schedule="cosine", warmup_steps=9, final_fraction=0.1)
    rate = schedule(config, 109)
    assert [float(rate(k)) for k in (0, 4, 8)] == pytest.approx([0.1, 0.5, 0.9])
    assert float(rate(9)) == pytest.approx(1.0)
    assert float(rate(59)) == pytest.approx(0.55, abs=1e-3)
    assert float(rate(109)) == pytest.approx(0.1)


def test_warm_up_then_inverse_square_root():
    rate = schedule(Optimizer(learning_rate=1.0, schedule="inverse_sqrt", warmup_steps=100), 10_000)
    assert [float(rate(k)) for k in (0, 100, 400, 10_000)] == pytest.approx([1 / 101, 1.0, 0.5, 0.1])
    rate = schedule(Optimizer(learning_rate=1.0, schedule="inverse_sqrt", warmup_steps=0), 100)
    assert [float(rate(k)) for k in (0, 3, 99)] == pytest.approx([1.0, 0.5, 0.1])


def test_without_a_number_the_warm_up_is_a_twentieth_of_the_run_and_at_most_200_steps():
    constant = Optimizer(learning_rate=1.0, schedule="constant")
    for n_steps, warm in ((10, 0), (400, 20), (4000, 200), (1_000_000, 200)):
        rate = schedule(constant, n_steps)
        assert float(rate(0)) == pytest.approx(1 / (warm + 1), rel=1e-5)
        assert float(rate(warm)) == 1.0


def descend(name: str, steps: int = 3, **fields) -> list[float]:
    """The weights of one parameter after each step down the gradients 0.5, -1.0, 2.0."""
    constant = Optimizer(name, learning_rate=0.1, schedule="constant", warmup_steps=0, **fields)
    optimizer = make_optimizer(constant, steps)
    params = {"kernel": jnp.array([1.0])}
    state, seen = optimizer.init(params), []
    for gradient in (0.5, -1.0, 2.0)[:steps]:
        updates, state = optimizer.update({"kernel": jnp.array([gradient])}, state, params)
        params = optax.apply_updates(params, updates)
        seen.append(float(params["kernel"][0]))
    return seen


@pytest.mark.parametrize(("b2", "used"), [(None, 0.999), (0.9, 0.9)])
def test_adamw_is_that_of_the_paper(b2, used):
    weight, mean, square, expected = 1.0, 0.0, 0.0, []
    for step, gradient in enumerate((0.5, -1.0, 2.0), 1):
        mean, square = 0.8 * mean + 0.2 * gradient, used * square + (1 - used) * gradient**2
        weight -= 0.1 * (mean / (1 - 0.8**step) / (np.sqrt(square / (1 - used**step)) + 1e-8) + 0.01 * weight)
        expected.append(weight)
    np.testing.assert_allclose(descend("adamw", b1=0.8, b2=b2, weight_decay=0.01), expected, rtol=1e-5)


@pytest.mark.parametrize(("b2", "used"), [(None, 0.99), (0.5, 0.5)])
def test_lion_is_that_of_the_paper(b2, used):
    weight, memory, expected = 1.0, 0.0, []
    for gradient in (0.5, -1.0, 2.0):
        weight -= 0.1 * (np.sign(0.8 * memory + 0.2 * gradient) + 0.01 * weight)
        memory = used * memory + (1 - used) * gradient
        expected.append(weight)
    np.testing.assert_allclose(descend("lion", b1=0.8, b2=b2, weight_decay=0.01), expected, rtol=1e-5)


def test_adafactor_steps_by_the_size_of_the_parameter():
    """One parameter of size 1, first step: the update g / sqrt(g^2) = 1 times the rate times the parameter's RMS."""
    np.testing.assert_allclose(descend("adafactor", steps=1), [1.0 - 0.1], rtol=1e-5)


def test_each_optimiser_has_a_learning_rate_that_suits_it():
    assert float(schedule(Optimizer("adagrad"), 10)(0)) == pytest.approx(0.2)
    assert float(schedule(Optimizer("adamw"), 10)(0)) == pytest.approx(0.001)
    assert float(schedule(Optimizer("adamw", learning_rate=0.2), 10)(0)) == pytest.approx(0.2)


def test_constant_stays():
    rate = schedule(PUBLISHED_OPTIMIZER, 10)
    assert float(rate(0)) == float(rate(10_000)) == pytest.approx(0.2)
