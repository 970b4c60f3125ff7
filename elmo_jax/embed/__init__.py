"""Vectors of words in their context, from trained models."""

from elmo_jax.embed.embedder import Embedder, Passage

__all__ = ["Embedder", "Passage"]
