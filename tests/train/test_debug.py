"""Debugging: training is the same, a NaN is traced to its operation, and no transfer is hidden."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.parallel import AXIS, DataParallel
from elmo_jax.train.debug import WatchedStep
from elmo_jax.train.step import STATE_SPECS, TrainState

MODES = pytest.mark.parametrize("mode", ["shard_map", "pmap"])


def watched(mode, body):
    """A watched step whose parameter becomes ``body(parameter, batch)``, and the state before it."""

    def step(state, batch):
        weight = jax.lax.pmean(body(state.params["weight"], batch["x"]), AXIS)
        return state.replace(step=state.step + 1, params={"weight": weight}), {"loss": weight.sum()}

    devices = DataParallel(mode, jax.devices()[:2])
    state = TrainState(np.int32(6), {"weight": np.ones(3, np.float32)}, (), {"cell": np.ones((4, 1), np.float32)})
    state = jax.device_put(state, devices.shardings(state, STATE_SPECS))
    return WatchedStep(step, devices), devices.place_state(state, STATE_SPECS)


def message_of(step, state, x):
    with pytest.raises(UserError) as raised:
        step(state, {"x": np.asarray(x, np.float32)})
    assert "\n" not in str(raised.value)
    return str(raised.value)


@MODES
def test_a_nan_is_traced_to_the_step_the_operation_and_its_line_inside_of_a_loop(mode):
    def body(weight, x):
        def root(i, total):
            return total + jnp.sqrt(x[0] - i)  # this line

        return jax.lax.fori_loop(0, 3, root, weight)

    step, state = watched(mode, body)
    state, _ = step(state, {"x": np.float32([5, 5, 5, 5])})
    assert int(state.step.ravel()[0]) == 7
    said = message_of(step, state, [5, 5, 1, 5])
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    line = next(n for n, text in enumerate(lines, 1) if text.endswith("# this line"))
    assert said.startswith("step 8 makes ")
    assert "state/params/weight" in said
    assert f"the first NaN comes from sqrt at {__file__}:{line} (" in said
    assert ") on device 1; " in said
    assert said.endswith("lower --config.optimizer.learning_rate, or mend that operation")


@MODES
def test_a_nan_that_a_mask_removes_is_no_error(mode):
    step, state = watched(mode, lambda weight, x: weight + jnp.where(x[0] > 0, jnp.sqrt(x[0]), 0))
    state, _ = step(state, {"x": np.float32([-1, 0, -1, 0])})
    np.testing.assert_array_equal(np.asarray(state.params["weight"]).ravel()[:3], 1)


def test_an_infinity_is_a_number_that_is_too_large():
    step, state = watched("shard_map", lambda weight, x: weight * x[0] * 1e30)
    assert "step 7 makes " in (said := message_of(step, state, [1e30] * 4))
    assert "no operation makes a NaN, so a number is too large" in said


def test_weights_that_were_not_finite_before_are_told():
    step, state = watched("shard_map", lambda weight, x: weight + x[0])
    state = state.replace(params={"weight": state.params["weight"].at[1].set(jnp.nan)})
    assert message_of(step, state, [0] * 4).endswith(
        "state/params/weight was not finite before it: start from other weights"
    )


def test_a_hidden_transfer_is_refused_and_only_within_a_step():
    step, state = watched("shard_map", lambda weight, x: weight + x[0])
    step(state, {"x": np.zeros(4, np.float32)})
    hidden = jax.device_get(state)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        step(hidden, {"x": np.zeros(4, np.float32)})
    jnp.asarray(np.zeros(4))
