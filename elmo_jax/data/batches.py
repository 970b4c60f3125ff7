"""The arrays of a training step: windows of rows, and the characters or words of their distinct types."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import PAD, character_rows
from elmo_jax.data.corpus import Corpus
from elmo_jax.data.prefetch import prefetch
from elmo_jax.data.streams import Position, Rows, Window
from elmo_jax.errors import UserError

__all__ = ["Batch", "Batches", "make_batch", "prefetch"]

# Predictions read at once by `Batches.stream`, and windows at most.
BLOCK_PREDICTIONS = 1 << 17
BLOCK_WINDOWS = 32


class Batch(NamedTuple):
    """What one step reads (docs/design.md). B rows in ``parts`` parts, each with room for U = D B / parts T types."""

    # The distinct types of a part: uint16 [parts * U, C] character ids, short to long, or int32 [parts * U] word ids.
    types: npt.NDArray[np.uint16] | npt.NDArray[np.int32]
    n_types: npt.NDArray[np.int32]  # [parts] how many of a part's U rows are in use; the rest is padding (260, or 0)
    # Hides tuple.index, which a batch has no use for.
    index: npt.NDArray[np.int32]  # type: ignore[assignment]  # [B, D, T] the row of types, within the part, that is read
    targets: npt.NDArray[np.int32]  # [B, D, T] vocabulary id to predict
    reset: npt.NDArray[np.bool_]  # [B, T] start here from the zero state
    keep: npt.NDArray[np.bool_]  # [B, T] a real position
    row: npt.NDArray[np.int32]  # [B] global number of the row


def make_batch(
    window: Window,
    corpus: Corpus,
    word_ids: npt.NDArray[np.int32],
    rows: range,
    parts: int,
    width: int | None,
    n_directions: int = 2,
) -> Batch:
    """The batch of a window.

    At padding ``targets`` is 0 and ``index`` the row of ``<S>``, which is one of the part's types.

    Args:
        window: of b rows and T predictions.
        corpus: what the window's type ids belong to.
        word_ids: int32 ``[n_types]`` the vocabulary id of each type (``Corpus.word_ids``).
        rows: the b global row numbers.
        parts: devices times gradient-accumulation slices of this process; divides b.
        width: character ids of a token, C; None for word ids, where the types out of the vocabulary are all ``<UNK>``.
        n_directions: D; 1 leaves the backward direction out, and the types that only it would read.
    """
    inputs, targets = window.inputs[:, :n_directions], window.targets[:, :n_directions]
    if width is None:
        inputs = word_ids[inputs]
    shape = inputs.shape
    inputs = inputs.reshape(parts, -1)
    room = inputs.shape[1]
    types: npt.NDArray[Any]
    types = np.zeros((parts, room), np.int32) if width is None else np.full((parts, room, width), PAD, np.uint16)
    n_types = np.empty(parts, np.int32)
    index = np.empty((parts, room), np.int32)
    place = np.empty(inputs.max() + 1, np.int32)  # of each id; only those of the window are ever touched
    for part in range(parts):
        # Ascending ids of a corpus are short to long.
        ids = _distinct(inputs[part])
        n_types[part] = len(ids)
        place[ids] = np.arange(len(ids), dtype=np.int32)
        index[part] = place[inputs[part]]
        spelt = ids if width is None else character_rows(corpus.type_bytes, corpus.type_offsets, ids, width)
        types[part, : len(ids)] = spelt
    return Batch(
        types=types.reshape(parts * room, *types.shape[2:]),
        n_types=n_types,
        index=index.reshape(shape),
        targets=np.where(window.keep[:, None], word_ids[targets], np.int32(0)),
        reset=np.ascontiguousarray(window.reset),
        keep=np.ascontiguousarray(window.keep),
        row=np.fromiter(rows, np.int32, len(rows)),
    )


def _distinct(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The distinct ids, ascending."""
    ordered = np.sort(ids)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])]


class Batches:
    """The batches of some rows, from any position.

    Args:
        rows: the rows of this process.
        corpus: what they read.
        word_ids: int32 ``[n_types]`` the vocabulary id of each type.
        parts: see ``make_batch``.
        width: character ids of a token, or None for word ids.
        length: predictions of a window, T.
        n_directions: 2, or 1 for forward only.

    Raises:
        UserError: when the rows cannot be cut in equal parts.
    """

    def __init__(
        self,
        rows: Rows,
        corpus: Corpus,
        word_ids: npt.NDArray[np.int32],
        parts: int,
        width: int | None,
        length: int,
        n_directions: int = 2,
    ) -> None:
        if len(rows.rows) % parts:
            raise UserError(
                f"{len(rows.rows)} rows cannot be cut in {parts} equal parts (devices x gradient accumulation): "
                f"use {max(len(rows.rows) // parts, 1) * parts} or another multiple of {parts}"
            )
        self.rows, self._corpus, self._word_ids = rows, corpus, word_ids
        self._parts, self._width, self._length, self._n_directions = parts, width, length, n_directions

    def start(self) -> Position:
        """The position before anything is read."""
        return self.rows.start()

    def at(self, position: Position) -> tuple[Batch, Position]:
        """The batch that starts at a position, and the position after it."""
        window, after = self.rows.read(position, self._length)
        return self._batch(window), after

    def stream(self, position: Position, steps: int | None = None) -> Iterator[tuple[Batch, Position]]:
        """Batches one after the other, each with the position after it.

        Args:
            position: where to start.
            steps: how many, padding included. None: until every row has ended, without a batch of padding only
                (processes with different rows may then differ in number: use ``Rows.n_windows`` for all of them).
        """
        length, number = self._length, 0
        at_once = max(1, min(BLOCK_WINDOWS, BLOCK_PREDICTIONS // (len(self.rows.rows) * length)))
        while steps is None or number < steps:
            n_windows = at_once if steps is None else min(at_once, steps - number)
            block, positions = self.rows.read_windows(position, length, n_windows)
            for i in range(n_windows):
                window = block.cut(i * length, (i + 1) * length)
                if steps is None and not window.keep.any():
                    return
                yield self._batch(window), positions[i]
            position, number = positions[-1], number + n_windows

    def _batch(self, window: Window) -> Batch:
        shape = self._parts, self._width, self._n_directions
        return make_batch(window, self._corpus, self._word_ids, self.rows.rows, *shape)
