"""Random parameters of a module without compiling its initialisation."""

import jax
import numpy as np


def random_parameters(module, *inputs, method, scale=0.4, seed=0):
    """Normal values of the given scale for every parameter, biases included: a bias of zero would hide one left out."""
    shapes = jax.eval_shape(lambda key: module.init(key, *inputs, method=method), jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (scale * rng.normal(size=x.shape)).astype(x.dtype), shapes)
