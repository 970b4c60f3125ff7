"""elmo_jax: pretraining of bidirectional character language models (ELMo) in JAX and Flax."""

__version__ = "0.1.0"
