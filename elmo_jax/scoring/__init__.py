"""Probabilities of words in their context, from trained models."""
