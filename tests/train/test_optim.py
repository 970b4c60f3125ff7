"""The optimiser is the published one; the schedule goes where it says."""

import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import Optimizer
from elmo_jax.train.optim import make_optimizer, schedule


def test_adagrad_is_that_of_bilm_tf():
    """acc <- acc + g^2 from 1.0; w <- w - 0.2 g / sqrt(acc), no epsilon (ELMO_SPEC 2.12)."""
    optimizer = make_optimizer(Optimizer(), 100)
    params = {"kernel": jnp.array([1.0, -2.0])}
    state = optimizer.init(params)
    weight, accumulator = np.array([1.0, -2.0]), np.ones(2)
    for gradient in ([0.5, -1.0], [2.0, 0.25], [-1.5, 3.0]):
        updates, state = optimizer.update({"kernel": jnp.array(gradient)}, state, params)
        params = {"kernel": params["kernel"] + updates["kernel"]}
        accumulator += np.square(gradient)
        weight -= 0.2 * np.array(gradient) / np.sqrt(accumulator)
        np.testing.assert_allclose(params["kernel"], weight, rtol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
    optimizer = make_optimizer(Optimizer(learning_rate=1.0, initial_accumulator=1e12, all_clip_norm_val=10.0), 1)
    gradients = {"a": jnp.array([30.0]), "b": {"kernel": jnp.array([40.0])}}
    updates, _ = optimizer.update(gradients, optimizer.init(gradients), gradients)
    np.testing.assert_allclose(
        np.array([updates["a"][0], updates["b"]["kernel"][0]]), np.array([-6e-6, -8e-6]), rtol=1e-4
    )


def test_adamw_decays_matrices_and_not_biases():
    optimizer = make_optimizer(Optimizer("adamw", learning_rate=0.1, weight_decay=0.5), 1)
    params = {"softmax": {"kernel": jnp.ones(2), "head_bias": jnp.ones(2)}}
    zero = {"softmax": {"kernel": jnp.zeros(2), "head_bias": jnp.zeros(2)}}
    updates, _ = optimizer.update(zero, optimizer.init(params), params)
    np.testing.assert_allclose(updates["softmax"]["kernel"], -0.05)
    np.testing.assert_allclose(updates["softmax"]["head_bias"], 0)


def test_warm_up_then_cosine():
    config = Optimizer(learning_rate=1.0, schedule="cosine", warmup_steps=9, final_fraction=0.1)
    rate = schedule(config, 109)
    assert [float(rate(k)) for k in (0, 4, 8)] == pytest.approx([0.1, 0.5, 0.9])
    assert float(rate(9)) == pytest.approx(1.0)
    assert float(rate(59)) == pytest.approx(0.55, abs=1e-3)
    assert float(rate(109)) == pytest.approx(0.1)


def test_each_optimiser_has_a_learning_rate_that_suits_it():
    assert float(schedule(Optimizer("adagrad"), 10)(0)) == pytest.approx(0.2)
    assert float(schedule(Optimizer("adamw"), 10)(0)) == pytest.approx(0.001)
    assert float(schedule(Optimizer("adamw", learning_rate=0.2), 10)(0)) == pytest.approx(0.2)


def test_constant_stays():
    rate = schedule(Optimizer(), 10)
    assert float(rate(0)) == float(rate(10_000)) == pytest.approx(0.2)
