"""Initial values as bilm-tf draws them (ELMO_SPEC 2.12)."""

from collections.abc import Callable

import flax.linen as nn
import jax

Init = Callable[..., jax.Array]
Shapes = dict[str, tuple[Init, tuple[int, ...]]]

zeros: Init = nn.initializers.zeros


def normal(fan_in: int) -> Init:
    """Normal values of variance ``1 / fan_in``."""
    return nn.initializers.normal(fan_in**-0.5)


def symmetric_uniform(limit: float) -> Init:
    """Values uniform in ``[-limit, limit)``."""

    def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, minval=-limit, maxval=limit)

    return init


def glorot(fan_in: int, fan_out: int) -> Init:
    """Glorot and Bengio's (2010) uniform values for a matrix that is stored in parts."""
    return symmetric_uniform((6.0 / (fan_in + fan_out)) ** 0.5)
