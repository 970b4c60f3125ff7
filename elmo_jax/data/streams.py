"""Rows: which predictions each row of a batch reads, as a function of (seed, row, position)."""

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.corpus import Corpus
from elmo_jax.data.permutation import chance, epoch_key, permute
from elmo_jax.errors import UserError

__all__ = ["Rows", "Window", "permute"]

I64 = npt.NDArray[np.int64]
# int32 [rows, 3]: epoch, units of this epoch already finished, predictions of the present unit already read.
Position = npt.NDArray[np.int32]

# Units that the lengths of rows are counted over at once.
UNITS_AT_ONCE = 1 << 20
# Added to the seed for the resets, which are to have nothing to do with the shuffle.
RESETS = 1 << 32


class Window(NamedTuple):
    """The next T predictions of b rows. Padding (where ``keep`` is False) is 0 and False everywhere."""

    inputs: npt.NDArray[np.int32]  # [b, 2, T] type ids; direction 0 is forward, 1 backward, in its reading order
    targets: npt.NDArray[np.int32]  # [b, 2, T] type ids
    reset: npt.NDArray[np.bool_]  # [b, T] the state is zero before this prediction
    keep: npt.NDArray[np.bool_]  # [b, T] a prediction, not padding

    def cut(self, begin: int, end: int) -> "Window":
        """The predictions from ``begin`` to ``end``."""
        cut = np.s_[..., begin:end]
        return Window(self.inputs[cut], self.targets[cut], self.reset[cut], self.keep[cut])


class _Plan(NamedTuple):
    """The next K units of b rows, enough for a window."""

    per_epoch: I64  # [b, 1] units of a row in an epoch
    number: I64  # [b, K] which unit of the row since epoch 0: epoch * per_epoch + index
    first: I64  # [b, K] position in the corpus of the first prediction that is left
    end: I64  # [b, K] predictions of the row up to the end of the unit, from the start of the window
    ended: npt.NDArray[np.bool_]  # [b, K] beyond the last epoch: padding


class Rows:
    """The rows of this process. They have no state: reading is a function of the position.

    Row r of B reads units ``perm(r), perm(r + B), ...`` of each epoch, where ``perm`` is keyed by (seed, epoch). Both
    directions read the same sentences.

    Args:
        corpus: what is read.
        n_rows: rows of the whole run, B.
        rows: the numbers of this process's rows. Those from n_rows on read nothing, when there is an end (``epochs``).
        seed: of the shuffle; None reads in the order of the text.
        unit: what the shuffle moves as one piece.
        epochs: after so many a row is padding; None goes on for ever.
        reset: how likely the LSTM state starts at zero at a sentence: 1 at every one, 0 ("carried") only at the start
            of a row. In between it is drawn from (seed, epoch, sentence): it too is a function of the position.

    Raises:
        UserError: when rows that go on for ever would have no unit to read, or a document is too long.
    """

    def __init__(
        self,
        corpus: Corpus,
        n_rows: int,
        rows: range,
        seed: int | None,
        unit: Literal["sentence", "document"] = "sentence",
        epochs: int | None = None,
        reset: float = 0.0,
    ) -> None:
        self.corpus, self.n_rows, self.rows = corpus, n_rows, rows
        self._seed, self._epochs, self._reset = seed, epochs, reset
        self._bounds = corpus.starts if unit == "sentence" else corpus.starts[corpus.documents]
        self.n_units = len(self._bounds) - 1
        if epochs is None and max(rows) >= n_rows:
            raise ValueError(f"{rows} are not among {n_rows} rows without an end")
        if epochs is None and self.n_units < n_rows:
            raise UserError(
                f"{n_rows} rows cannot share {self.n_units} {unit}s: each row needs one; lower "
                f"config.train.batch_size to at most {self.n_units}"
                + (", or use config.data.unit='sentence'" if unit == "document" else "")
            )
        if unit == "document" and np.diff(self._bounds).max() >= 2**31:
            raise UserError(
                "a document has 2147483648 predictions or more: end documents with empty lines, or use "
                "config.data.unit='sentence'"
            )
        self._row = np.fromiter(rows, np.int64, len(rows))[:, None]
        self._count = np.where(self._row < n_rows, (self.n_units - self._row + n_rows - 1) // n_rows, 0)

    def start(self) -> Position:
        """The position before anything is read: int32 ``[b, 3]`` zeros."""
        return np.zeros((len(self.rows), 3), np.int32)

    def read(self, position: Position, length: int) -> tuple[Window, Position]:
        """The next ``length`` predictions of every row, and the position after them.

        Reading ``a`` and then ``b`` predictions gives what reading ``a + b`` gives.
        """
        window, positions = self.read_windows(position, length, 1)
        return window, positions[0]

    def read_windows(self, position: Position, length: int, number: int) -> tuple[Window, Position]:
        """The next ``number`` windows of ``length`` as one long one: a large read costs less than many small ones.

        Returns:
            A window of ``T = number * length`` and int32 ``[number, b, 3]``, the positions after each part.
        """
        plan = self._plan(position, number * length)
        positions = np.stack([self._after(position, plan, (i + 1) * length) for i in range(number)])
        return self._window(position, plan, number * length), positions

    def n_windows(self, length: int) -> int:
        """Windows of ``length`` from the start until all B rows of the run have ended: the same in every process."""
        if self._epochs is None:
            raise ValueError("rows without a number of epochs have no end")
        totals = sum((self._row_totals(epoch) for epoch in range(self._epochs)), np.zeros(self.n_rows, np.int64))
        return int(-(-totals.max() // length))

    def _row_totals(self, epoch: int) -> I64:
        """Predictions of each of the B rows in an epoch, ``[B]``."""
        totals = np.zeros(self.n_rows, np.int64)
        step = -(-UNITS_AT_ONCE // self.n_rows) * self.n_rows
        for begin in range(0, self.n_units, step):
            number = np.arange(begin, min(begin + step, self.n_units))
            unit = self._shuffled(number, np.full(len(number), epoch))
            sizes = np.zeros(-(-len(number) // self.n_rows) * self.n_rows, np.int64)
            sizes[: len(number)] = self._bounds[unit + 1] - self._bounds[unit]
            totals += sizes.reshape(-1, self.n_rows).sum(0)
        return totals

    def _shuffled(self, number: I64, epoch: I64) -> I64:
        if self._seed is None:
            return number
        return permute(number, self.n_units, epoch_key(self._seed, epoch))

    def _plan(self, position: Position, length: int) -> _Plan:
        """Enough units of each row to read ``length`` predictions: guessed from their mean length, then doubled."""
        n_units = 2 + length * self.n_units // self.corpus.n_predictions * 5 // 4
        while True:
            plan = self._units(position, n_units, length)
            if (plan.end[:, -1] >= length).all():
                return plan
            n_units *= 2

    def _units(self, position: Position, n_units: int, length: int) -> _Plan:
        epoch, index, offset = (position[:, i : i + 1].astype(np.int64) for i in range(3))
        count = np.maximum(self._count, 1)
        # Numbered through all epochs, so that adding goes from one epoch to the next.
        through = epoch * count + index + np.arange(n_units)
        epoch, index = np.divmod(through, count)
        ended = np.zeros(through.shape, bool)
        if self._epochs is not None:
            ended = (epoch >= self._epochs) | (self._count == 0)
        unit = np.where(ended, 0, self._row + index * self.n_rows)
        unit = self._shuffled(unit, epoch)
        first = self._bounds[unit]
        size = self._bounds[unit + 1] - first
        first[:, :1] += offset
        size[:, :1] -= offset
        size[ended] = length
        return _Plan(count, through, first, np.cumsum(size, axis=1), ended)

    def _after(self, position: Position, plan: _Plan, length: int) -> Position:
        """The position after ``length`` predictions, at most those that the plan was made for."""
        finished = ((plan.end <= length) & ~plan.ended).sum(1, keepdims=True)
        epoch, index = np.divmod(plan.number[:, :1] + finished, plan.per_epoch)
        begin = np.take_along_axis(plan.end, np.maximum(finished - 1, 0), axis=1)
        offset = length - np.where(finished == 0, -position[:, 2:].astype(np.int64), begin)
        if self._epochs is not None:
            ended = (epoch >= self._epochs) | (self._count == 0)
            epoch, index, offset = (
                np.where(ended, end, x) for end, x in ((self._epochs, epoch), (0, index), (0, offset))
            )
        return np.concatenate([epoch, index, offset], axis=1).astype(np.int32)

    def _window(self, position: Position, plan: _Plan, length: int) -> Window:
        n_rows, n_units = plan.end.shape
        # `piece` is, for each prediction, which of all the rows' units it belongs to.
        parts = np.diff(np.minimum(plan.end, length), axis=1, prepend=0)
        piece = np.repeat(np.arange(n_rows * n_units), parts.ravel()).reshape(n_rows, length)
        begin = np.concatenate([np.zeros((n_rows, 1), np.int64), plan.end[:, :-1]], axis=1)
        keep = ~plan.ended.ravel()[piece]
        here = np.where(keep, (plan.first - begin).ravel()[piece] + np.arange(length), 0)

        ids, starts = self.corpus.ids, self.corpus.starts
        sentence = np.searchsorted(starts, here, side="right") - 1
        mirrored = starts[sentence] + starts[sentence + 1] - here
        inputs = np.stack([ids[here], _as_end(ids[mirrored])], axis=1)
        targets = np.stack([_as_end(ids[here + 1]), ids[mirrored - 1]], axis=1)
        reset = inputs[:, 0] == 0
        if self._reset < 1:
            epoch = (plan.number // plan.per_epoch).ravel()[piece]
            reset &= chance(sentence, epoch_key(RESETS + (self._seed or 0), epoch)) < self._reset
        reset[:, 0] |= ~position.any(axis=1)
        both, zero = keep[:, None], np.int32(0)
        return Window(np.where(both, inputs, zero), np.where(both, targets, zero), reset & keep, keep)


def _as_end(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Type ids at places where a boundary, which the corpus stores as ``<S>``, is read or predicted as ``</S>``."""
    return np.where(ids == 0, np.int32(1), ids)
