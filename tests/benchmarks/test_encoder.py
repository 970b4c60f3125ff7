"""All forms of a layer of the encoder are the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import CharCNN, CharEmbedding


@pytest.fixture
def config():
    return CharCNN(embedding=CharEmbedding(dim=4), filters=((1, 3), (2, 4), (5, 6)), n_highway=1)


def test_values_and_gradients_of_all_forms_are_equal(config):
    import encoder

    layers = (
        (encoder.CONVOLUTIONS, encoder.convolution_inputs(config, types=7, characters=9)),
        (encoder.HIGHWAYS, encoder.highway_inputs(config, types=7)),
    )
    for forms, inputs in layers:
        results = []
        for form in forms.values():
            value = form(*inputs, jnp.float32)
            results.append((value, encoder.gradient(form, jnp.float32)(jnp.int32(1), *inputs)))
        for other in results[1:]:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), results[0], other)
