"""Stopping a run in the middle."""

import signal

from elmo_jax.train.report import TrainingReport


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Send this process a signal when the metrics of a step come in."""
    plain = TrainingReport.__call__

    def call(self, now, metrics):
        plain(self, now, metrics)
        if now == step:
            signal.raise_signal(number)

    monkeypatch.setattr(TrainingReport, "__call__", call)
