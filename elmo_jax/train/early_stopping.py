"""Early stopping: training ends when the held-out perplexity has not become better for some evaluations."""

from typing import Any


class EarlyStopping:
    """Counts the evaluations in a row that are no better than the best before them.

    The count is part of a checkpoint, so a run that was interrupted stops where an unbroken one does. It is kept
    without patience too, so that a run may be given some later.

    Args:
        patience: so many end the training; 0 = it is never ended.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        # Perplexity and step of the best evaluation, and the evaluations after it.
        self._best: tuple[float, int] | None = None
        self._since = 0

    def __call__(self, step: int, perplexity: float) -> None:
        """Take in an evaluation."""
        if self._best is None or perplexity < self._best[0]:
            self._best, self._since = (perplexity, step), 0
        else:
            self._since += 1

    @property
    def due(self) -> bool:
        """Whether training is to end."""
        return 0 < self._patience <= self._since

    @property
    def reason(self) -> str:
        """Why training is to end, for people."""
        assert self._best is not None
        perplexity, step = self._best
        what = "1 evaluation was" if self._since == 1 else f"{self._since} evaluations in a row were"
        return f"{what} no better than {perplexity:.2f} at step {step:,}"

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"best": self._best, "since": self._since}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what ``state`` returned."""
        self._best, self._since = state["best"] and tuple(state["best"]), state["since"]
