"""The exponential moving average of the weights (Polyak and Juditsky 1992, in the form of Kingma and Ba 2015, 7.2)."""

import math
from typing import Any

import jax
import jax.numpy as jnp


def moving_average(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """The average after a step, with its bias corrected.

    The average after step t is ``sum_k decay^(t - k) w_k / sum_k decay^(t - k)`` over the weights w_1 .. w_t: always a
    weighted mean of weights that there were, from the first step on, and never of the random ones before it.

    Args:
        average: before the step; zeros before the first one.
        params: the weights after the step.
        decay: between 0 and 1; about the last ``1 / (1 - decay)`` steps count.
        step: int32 scalar, steps done with this one, at least 1.
    """
    # (1 - decay) / (1 - decay^step), without the cancellation of a decay near 1.
    weight = (1 - decay) / -jnp.expm1(step * math.log(decay))
    return jax.tree.map(lambda a, w: a + weight * (w - a), average, params)
