"""Sentences laid into rows one behind the other, so that windows over the rows hold hardly any padding."""

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from elmo_jax.embed.blocks import Block

Array = npt.NDArray[Any]

# Rows whose work takes a step as long as it takes to read the weights.
FREE_ROWS = 8


@dataclass(frozen=True)
class Packing:
    """Where each of N sentences lies.

    Attributes:
        row_N: the row of each sentence.
        start_N: its first step.
        length_N: its steps.
        n_rows: rows.
        n_steps: steps of every row, a multiple of a window.
    """

    row_N: Array
    start_N: Array
    length_N: Array
    n_rows: int
    n_steps: int

    def arrays(self, block: Block, n_directions: int) -> tuple[Array, Array, Array]:
        """What a model reads at each step of each row.

        Args:
            block: the sentences. A row reads as many of the words of each as ``length_N`` says.
            n_directions: 2 with the backward direction, which reads every sentence from its end.

        Returns:
            The ids ``[D, S, B]``, each direction in its own reading order; where a sentence begins and which steps
            hold one, both bool ``[S, B]``.
        """

        def at_each_step(values_N: Array) -> Array:
            return np.repeat(values_N, self.length_N)

        number = np.arange(self.length_N.sum()) - at_each_step(np.cumsum(self.length_N) - self.length_N)
        step, row = at_each_step(self.start_N) + number, at_each_step(self.row_N)
        index_DSB = np.zeros((n_directions, self.n_steps, self.n_rows), np.int32)
        index_DSB[0, step, row] = block.ids[at_each_step(block.end_N - block.length_N) + number]
        if n_directions == 2:
            index_DSB[1, step, row] = block.ids[at_each_step(block.end_N) - 1 - number]
        reset_SB, keep_SB = np.zeros((2, self.n_steps, self.n_rows), bool)
        reset_SB[self.start_N, self.row_N] = True
        keep_SB[step, row] = True
        return index_DSB, reset_SB, keep_SB

    def pieces(self, sentence: int, window: int) -> Iterator[tuple[int, slice, slice]]:
        """The parts of a sentence: the number of a window, the steps in it, and which of the sentence's they are."""
        start, length = int(self.start_N[sentence]), int(self.length_N[sentence])
        done = 0
        while done < length:
            number, first = divmod(start + done, window)
            n = min(length - done, window - first)
            yield number, slice(first, first + n), slice(done, done + n)
            done += n


def pack(length_N: Array, row_counts: Sequence[int], window: int) -> Packing:
    """Lay sentences into rows: the longest first, each into the row that is shortest by then.

    Args:
        length_N: steps of each sentence, at least one.
        row_counts: numbers of rows to choose from, ascending; the cheapest is taken.
        window: steps are rounded up to a multiple of it.
    """
    longest, total = int(length_N.max()), int(length_N.sum())
    n_rows = min(row_counts, key=lambda n: max(longest, -(-total // n)) * (n + FREE_ROWS))
    row_N, start_N = np.empty((2, len(length_N)), np.int64)
    ends = [(0, row) for row in range(n_rows)]
    for number in np.argsort(-length_N, kind="stable"):
        end, row = ends[0]
        row_N[number], start_N[number] = row, end
        heapq.heapreplace(ends, (end + int(length_N[number]), row))
    n_steps = -(-max(end for end, _ in ends) // window) * window
    return Packing(row_N, start_N, length_N, n_rows, n_steps)


def side_by_side(length_N: Array, n_rows: int, window: int) -> Packing:
    """Each sentence in a row of its own, in order; further rows are empty."""
    n_steps = -(-int(length_N.max()) // window) * window
    return Packing(np.arange(len(length_N)), np.zeros(len(length_N), np.int64), length_N, n_rows, n_steps)
