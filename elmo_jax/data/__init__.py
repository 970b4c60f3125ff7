"""From text to the arrays of a training step: the standard library and NumPy only, never jax."""
