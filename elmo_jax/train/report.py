"""What a run says while it trains: one line of metrics per logging interval, and the progress bar."""

import math
from typing import Any

from elmo_jax.errors import UserError
from elmo_jax.parallel import DataParallel
from elmo_jax.telemetry import Clock, Progress, safe_exp
from elmo_jax.trackers import Metrics

# Of which each line has the mean over its steps.
MEANS = ("gradient_norm", "update_norm", "parameter_norm", "clipped_share")
# Parts of the clock of which each line has the share; all others are `other`.
PARTS = ("input", "step", "evaluation", "checkpoint")


class TrainingReport:
    """Averages the metrics of each logging interval.

    Its sums are part of a checkpoint, so a resumed run writes the very lines of an unbroken one (but for times).

    Args:
        writer: of metrics.
        progress: bar over all tokens of the run.
        devices: to read metrics from.
        clock: of the run; the speed counts its parts ``input`` and ``step``, and the shares what passed since the
            line before.
        every: steps of an interval; the last step ends one too.
        until: steps of the run.
        per_epoch: predictions of one reading of the corpus.
        learning_rate: by step, as from ``optim.schedule``.
        clip_norm: above which a gradient is clipped.
    """

    def __init__(
        self,
        writer: Metrics,
        progress: Progress,
        devices: DataParallel,
        clock: Clock,
        *,
        every: int,
        until: int,
        per_epoch: int,
        learning_rate: Any,
        clip_norm: float,
    ) -> None:
        self._writer, self._progress, self._devices, self._clock = writer, progress, devices, clock
        self._every, self._until = every, until
        self._per_epoch, self._learning_rate, self._clip_norm = per_epoch, learning_rate, clip_norm
        self.tokens = 0
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._seconds, self._fresh_tokens = clock.read(), 0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"tokens": self.tokens, "sums": self._sums, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self.tokens, self._sums, self._steps = state["tokens"], dict(state["sums"]), state["steps"]

    def __call__(self, step: int, metrics: Any) -> None:
        """Take in the metrics of a step; write them when its interval is complete.

        Raises:
            UserError: when the loss or its gradient is not finite. Nothing of such a step has been saved.
        """
        scalars = self._devices.scalars(metrics)
        for name, value in scalars.items():
            if not math.isfinite(value):
                raise UserError(
                    f"{name} is {value} at step {step}: training has diverged; start a new run with a lower "
                    f"--config.optimizer.learning_rate (it is {float(self._learning_rate(step - 1)):g} at this step)"
                )
        scalars["clipped_share"] = float(scalars["gradient_norm"] > self._clip_norm)
        # The first step of an interval tells what there is to sum: a forward-only model has no backward loss.
        before = self._sums if self._steps else dict.fromkeys(scalars, 0.0)
        # Of the sums that there are: an older version's checkpoint may have fewer, until its interval ends.
        self._sums = {name: total + scalars[name] for name, total in before.items()}
        self._steps += 1
        count = round(scalars["count"])
        self.tokens += count
        self._fresh_tokens += count
        if step % self._every == 0 or step == self._until:
            self._write(step)
        if step % self._every == 0:
            self._sums, self._steps = {}, 0

    def _write(self, step: int) -> None:
        sums = self._sums
        losses = {name: nll / sums["count"] for name, nll in sums.items() if name.startswith("nll_")}
        loss = sum(losses.values()) / len(losses)
        self._writer.write(
            step,
            {
                "train/loss": loss,
                "train/perplexity": safe_exp(loss),
                **{name.replace("nll_", "train/perplexity_"): safe_exp(value) for name, value in losses.items()},
                **{f"train/{name}": sums[name] / self._steps for name in MEANS if name in sums},
                "train/learning_rate": float(self._learning_rate(step - 1)),
                "train/tokens": self.tokens,
                "train/epoch": self.tokens / self._per_epoch,
                **self._times(),
            },
        )
        shown = {"loss": loss, "perplexity": safe_exp(loss), "epoch": self.tokens / self._per_epoch}
        self._progress.update(self.tokens, shown)

    def _times(self) -> dict[str, float]:
        """The speed since the line before, and what the time went into."""
        now = self._clock.read()
        passed = {part: seconds - self._seconds.get(part, 0.0) for part, seconds in now.items()}
        whole = max(sum(passed.values()), 1e-9)
        shares = {part: passed.get(part, 0.0) / whole for part in PARTS}
        speed = self._fresh_tokens / max(passed.get("input", 0.0) + passed.get("step", 0.0), 1e-9)
        self._seconds, self._fresh_tokens = now, 0
        return {
            "speed/tokens_per_second": speed,
            **{f"time/{part}": share for part, share in shares.items()},
            "time/other": max(0.0, 1.0 - sum(shares.values())),
        }
