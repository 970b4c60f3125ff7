"""Vectors of words in their context, from trained models."""

from elmo_jax.data.sentence_ids import batch_to_ids
from elmo_jax.embed.elmo import Elmo
from elmo_jax.embed.embedder import Embedder, Passage
from elmo_jax.embed.scalar_mix import ScalarMix
from elmo_jax.interop.pretrained import Mix

__all__ = ["Elmo", "Embedder", "Mix", "Passage", "ScalarMix", "batch_to_ids"]
