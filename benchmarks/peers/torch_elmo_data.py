"""Text for the ELMo in PyTorch: sentences as ids, cut into rows that are read window by window."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import TypeVar

import numpy as np
import torch

SPECIALS = ("<S>", "</S>", "<UNK>")
# Ids of a spelling (ELMO_SPEC 2.1): bytes, then these.
BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = range(256, 261)
N_CHARACTERS, WIDTH = 261, 50

T = TypeVar("T")


class Text:
    """Sentences and their vocabulary: the words of a file, or all words of the text, the most frequent first.

    Attributes:
        sentences: int32 ``[tokens + 2]`` word ids of each, ``<S>`` and ``</S>`` around them.
        words: the vocabulary.
        lengths: int64 ``[V]`` characters of each spelling, marks included.
        spellings: int16 ``[V, 50]`` character ids.
    """

    def __init__(self, files: list[Path], vocabulary: Path | None = None) -> None:
        tokens = [line.split() for file in files for line in file.read_text(encoding="utf-8").split("\n")]
        if vocabulary is None:
            counts = Counter(itertools.chain.from_iterable(tokens))
            self.words = [*SPECIALS, *sorted(counts.keys() - set(SPECIALS), key=lambda word: (-counts[word], word))]
        else:
            self.words = vocabulary.read_text(encoding="utf-8").splitlines()
        ids = {word: number for number, word in enumerate(self.words)}
        start, end, unknown = (ids[special] for special in SPECIALS)
        self.sentences = [
            np.array([start, *(ids.get(token, unknown) for token in sentence), end], np.int32)
            for sentence in tokens
            if sentence
        ]
        spelled = [self._spell(word) for word in self.words]
        self.lengths = np.array([len(spelling) for spelling in spelled])
        self.spellings = np.full((len(self.words), WIDTH), PADDING, np.int16)
        for row, spelling in zip(self.spellings, spelled, strict=True):
            row[: len(spelling)] = spelling

    @staticmethod
    def _spell(word: str) -> list[int]:
        boundary = {"<S>": [BEGIN_SENTENCE], "</S>": [END_SENTENCE]}.get(word)
        return [BEGIN_WORD, *(boundary or word.encode()[: WIDTH - 2]), END_WORD]

    def windows(self, batch: int, unroll: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Inputs and targets int32 ``[2, unroll, batch]`` of window after window, epoch after epoch, without end.

        Sentences are shuffled and joined, and the whole is cut into rows, so that the states of a row go on from window
        to window. Axis 0 is the direction, each in its reading order.
        """
        rng = np.random.default_rng(seed)
        while True:
            shuffled = [self.sentences[number] for number in rng.permutation(len(self.sentences))]
            turned = [sentence[::-1] for sentence in shuffled]
            streams = [
                np.concatenate([sentence[part] for sentence in direction])
                for part in (np.s_[:-1], np.s_[1:])
                for direction in (shuffled, turned)
            ]
            n_windows = len(streams[0]) // (batch * unroll)
            if n_windows == 0:
                raise SystemExit(f"the text has {len(streams[0])} predictions, fewer than {batch} x {unroll}")
            # [inputs or targets, direction, row, window, position]
            rows = np.stack([stream[: n_windows * batch * unroll] for stream in streams])
            rows = rows.reshape(2, 2, batch, n_windows, unroll)
            for window in range(n_windows):
                inputs, targets = rows[:, :, :, window].transpose(0, 1, 3, 2)
                yield inputs, targets


@dataclass(frozen=True)
class Chunk:
    """Distinct words of a batch, whose spellings all end before ``width``."""

    words: torch.Tensor  # int64 [n]
    width: int


@dataclass(frozen=True)
class Batch:
    """What a step reads."""

    targets: torch.Tensor  # int64 [2, T, B]
    # The words of all positions, int64 [2, T, B]; or, where each is to be encoded once, its place among those of the
    # chunks, which are then given.
    words: torch.Tensor
    chunks: tuple[Chunk, ...] = ()

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device, copied while the host goes on."""

        def move(tensor: torch.Tensor) -> torch.Tensor:
            return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)

        chunks = tuple(Chunk(move(chunk.words), chunk.width) for chunk in self.chunks)
        return Batch(move(self.targets), move(self.words), chunks)


class Distinct:
    """Makes batches that hold each word once, sorted by length and cut into chunks no wider than their words.

    Args:
        text: with the spellings.
        chunk: words of a chunk.
        widest: of the filters. A word is followed by at least one window of padding alone, unless it has no room for
            any, so the largest response of each filter stays that over all 50 positions.
    """

    def __init__(self, text: Text, chunk: int, widest: int) -> None:
        self._chunk, self._needed = chunk, np.minimum(text.lengths + widest, WIDTH)
        self._by_length = np.argsort(text.lengths, kind="stable")
        self._rank = np.empty_like(self._by_length)
        self._rank[self._by_length] = np.arange(len(self._rank))

    def __call__(self, inputs: np.ndarray, targets: np.ndarray) -> Batch:
        """The batch of a window."""
        ranks, places = np.unique(self._rank[inputs], return_inverse=True)
        words = self._by_length[ranks]
        chunks = tuple(
            Chunk(torch.from_numpy(part), int(self._needed[part].max()))
            for part in np.split(words, range(self._chunk, len(words), self._chunk))
        )
        return Batch(torch.from_numpy(targets.astype(np.int64)), torch.from_numpy(places.reshape(inputs.shape)), chunks)


def every_position(inputs: np.ndarray, targets: np.ndarray) -> Batch:
    """The batch of a window whose every position is encoded by itself."""
    return Batch(torch.from_numpy(targets.astype(np.int64)), torch.from_numpy(inputs.astype(np.int64)))


def ahead(items: Iterator[T], depth: int = 4) -> Iterator[T]:
    """The items, made ahead in a thread that waits while ``depth`` of them are ready."""
    ready: Queue[T] = Queue(depth)

    def work() -> None:
        for item in items:
            ready.put(item)

    threading.Thread(target=work, daemon=True).start()
    while True:
        yield ready.get()
