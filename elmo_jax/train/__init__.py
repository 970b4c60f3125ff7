"""Pretraining: optimiser, step, loop, the wiring of a run, and evaluation."""
