"""What a run says while it trains: one line of metrics per logging interval, and the progress bar."""

import math
import time
from typing import Any

from elmo_jax.parallel import DataParallel
from elmo_jax.telemetry import Clock, MetricsWriter, Progress

SUMS = ("nll_forward", "nll_backward", "count", "gradient_norm")


class TrainingReport:
    """Averages the metrics of each logging interval.

    Its sums are part of a checkpoint, so a resumed run writes the very lines of an unbroken one (but for times).

    Args:
        writer: of metrics.jsonl.
        progress: bar over all tokens of the run.
        devices: to read metrics from.
        clock: of the run.
        every: steps of an interval.
        per_epoch: predictions of one reading of the corpus.
        learning_rate: by step, as from ``optim.schedule``.
    """

    def __init__(
        self,
        writer: MetricsWriter,
        progress: Progress,
        devices: DataParallel,
        clock: Clock,
        *,
        every: int,
        per_epoch: int,
        learning_rate: Any,
    ) -> None:
        self._writer, self._progress, self._devices, self._clock = writer, progress, devices, clock
        self._every, self._per_epoch, self._learning_rate = every, per_epoch, learning_rate
        self.tokens = 0
        self._sums = dict.fromkeys(SUMS, 0.0)
        self._steps = 0
        self._since, self._fresh_tokens = time.monotonic(), 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"tokens": self.tokens, "sums": self._sums, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.tokens, self._sums, self._steps = state["tokens"], dict(state["sums"]), state["steps"]

    def __call__(self, step: int, metrics: Any) -> None:
        """Take in the metrics of a step; write them when its interval is complete."""
        scalars = self._devices.scalars(metrics)
        self._sums = {name: total + scalars[name] for name, total in self._sums.items()}
        self._steps += 1
        count = round(scalars["count"])
        self.tokens += count
        self._fresh_tokens += count
        if step % self._every == 0:
            self._write(step)

    def _write(self, step: int) -> None:
        sums, now = self._sums, time.monotonic()
        forward, backward = sums["nll_forward"] / sums["count"], sums["nll_backward"] / sums["count"]
        loss = (forward + backward) / 2
        speed = self._fresh_tokens / max(now - self._since, 1e-9)
        self._writer.write(
            step,
            {
                "train/loss": loss,
                "train/perplexity": safe_exp(loss),
                "train/perplexity_forward": safe_exp(forward),
                "train/perplexity_backward": safe_exp(backward),
                "train/gradient_norm": sums["gradient_norm"] / self._steps,
                "train/learning_rate": float(self._learning_rate(step - 1)),
                "train/tokens": self.tokens,
                "train/epoch": self.tokens / self._per_epoch,
                "speed/tokens_per_second": speed,
            },
        )
        shown = {"loss": loss, "perplexity": safe_exp(loss), "epoch": self.tokens / self._per_epoch}
        self._progress.update(self.tokens, shown)
        self._sums, self._steps = dict.fromkeys(SUMS, 0.0), 0
        self._since, self._fresh_tokens = now, 0


def safe_exp(x: float) -> float:
    """``exp(x)``, infinite where a float cannot hold it."""
    return math.exp(x) if x < 700 else math.inf
