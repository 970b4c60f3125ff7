"""Two layers in step with each other are two layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.model.recurrence import Settings

D, T, B, P, C = 2, 5, 3, 3, 4


@pytest.mark.parametrize(("steps", "clip"), [(T, 0.3), (T, None), (1, 0.3)])
def test_values_and_gradients_are_those_of_the_stack(steps, clip):
    from skewed_layers import skewed, stack

    rng = np.random.default_rng(0)
    kernels = {"input_kernel": (P, 4 * C), "recurrent_kernel": (P, 4 * C), "bias": (4 * C,), "projection": (C, P)}
    shapes = [{name: (D, *shape) for name, shape in kernels.items()}] * 2, (D, steps, B, P)
    shapes = *shapes, [{"cell": (D, B, C), "hidden": (D, B, P)}] * 2
    inputs = jax.tree.map(
        lambda s: rng.normal(size=s).astype(np.float32),
        shapes,
        is_leaf=lambda s: type(s) is tuple and type(s[0]) is int,
    )
    reset, keep = rng.random((steps, B)) < 0.3, rng.random((steps, B)) < 0.7
    weight = jnp.asarray(rng.normal(size=(D, steps, B, P)), jnp.float32)

    def both(form):
        def run(*inputs):
            outputs, gradient = jax.vjp(
                lambda *inputs: form(Settings(clip, clip, jnp.float32, True), *inputs, reset, keep), *inputs
            )
            return outputs, gradient((weight, inputs[2]))

        return jax.jit(run)(*inputs)

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=1e-5), both(skewed), both(stack))
