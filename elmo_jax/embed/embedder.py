"""Vectors of the words of sentences: every layer of a trained model, each sentence by itself."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from elmo_jax.data.text import BOS, EOS
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.model.bilm import zero_carry
from elmo_jax.train import trained

Array = npt.NDArray[np.float32]

# Sentences that are sorted by length together, and positions of a batch.
BLOCK_SENTENCES = 4096
BATCH_POSITIONS = 4096
SHORTEST_BUCKET = 8


class Embedder:
    """Gives the layers of a biLM for tokenised sentences (ELMO_SPEC 2.7), without state between sentences.

    The same sentence gives the same vectors up to rounding, whatever stands beside it. Sentences of similar length
    share a batch whose shape is one of few, so that few programs are compiled, and every distinct word of a batch is
    encoded once.

    Args:
        pretrained: the model.

    Example:
        >>> embedder = Embedder.from_pretrained("runs/quickstart")
        >>> [vectors] = embedder.embed([["Every", "word", "has", "a", "vector"]])
        >>> vectors.shape                       # layers, words, both directions side by side
        (3, 5, 128)
    """

    def __init__(self, pretrained: Pretrained) -> None:
        model = pretrained.model
        self.segmentation, self._spelling = pretrained.segmentation, pretrained.spelling
        self._config, self._params = model.config, jax.device_put(pretrained.params)
        self._run = jax.jit(lambda params, *inputs: model.apply({"params": params}, *inputs)[0])

    @classmethod
    def from_pretrained(cls, path: str | Path, step: int | None = None) -> "Embedder":
        """The model at a path: the best weights of a run, or those of its checkpoint of a given step, or any other.

        Raises:
            UserError: when there is no model at the path, or no such checkpoint.
        """
        return cls(trained.load(Path(path), step))

    def embed(self, sentences: Iterable[Sequence[str]]) -> list[Array]:
        """The vectors of all words of each sentence.

        Args:
            sentences: lists of tokens; a list may be empty.

        Returns:
            For each sentence float32 ``[n_layers + 1, tokens, directions * P]``: the token encodings first (repeated
            for each direction), then the LSTM layers, forward before backward; boundaries are left out.

        Raises:
            UserError: for a sentence that is text instead of a list of tokens.
        """
        return list(self.stream(sentences))

    def stream(self, sentences: Iterable[Sequence[str]]) -> Iterator[Array]:
        """The results of ``embed`` one after the other, in memory that does not grow with their number."""
        iterator = iter(sentences)
        while block := list(islice(iterator, BLOCK_SENTENCES)):
            yield from self._block(block)

    def text(self, lines: Iterable[str]) -> Iterator[tuple[list[str], Array]]:
        """The tokens and the vectors of every sentence of raw text, cut as the training text was."""
        # Each sentence waits for its vectors in the order of the text.
        waiting: list[list[str]] = []

        def sentences() -> Iterator[list[str]]:
            for line in lines:
                for sentence in self.segmentation(line):
                    waiting.append(sentence)
                    yield sentence

        for vectors in self.stream(sentences()):
            yield waiting.pop(0), vectors

    def _block(self, sentences: list[Sequence[str]]) -> list[Array]:
        for sentence in sentences:
            if isinstance(sentence, str):
                raise UserError(f"a sentence is a list of tokens, not the text {sentence[:40]!r}: use its .split()")
        buckets: dict[int, list[int]] = {}
        for number, sentence in enumerate(sentences):
            buckets.setdefault(_bucket(len(sentence) + 1), []).append(number)
        found: dict[int, Array] = {}
        for length, numbers in buckets.items():
            n_rows = max(1, BATCH_POSITIONS // length)
            for begin in range(0, len(numbers), n_rows):
                mine = numbers[begin : begin + n_rows]
                found.update(zip(mine, self._batch([sentences[i] for i in mine], n_rows, length), strict=True))
        return [found[i] for i in range(len(sentences))]

    def _batch(self, sentences: list[Sequence[str]], n_rows: int, length: int) -> Iterator[Array]:
        """At most ``n_rows`` sentences of less than ``length`` words."""
        number = {BOS: 0, EOS: 1}
        n_directions = len(self._config.directions)
        index = np.zeros((n_directions, length, n_rows), np.int32)
        keep = np.zeros((length, n_rows), bool)
        for row, sentence in enumerate(sentences):
            ids = [number.setdefault(token, len(number)) for token in sentence]
            n = len(ids) + 1
            # Each direction starts at its own boundary; what it reads after the last word is of no use.
            index[:, :n, row] = [[0, *ids], [1, *reversed(ids)]][:n_directions]
            keep[:n, row] = True
        types = self._types(list(number), n_rows * length + 1)
        inputs = (types, np.int32(len(number)), index, np.zeros_like(keep), keep, zero_carry(self._config, n_rows))
        layers_LDTBP = np.stack([np.asarray(layer, np.float32) for layer in self._run(self._params, *inputs)])
        for row, sentence in enumerate(sentences):
            forward, *backward = layers_LDTBP[:, :, 1 : len(sentence) + 1, row].swapaxes(0, 1)
            yield np.concatenate([forward, *(layers[:, ::-1] for layers in backward)], axis=-1)

    def _types(self, tokens: list[str], room: int) -> npt.NDArray[Any]:
        """What the encoder reads of distinct tokens, with room for more."""
        spelt = self._spelling(tokens)
        types = np.full((room, *spelt.shape[1:]), self._spelling.pad, spelt.dtype)
        types[: len(tokens)] = spelt
        return types


def _bucket(length: int) -> int:
    """The smallest power of two that holds ``length``, at least ``SHORTEST_BUCKET``."""
    return max(SHORTEST_BUCKET, 1 << (length - 1).bit_length())
