"""From sentences to layers: blocks of them through encoder and LSTM layers, while others are prepared and fetched."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from elmo_jax.embed.blocks import Block, ahead, block_of, blocks, checked
from elmo_jax.embed.encodings import Encodings
from elmo_jax.embed.packing import Packing, pack, side_by_side
from elmo_jax.embed.results import Wanted
from elmo_jax.embed.stack import WINDOW, Stack
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.model.bilm import BiLM
from elmo_jax.model.clusters import Clusters
from elmo_jax.parallel import BY_ROWS, REPLICATED, DataParallel

Array = npt.NDArray[Any]
# Of numbered rows: {"cell": [rows, n_layers, D, C], "hidden": [rows, n_layers, D, P]}.
State = dict[str, Array]

# Numbers of rows of a device that there are programs for, as far as the budget allows.
ROW_COUNTS = (1, 4, 16, 64, 256, 1024, 4096)
# Windows of a block of sentences.
BLOCK_WINDOWS = 16


@dataclass(frozen=True)
class _Running:
    """A block that the devices work on."""

    block: Block
    packing: Packing
    encodings_UP: Array
    windows: list[jax.Array]


class Engine:
    """A model on its devices.

    Args:
        pretrained: the model.
        token_budget: positions that a device works on at a time.
        cache_words: words whose encodings are remembered.
        devices: to use.
        dtype: of products, "float32", "bfloat16" or "float64".
    """

    def __init__(
        self, pretrained: Pretrained, token_budget: int, cache_words: int, devices: Sequence[jax.Device], dtype: str
    ) -> None:
        config = pretrained.config.model
        stepwise = devices[0].platform == "cpu"
        model = BiLM(config, Clusters(pretrained.n_words), jax.numpy.dtype(dtype), stepwise)
        self._dtype = np.dtype(np.float64 if dtype == "float64" else np.float32)
        self._n_directions = len(config.directions)
        parallel = DataParallel(devices=devices)
        # The softmax may be the largest part by far, and no vector needs it.
        needed = {name: part for name, part in pretrained.params.items() if name != "softmax"}
        params = jax.device_put(_cast(needed, self._dtype), parallel.sharding(REPLICATED))
        by_rows = parallel.sharding(BY_ROWS)
        self.encodings = Encodings(model, params, pretrained.spelling, by_rows, self._dtype, cache_words)
        self._stack = Stack(model, params, parallel.mesh, self._dtype)
        self._model, self._params, self._mesh = model, params, parallel.mesh
        most = max(1, token_budget // WINDOW)
        self._row_counts = [n * len(devices) for n in (*(n for n in ROW_COUNTS if n < most), most)]

    def stream(self, sentences: Iterable[Sequence[str]], wishes: Wanted) -> Iterator[Array]:
        """What is wished of each sentence, in order."""
        # What the last window of a block holds besides is padding: leave a little room for rows of unequal length.
        capacity = BLOCK_WINDOWS * WINDOW * self._row_counts[-1] * 63 // 64
        # While the devices work on a block, the words of the next are encoded and the results of the last fetched.
        encoded = ahead((block, self.encodings(block.words)) for block in blocks(sentences, capacity))
        for running in ahead(self._start(*block, wishes) for block in encoded):
            for number in range(len(running.block.length_N)):
                yield wishes.finish(self._layers(running, number, wishes))

    def stateful(
        self, sentences: Iterable[Sequence[str]], wishes: Wanted, state: State | None
    ) -> tuple[list[Array], State]:
        """What is wished of each sentence, and the state after all; sentence r starts from row r of ``state``."""
        batch = list(checked(sentences))
        new_state = self._grown(state, len(batch))
        results = []
        most = self._row_counts[-1]
        for begin in range(0, len(batch), most):
            block = block_of(batch[begin : begin + most])
            n = len(block.length_N)
            n_rows = next(count for count in self._row_counts if count >= n)
            carry = self._stack.zero_carry(n_rows)
            for name, rows in carry.items():
                rows[:n] = new_state[name][begin : begin + n]
            packing = side_by_side(block.length_N, n_rows, WINDOW)
            running, carry = self._run(block, self.encodings(block.words), packing, carry, wishes, joined=True)
            results += [wishes.finish(self._layers(running, number, wishes)) for number in range(n)]
            for name, rows in carry.items():
                new_state[name][begin : begin + n] = np.asarray(rows)[:n]
        return results, new_state

    def document(self, tokens: Sequence[str], wishes: Wanted, chunk: int) -> Iterator[Array]:
        """What is wished of consecutive chunks of one sequence."""
        begins = range(0, len(tokens), chunk)
        # Each direction reads its boundary first, before any word.
        boundaries = block_of([[]])
        packing = side_by_side(np.array([1]), self._row_counts[0], WINDOW)
        zero = self._stack.zero_carry(packing.n_rows)
        _, carry = self._run(boundaries, self.encodings(boundaries.words), packing, zero, wishes, joined=True)
        forward, backward = (
            {name: np.asarray(rows)[:, :, d] for name, rows in carry.items()} for d in (slice(0, 1), slice(1, 2))
        )
        # What the backward direction knows where each chunk ends, the last chunk first.
        known = [backward]
        for begin in reversed(begins[1:] if self._n_directions == 2 else ()):
            known.append(self._skip(tokens[begin : begin + chunk], known[-1]))
        for begin in begins:
            block, packing = self._chunk(tokens[begin : begin + chunk])
            backward = known.pop() if self._n_directions == 2 else backward
            carry = {name: np.concatenate([forward[name], backward[name]], axis=2) for name in forward}
            running, carry = self._run(block, self.encodings(block.words), packing, carry, wishes, joined=True)
            forward = {name: np.asarray(rows)[:, :, :1] for name, rows in carry.items()}
            yield wishes.finish(self._layers(running, 0, wishes))

    @cached_property
    def _backward(self) -> Stack:
        """The backward direction alone."""
        lstm = {name: part for name, part in self._params.items() if name.startswith("lstm")}
        model = self._model.clone(config=replace(self._model.config, bidirectional=False))
        return Stack(model, jax.tree.map(lambda leaf: leaf[1:], lstm), self._mesh, self._dtype)

    def _chunk(self, tokens: Sequence[str]) -> tuple[Block, Packing]:
        """Part of a sequence in a row of its own."""
        block = block_of(list(checked([tokens])), boundaries=False)
        return block, side_by_side(block.length_N, self._row_counts[0], WINDOW)

    def _skip(self, tokens: Sequence[str], backward: State) -> State:
        """The state of the backward direction after it has read ``tokens`` from their end."""
        block, packing = self._chunk(tokens)
        index_DSB, reset_SB, keep_SB = packing.arrays(block, 2)
        nothing = np.zeros_like(reset_SB)
        _, carry = self._backward(self.encodings(block.words), index_DSB[1:], nothing, keep_SB, backward, None)
        return {name: np.asarray(rows) for name, rows in carry.items()}

    def _start(self, block: Block, encodings_UP: Array, wishes: Wanted) -> _Running:
        """Give the devices a block of sentences that know nothing of each other."""
        # What the boundary that is read last would give is seldom wanted.
        length_N = block.length_N if wishes.needs_boundaries else block.length_N - 1
        packing = pack(length_N, self._row_counts, WINDOW)
        if wishes.encodings_only:
            return _Running(block, packing, encodings_UP, [])
        carry = self._stack.zero_carry(packing.n_rows)
        return self._run(block, encodings_UP, packing, carry, wishes)[0]

    def _run(
        self, block: Block, encodings_UP: Array, packing: Packing, carry: State, wishes: Wanted, joined: bool = False
    ) -> tuple[_Running, State]:
        """Give the devices a block; with ``joined``, rows go on from ``carry`` instead of from zeros."""
        index_DSB, reset_SB, keep_SB = packing.arrays(block, self._n_directions)
        reset_SB &= not joined
        weights = None if wishes.weights is None else wishes.weights.astype(self._dtype)
        windows, carry = self._stack(encodings_UP, index_DSB, reset_SB, keep_SB, carry, weights)
        return _Running(block, packing, encodings_UP, windows), carry

    def _layers(self, running: _Running, number: int, wishes: Wanted) -> Array:
        """All layers of a sentence, or their sum ``[1, tokens, D P]``, in the order of the text."""
        block, length = running.block, int(running.block.length_N[number])
        kept = slice(1, length - 1) if block.boundaries and not wishes.needs_boundaries else slice(0, length)
        encodings_TQ = np.tile(running.encodings_UP[block.sentence(number)[kept]], self._n_directions)
        if wishes.encodings_only and wishes.weights is not None:
            return (encodings_TQ * wishes.weights[0]).astype(self._dtype)[None]
        first_lstm = 1 if wishes.weights is None else 0
        p = running.encodings_UP.shape[1]
        n_layers = len(running.windows[0])
        layers_LTQ = np.empty((n_layers + first_lstm, *encodings_TQ.shape), self._dtype)
        layers_LTQ[:first_lstm] = encodings_TQ
        row = running.packing.row_N[number]
        for window, steps, places in running.packing.pieces(number, WINDOW):
            piece_LDTP = np.asarray(running.windows[window])[:, :, steps, row]
            for d in range(self._n_directions):
                # A direction that reads from the end is at step t of the sentence at its word length - 1 - t.
                begin = places.start if d == 0 else length - places.stop
                piece_LTP = piece_LDTP[:, d] if d == 0 else piece_LDTP[:, d, ::-1]
                low, high = max(begin, kept.start), min(begin + piece_LTP.shape[1], kept.stop)
                if low < high:
                    target = layers_LTQ[first_lstm:, low - kept.start : high - kept.start, d * p : (d + 1) * p]
                    target[:] = piece_LTP[:, low - begin : high - begin]
        return layers_LTQ

    def _grown(self, state: State | None, n_rows: int) -> State:
        """A copy of ``state`` with at least so many rows, the new ones zero."""
        zero = self._stack.zero_carry(max(n_rows, 0 if state is None else len(state.get("cell", ()))))
        if state is None:
            return zero
        for name, rows in zero.items():
            given = np.asarray(state.get(name, ()))
            if given.shape[1:] != rows.shape[1:] or len(given) > len(rows):
                raise UserError(
                    f"the state's {name} has shape {given.shape}, not (rows, *{rows.shape[1:]}): give "
                    "a state that this model returned"
                )
            rows[: len(given)] = given
        return zero


def _cast(params: Any, dtype: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), params)
