"""The vectors of a text in one array, which loads many times faster than a dataset for every sentence.

::

    vectors   [tokens, n_layers + 1, D P] or, of one layer or a mix, [tokens, D P]; pooled, [sentences, ...]
    offsets   int64 [sentences + 1]: sentence i has the rows offsets[i] to offsets[i + 1]; not when pooled
    lines     int64 [sentences]: the line of every sentence from 0, where sentences were found within lines
"""

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
import numpy.typing as npt

from elmo_jax.embed.sentences import Sentence
from elmo_jax.errors import UserError

Array = npt.NDArray[Any]

# Of a chunk, and of what waits to be written: a filter works on a whole chunk, and large ones load faster.
CHUNK_BYTES, FILTERED_CHUNK_BYTES = 1 << 22, 1 << 20
# Rows of a chunk of whole numbers.
CHUNK_NUMBERS = 8192


class ArrayLayout:
    """Writes what ``Embedder`` gives for sentences into one array.

    Args:
        file: to write, or to go on with.
        dtype: of the array.
        compression: a filter of HDF5, or none.
        empty: what ``Embedder`` gives for a sentence without words.
        pooled: a sentence is one row.
        within_lines: sentences are found within lines.
    """

    def __init__(
        self,
        file: h5py.File,
        dtype: str,
        compression: str | None,
        *,
        empty: Array,
        pooled: bool,
        within_lines: bool,
    ) -> None:
        self._file, self._pooled = file, pooled
        self._rows: list[Array] = []
        self._lengths: list[int] = []
        self._lines: list[int] = []
        self._n_waiting = 0
        if "vectors" not in file:
            row = empty.shape if pooled else _rows(empty).shape[1:]
            row_bytes = max(1, int(np.prod(row)) * np.dtype(dtype).itemsize)
            chunk = max(1, (FILTERED_CHUNK_BYTES if compression else CHUNK_BYTES) // row_bytes)
            file.create_dataset(
                "vectors", (0, *row), dtype, maxshape=(None, *row), chunks=(chunk, *row), compression=compression
            )
            if not pooled:
                file.create_dataset("offsets", data=np.zeros(1, np.int64), maxshape=(None,), chunks=(CHUNK_NUMBERS,))
            if within_lines:
                file.create_dataset("lines", (0,), np.int64, maxshape=(None,), chunks=(CHUNK_NUMBERS,))
        vectors = file["vectors"]
        self._batch_rows = max(1, CHUNK_BYTES // max(1, vectors.dtype.itemsize * int(np.prod(vectors.shape[1:]))))

    def note(self, sentence: Sentence) -> None:
        """Nothing to take note of."""

    def write(self, sentence: Sentence, vectors: Array) -> None:
        """Append the vectors of a sentence."""
        rows = vectors[None] if self._pooled else _rows(vectors)
        self._rows.append(rows)
        self._lengths.append(len(rows))
        self._lines.append(sentence.line)
        self._n_waiting += len(rows)
        if self._n_waiting >= self._batch_rows:
            self.flush()

    def write_empty(self, line: int) -> None:
        """A line without a sentence has no row."""

    def flush(self) -> None:
        """Write the rows that wait."""
        if not self._lengths:
            return
        _append(self._file["vectors"], np.concatenate(self._rows))
        if not self._pooled:
            offsets = self._file["offsets"]
            _append(offsets, offsets[-1] + np.cumsum(self._lengths))
        if "lines" in self._file:
            _append(self._file["lines"], np.array(self._lines, np.int64))
        self._rows, self._lengths, self._lines, self._n_waiting = [], [], [], 0

    def finish(self) -> None:
        """Write the rows that wait."""
        self.flush()


class DumpedVectors(Sequence[Array]):
    """The vectors of every sentence of a file of this layout, as ``Embedder.embed`` gave them.

    An uncompressed file is mapped into memory: opening it costs nothing, and a sentence is read when it is looked at.
    A compressed one is read as a whole.

    Args:
        path: of the file.

    Attributes:
        lines: int64 ``[sentences]``, the line of every sentence from 0.

    Raises:
        UserError: when it is no such file.

    Example:
        >>> vectors = DumpedVectors("out.hdf5")
        >>> len(vectors), vectors[0].shape          # sentences; layers, words, width
        (240, (3, 11, 128))
    """

    def __init__(self, path: str | Path) -> None:
        try:
            with h5py.File(path, "r") as file:
                if "vectors" not in file:
                    raise UserError(f"{path} has no array of all vectors: write it with elmo embed --layout array")
                vectors = file["vectors"]
                self._vectors = vectors[...] if vectors.compression else _MappedRows(Path(path), vectors)
                self._offsets = file["offsets"][...] if "offsets" in file else None
                n = len(vectors) if self._offsets is None else len(self._offsets) - 1
                self.lines = file["lines"][...] if "lines" in file else np.arange(n)
        except OSError as error:
            raise UserError(f"cannot read {path} as HDF5: {error}") from error

    def __len__(self) -> int:
        """Sentences."""
        return len(self.lines)

    @overload
    def __getitem__(self, number: int) -> Array: ...

    @overload
    def __getitem__(self, number: slice) -> list[Array]: ...

    def __getitem__(self, number: int | slice) -> Array | list[Array]:
        """The vectors of a sentence, or of several; not to be written to."""
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"sentence {number} of {len(self)}")
        number %= len(self)
        if self._offsets is None:
            return self._vectors[number]
        rows = self._vectors[self._offsets[number] : self._offsets[number + 1]]
        return rows.swapaxes(0, 1) if rows.ndim == 3 else rows

    def __iter__(self) -> Iterator[Array]:
        """The vectors of every sentence in turn."""
        return (self[i] for i in range(len(self)))


class _MappedRows:
    """The rows of an uncompressed dataset, mapped from the file: slices are views of it, or copies across a seam."""

    def __init__(self, path: Path, dataset: h5py.Dataset) -> None:
        places: list[tuple[int, int]] = []
        if len(dataset):
            dataset.id.chunk_iter(lambda chunk: places.append((chunk.chunk_offset[0], chunk.byte_offset)))
        n_rows, row = dataset.chunks[0], dataset.shape[1:]
        n_bytes = n_rows * int(np.prod(row)) * dataset.dtype.itemsize
        # Chunks that follow each other in the file as in the array are one piece: most do.
        pieces: list[tuple[int, int, int]] = []
        for first, begin in sorted(places):
            if pieces and begin == pieces[-1][1] + pieces[-1][2] * n_bytes:
                pieces[-1] = (*pieces[-1][:2], pieces[-1][2] + 1)
            else:
                pieces.append((first, begin, 1))
        self._firsts = [first for first, _, _ in pieces]
        self._pieces: list[Array] = [
            np.memmap(path, dataset.dtype, "r", begin, (n_chunks * n_rows, *row)) for _, begin, n_chunks in pieces
        ]
        self._nothing = np.empty((0, *row), dataset.dtype)

    @overload
    def __getitem__(self, rows: int) -> Array: ...

    @overload
    def __getitem__(self, rows: slice) -> Array: ...

    def __getitem__(self, rows: int | slice) -> Array:
        if not isinstance(rows, slice):
            return self[rows : rows + 1][0]
        begin, end = int(rows.start), int(rows.stop)
        if begin == end:
            return self._nothing
        found = []
        number = bisect.bisect_right(self._firsts, begin) - 1
        while begin < end:
            first, piece = self._firsts[number], self._pieces[number]
            found.append(piece[begin - first : end - first])
            begin, number = begin + len(found[-1]), number + 1
        return np.asarray(found[0] if len(found) == 1 else np.concatenate(found))


def _rows(vectors: Array) -> Array:
    """A row for every word: ``[layers, words, width]`` has the words first then."""
    return vectors.swapaxes(0, 1) if vectors.ndim == 3 else vectors


def _append(dataset: h5py.Dataset, rows: Array) -> None:
    begin = len(dataset)
    dataset.resize(begin + len(rows), axis=0)
    if len(rows):
        dataset[begin:] = rows
