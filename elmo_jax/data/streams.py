"""Rows: which predictions each row of a batch reads, as a function of (seed, row, position)."""

from typing import Any, Literal, NamedTuple

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

    epoch: I64  # [b, K]
    # Hides tuple.index, which a plan has no use for.
    index: I64  # type: ignore[assignment]  # [b, K] which unit of the row in that epoch
    unit: I64  # [b, K] which unit of the corpus; 0 where ended
    first: I64  # [b, K] position in the corpus of the first prediction that is left
    end: I64  # [b, K] predictions of the row up to the end of the unit, from the start of the window
    ended: npt.NDArray[np.bool_]  # [b, K] beyond the last epoch: padding


class _Pieces(NamedTuple):
    """What a window reads: row after row, pieces of it that each lie within one sentence."""

    planned: I64  # [P] which of the plan's b * K units it is of
    sentence: I64  # [P] of the corpus
    first: I64  # [P] position in the corpus of its first prediction
    size: I64  # [P] its predictions in the window

    def spread(self, values: npt.NDArray[Any], n_rows: int) -> npt.NDArray[Any]:
        """A value of each piece, ``[P]``, at all of its predictions: ``[n_rows, predictions of a row]``."""
        return np.repeat(values, self.size).reshape(n_rows, -1)


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
        self._units_are_sentences = unit == "sentence"
        self._bounds = corpus.starts if self._units_are_sentences else corpus.starts[corpus.documents]
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
        # And the prediction after them: the last targets are its inputs, the last position is its own.
        plan = self._plan(position, number * length + 1)
        pieces = self._pieces(plan, number * length + 1)
        before = np.cumsum(pieces.size) - pieces.size
        here = pieces.spread(pieces.first - before, len(position))
        here += np.arange(here.size).reshape(here.shape)
        return self._window(position, plan, pieces, here), self._positions(plan, pieces, here, length)

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
        return _Plan(epoch, index, unit, first, np.cumsum(size, axis=1), ended)

    def _pieces(self, plan: _Plan, length: int) -> _Pieces:
        """The plan up to ``length`` predictions of each row, cut into sentences."""
        planned, first, unit = np.arange(plan.end.size), plan.first.ravel(), plan.unit.ravel()
        size = np.diff(np.minimum(plan.end, length), axis=1, prepend=0).ravel()
        if self._units_are_sentences:
            return _Pieces(planned, unit, first, size)
        starts, end, ended = self.corpus.starts, first + size, plan.ended.ravel()
        begin = np.searchsorted(starts, first, side="right") - 1
        n_sentences = np.where(ended, size > 0, np.searchsorted(starts, end, side="left") - begin)
        n_sentences[size == 0] = 0
        planned = np.repeat(planned, n_sentences)
        sentence = np.repeat(begin - np.cumsum(n_sentences) + n_sentences, n_sentences) + np.arange(len(planned))
        first, end = np.maximum(first[planned], starts[sentence]), end[planned]
        end = np.where(ended[planned], end, np.minimum(end, starts[sentence + 1]))
        return _Pieces(planned, sentence, first, end - first)

    def _window(self, position: Position, plan: _Plan, pieces: _Pieces, here: I64) -> Window:
        """The predictions at ``here``, but for the last of each row, whose inputs are targets only.

        In both directions a target is the next input, with one difference: a boundary in the text is what a sentence
        of that direction begins with and what the sentence before it ends with.
        """
        n_rows, starts = len(here), self.corpus.starts
        mirrored = pieces.spread(starts[pieces.sentence] + starts[pieces.sentence + 1], n_rows)
        mirrored -= here
        # Padding alone may be outside of the corpus.
        forward, backward = (self.corpus.ids.take(places, mode="clip") for places in (here, mirrored))
        padded = bool(plan.ended.any())
        kept = ~pieces.spread(plan.ended.ravel()[pieces.planned], n_rows) if padded else np.ones(here.shape, bool)
        if padded:
            forward *= kept
            backward *= kept
        reset = forward[:, :-1] == 0
        if self._reset < 1:
            reset &= pieces.spread(self._drawn(plan, pieces), n_rows)[:, :-1]
        reset[:, 0] |= ~position.any(axis=1)
        keep = kept[:, :-1]
        inputs = np.stack([forward[:, :-1], _as_end(backward[:, :-1])], axis=1)
        targets = np.stack([_as_end(forward[:, 1:]), backward[:, 1:]], axis=1)
        if padded:
            inputs *= keep[:, None]
            targets *= keep[:, None]
            reset &= keep
        return Window(inputs, targets, reset, keep)

    def _drawn(self, plan: _Plan, pieces: _Pieces) -> npt.NDArray[np.bool_]:
        """Whether the LSTM state starts at zero at the sentence of each piece."""
        key = epoch_key(RESETS + (self._seed or 0), plan.epoch.ravel()[pieces.planned])
        return chance(pieces.sentence, key) < self._reset

    def _positions(self, plan: _Plan, pieces: _Pieces, here: I64, length: int) -> Position:
        """Int32 ``[number, b, 3]``, the positions after each ``length`` predictions: those of the next ones."""
        n_read = here.shape[1]
        following = np.arange(length, n_read, length)
        number = np.arange(len(here))[:, None] * n_read + following
        planned = pieces.planned[np.searchsorted(np.cumsum(pieces.size), number, side="right")]
        offset = here[:, following] - self._bounds[plan.unit.ravel()[planned]]
        positions = np.stack([plan.epoch.ravel()[planned], plan.index.ravel()[planned], offset], axis=-1)
        if self._epochs is not None:
            positions[plan.ended.ravel()[planned]] = self._epochs, 0, 0
        return np.ascontiguousarray(positions.swapaxes(0, 1), np.int32)


def _as_end(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Type ids at places where a boundary, which the corpus stores as ``<S>`` (0), is read or predicted as ``</S>``."""
    return np.maximum(ids, np.int32(1))
