"""The encodings of words, each distinct word once, and remembered from call to call."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from elmo_jax.data.spelling import Spelling
from elmo_jax.model.bilm import BiLM

Array = npt.NDArray[Any]

# Words that one device encodes at a time; a smaller program serves the few words of a short text.
BATCHES = (32, 256)
# Character ids of a token that are looked at, where its spelling allows it; otherwise all.
WIDTHS = (16, 24)


class Encodings:
    """Gives the vector of every word, from the token encoder or from memory.

    A word that is short needs few windows of the convolutions: all windows beyond its end see padding alone and are
    equal, so one of them stands for all. Words are therefore encoded in groups of similar length, exactly.

    Safe to use from several threads, one of which encodes at a time.

    Args:
        model: whose encoder it is.
        params: of the model, on the device or devices.
        spelling: what the encoder reads of a token.
        sharding: how rows are spread over devices.
        dtype: of the vectors.
        capacity: words that are remembered; the one that was not used for longest is forgotten first.
    """

    def __init__(
        self,
        model: BiLM,
        params: Any,
        spelling: Spelling,
        sharding: jax.sharding.NamedSharding,
        dtype: Any,
        capacity: int,
    ) -> None:
        self._params, self._spelling, self._capacity, self._sharding = params, spelling, capacity, sharding
        self._widest = max((width for width, _ in model.config.char_cnn.filters), default=1)
        self._n_devices = sharding.mesh.size
        self._lock = threading.Lock()
        self._rows: OrderedDict[str, int] = OrderedDict()
        self._table = np.empty((0, model.config.lstm.projection_dim), dtype)

        def encode(params: Any, types_U: jax.Array) -> jax.Array:
            with jax.default_matmul_precision("highest"):
                encodings_UP: Any = model.apply({"params": params}, types_U, len(types_U), method="encode")
            return encodings_UP.astype(dtype)

        by_rows, whole = sharding.spec, jax.sharding.PartitionSpec()
        mapped = jax.shard_map(
            encode, mesh=sharding.mesh, in_specs=(whole, by_rows), out_specs=by_rows, check_vma=False
        )
        self._encode = jax.jit(mapped)

    def __call__(self, words: Sequence[str]) -> Array:
        """The vectors of distinct words, ``[U, P]``."""
        with self._lock:
            rows_U = np.fromiter((self._rows.get(word, -1) for word in words), np.int64, len(words))
            known_U = rows_U >= 0
            vectors_UP = np.empty((len(words), self._table.shape[1]), self._table.dtype)
            vectors_UP[known_U] = self._table[rows_U[known_U]]
            for i in np.flatnonzero(known_U).tolist():
                self._rows.move_to_end(words[i])
            missing = [words[i] for i in np.flatnonzero(~known_U).tolist()]
            if missing:
                vectors_UP[~known_U] = new = self._encoded(missing)
                self._remember(missing[: self._capacity], new)
        return vectors_UP

    def clear(self) -> None:
        """Forget all words."""
        with self._lock:
            self._rows.clear()

    def _encoded(self, words: list[str]) -> Array:
        types_U = self._spelling(words)
        widths = self._widths(types_U)
        vectors_UP = np.empty((len(words), self._table.shape[1]), self._table.dtype)
        pending = []
        for width in np.unique(widths):
            mine = np.flatnonzero(widths == width)
            begin = 0
            while begin < len(mine):
                batch = _at_least(BATCHES, -(-(len(mine) - begin) // self._n_devices)) * self._n_devices
                rows = mine[begin : begin + batch]
                begin += batch
                padded = np.full((batch, *types_U.shape[1:]), self._spelling.pad, types_U.dtype)
                padded[: len(rows)] = types_U[rows]
                if padded.ndim > 1:
                    padded = np.ascontiguousarray(padded[:, :width])
                pending.append((rows, self._encode(self._params, jax.device_put(padded, self._sharding))))
        for rows, encodings in pending:
            vectors_UP[rows] = np.asarray(encodings)[: len(rows)]
        return vectors_UP

    def _widths(self, types_U: Array) -> Array:
        """For each type, how many of its character ids the encoder must see."""
        if types_U.ndim == 1:
            return np.zeros(len(types_U), np.int64)
        full = types_U.shape[1]
        # Marks and bytes, and one whole window of padding for the widest filter.
        needed = (types_U != self._spelling.pad).sum(axis=1) + self._widest
        ladder = np.array([*(width for width in WIDTHS if width < full), full])
        return ladder[np.minimum(np.searchsorted(ladder, needed), len(ladder) - 1)]

    def _remember(self, words: list[str], vectors: Array) -> None:
        excess = len(self._rows) + len(words) - self._capacity
        free = [self._rows.popitem(last=False)[1] for _ in range(max(0, excess))]
        first = len(self._rows) + len(free)
        rows = [*free, *range(first, first + len(words) - len(free))]
        if rows and max(rows) >= len(self._table):
            room = min(self._capacity, max(1024, 2 * max(rows)))
            grown = np.empty((room, self._table.shape[1]), self._table.dtype)
            grown[: len(self._table)] = self._table
            self._table = grown
        self._table[rows] = vectors[: len(words)]
        self._rows.update(zip(words, rows, strict=True))


def _at_least(ladder: Sequence[int], n: int) -> int:
    """The smallest of ``ladder`` that is not below ``n``, or the largest."""
    return next((size for size in ladder if size >= n), ladder[-1])
