"""Vectors of words in their context, from trained models."""
