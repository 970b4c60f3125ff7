"""The arrays of a training step: windows of rows, and the characters or words of their distinct types."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import PAD, CharacterTable
from elmo_jax.data.corpus import Corpus
from elmo_jax.data.prefetch import prefetch
from elmo_jax.data.streams import Position, Rows, Window
from elmo_jax.errors import UserError

__all__ = ["Batch", "Batches", "prefetch"]

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


class Batches:
    """The batches of some rows, from any position; for one thread at a time.

    Memory beside that of the batches is a few bytes a type and the characters of the most frequent ones.

    Args:
        rows: the rows of this process.
        corpus: what they read.
        word_ids: int32 ``[n_types]`` the vocabulary id of each type (``Corpus.word_ids``).
        parts: devices times gradient-accumulation slices of this process.
        width: character ids of a token, C; None for word ids, where the types out of the vocabulary are all ``<UNK>``.
        length: predictions of a window, T.
        n_directions: D; 1 leaves the backward direction out, and the types that only it would read.

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
        self.rows, self._word_ids = rows, word_ids
        self._parts, self._length, self._n_directions = parts, length, n_directions
        self._characters = None
        if width is not None:
            self._characters = CharacterTable(corpus.type_bytes, corpus.type_offsets, corpus.type_counts, width)
        # For each id of a part, which row of its types it is; what it says of others is of earlier parts.
        self._row_of_id = np.zeros(corpus.n_types if width is not None else int(word_ids.max()) + 1, np.int32)
        self._numbers = np.fromiter(rows.rows, np.int32, len(rows.rows))

    def start(self) -> Position:
        """The position before anything is read."""
        return self.rows.start()

    def at(self, position: Position) -> tuple[Batch, Position]:
        """The batch that starts at a position, and the position after it."""
        window, after = self.rows.read(position, self._length)
        return self.of(window), after

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
                yield self.of(window), positions[i]
            position, number = positions[-1], number + n_windows

    def of(self, window: Window) -> Batch:
        """The batch of a window of these rows.

        At padding ``targets`` is 0 and ``index`` the row of ``<S>``, which is one of the part's types.
        """
        inputs, targets = (ids[:, : self._n_directions] for ids in (window.inputs, window.targets))
        shape = inputs.shape
        if self._characters is None:
            inputs = self._word_ids.take(inputs, mode="clip")
        types, n_types, index = self._tables(inputs.reshape(self._parts, -1))
        words = self._word_ids.take(targets, mode="clip")
        return Batch(
            types=types.reshape(-1, *types.shape[2:]),
            n_types=n_types,
            index=index.reshape(shape),
            targets=words if window.keep.all() else words * window.keep[:, None],
            reset=np.ascontiguousarray(window.reset),
            keep=np.ascontiguousarray(window.keep),
            row=self._numbers.copy(),
        )

    def _tables(self, inputs: npt.NDArray[np.int32]) -> tuple[npt.NDArray[Any], ...]:
        """Of the ids ``[parts, room]``: the table of each part's distinct ones, how many they are, where each id is."""
        parts, room = inputs.shape
        table = self._characters
        types: npt.NDArray[Any]
        types = np.empty((parts, room), np.int32) if table is None else np.empty((parts, room, table.width), np.uint16)
        n_types, index = np.empty(parts, np.int32), np.empty((parts, room), np.int32)
        for part in range(parts):
            # Ascending ids of a corpus are short to long.
            ids = _distinct(inputs[part])
            n = n_types[part] = len(ids)
            self._row_of_id[ids] = np.arange(n, dtype=np.int32)
            self._row_of_id.take(inputs[part], out=index[part], mode="clip")
            if table is None:
                types[part, :n], types[part, n:] = ids, 0
            else:
                table.spell(ids, types[part, :n])
                types[part, n:] = PAD
        return types, n_types, index


def _distinct(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The distinct ids, ascending."""
    ordered = np.sort(ids)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])]
