"""Log-probabilities of the words of sentences, in both directions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.model.bilm import zero_carry
from elmo_jax.model.lstm import Carry
from elmo_jax.scoring.batches import blocks, bucket, buckets, make_batch
from elmo_jax.train import trained
from elmo_jax.train.evaluate import Perplexity


@dataclass(frozen=True)
class SentenceScore:
    """The log-probabilities of a sentence of m words, natural logarithms.

    Attributes:
        tokens: its words.
        known: bool ``[m]``, whether the vocabulary has them; the others are scored as ``<UNK>``.
        log_prob: for each direction float32 ``[m + 1]`` in the order of the text: ``"forward"`` of the words and then
            ``</S>``, each given what stands before it; ``"backward"``, if the model has it, of ``<S>`` and then the
            words, each given what stands behind it.
    """

    tokens: tuple[str, ...]
    known: npt.NDArray[np.bool_]
    log_prob: dict[str, npt.NDArray[np.float32]]

    @property
    def perplexity(self) -> Perplexity:
        """The sums that an evaluation has, of this sentence alone."""
        return total([self])


class Scorer:
    """Gives every word of tokenised sentences its log-probability under the full normalised distribution.

    The distribution is the exact one, whichever softmax the model was trained with, and no array has all words for all
    positions. A sentence starts from the zero state, so that its scores depend on nothing else.

    Args:
        pretrained: a model with its softmax and its vocabulary.

    Raises:
        UserError: when it has none.

    Example:
        >>> scorer = Scorer.from_pretrained("runs/quickstart")
        >>> [score] = scorer.score([["Return", "the", "name", "of", "the", "file"]])
        >>> score.log_prob["forward"].shape, score.log_prob["backward"].shape
        ((7,), (7,))
        >>> score.perplexity.average          # geometric mean of both directions
    """

    def __init__(self, pretrained: Pretrained) -> None:
        pretrained.require_softmax()
        self.pretrained, self.segmentation = pretrained, pretrained.segmentation
        self.vocabulary, self.model = pretrained.words(), pretrained.model
        self._spelling = pretrained.spelling
        self.params = jax.device_put(pretrained.params)
        self._score = jax.jit(self._log_prob)
        self._top = jax.jit(lambda params, batch, carry: self._layers(params, batch, carry)[0][-1])

    @classmethod
    def from_pretrained(cls, path: str | Path, step: int | None = None) -> "Scorer":
        """The model at a path: the best weights of a run, or those of its checkpoint of a given step, or any other.

        Raises:
            UserError: when there is no model at the path, no such checkpoint, or it gives no probabilities.
        """
        return cls(trained.load(Path(path), step))

    def score(self, sentences: Iterable[Sequence[str]], *, carried: bool = False) -> list[SentenceScore]:
        """The scores of each sentence.

        Args:
            sentences: lists of tokens; a list may be empty.
            carried: every sentence starts from the state that the one before it left, as in training, instead of zeros.

        Raises:
            UserError: for a sentence that is text instead of a list of tokens, and for a boundary among its tokens.
        """
        return list(self.stream(sentences, carried=carried))

    def stream(self, sentences: Iterable[Sequence[str]], *, carried: bool = False) -> Iterator[SentenceScore]:
        """The results of ``score`` one after the other, in memory that does not grow with their number."""
        state = zero_carry(self.model.config, 1)
        for block in blocks(sentences):
            if carried:
                for sentence in block:
                    [score], state = self._batch([sentence], 1, bucket(len(sentence) + 1), state)
                    yield score
                continue
            in_order: dict[int, SentenceScore] = {}
            for numbers, n_rows, length in buckets([len(sentence) for sentence in block]):
                carry = zero_carry(self.model.config, n_rows)
                scores, _ = self._batch([block[i] for i in numbers], n_rows, length, carry)
                in_order.update(zip(numbers, scores, strict=True))
            yield from (in_order[i] for i in range(len(block)))

    def top(self, sentences: Sequence[Sequence[str]], n_rows: int, length: int) -> jax.Array:
        """What the softmax sees of ``n_rows`` sentences at most, each of less than ``length`` words.

        Returns:
            ``[D, length, n_rows, P]``, each direction in its own reading order: at position t it has read its boundary
            and t words.
        """
        batch = make_batch(sentences, n_rows, length, self.model.config, self._spelling, self.vocabulary)
        return self._top(self.params, vars(batch), zero_carry(self.model.config, n_rows))

    def _batch(
        self, sentences: Sequence[Sequence[str]], n_rows: int, length: int, carry: Carry
    ) -> tuple[list[SentenceScore], Carry]:
        batch = make_batch(sentences, n_rows, length, self.model.config, self._spelling, self.vocabulary)
        log_prob, carry = self._score(self.params, vars(batch), carry)
        log_prob_DTB = np.asarray(log_prob, np.float32)
        return [self._of_row(sentence, log_prob_DTB[..., row]) for row, sentence in enumerate(sentences)], carry

    def _of_row(self, sentence: Sequence[str], log_prob_DT: npt.NDArray[np.float32]) -> SentenceScore:
        known = np.fromiter((token in self.vocabulary.ids for token in sentence), bool, len(sentence))
        forward, *backward = log_prob_DT[:, : len(sentence) + 1].copy()
        in_text_order = [forward, *(values[::-1] for values in backward)]
        directions = self.model.config.directions
        return SentenceScore(tuple(sentence), known, dict(zip(directions, in_text_order, strict=True)))

    def _log_prob(self, params: Any, batch: dict[str, Any], carry: Carry) -> tuple[jax.Array, Carry]:
        layers, carry = self._layers(params, batch, carry)
        found: Any = self.model.apply({"params": params}, layers[-1], batch["targets"], method="log_prob")
        return found, carry

    def _layers(self, params: Any, batch: dict[str, Any], carry: Carry) -> tuple[list[jax.Array], Carry]:
        never_TB = batch["keep"] & False
        inputs = (batch["types"], batch["n_types"], batch["index"], never_TB, batch["keep"], carry)
        outputs: Any = self.model.apply({"params": params}, *inputs)
        return outputs


def total(scores: Iterable[SentenceScore], *, carried: bool = False) -> Perplexity:
    """The sums over sentences, as ``elmo eval`` has them; of none, the perplexity is not a number."""
    sums = Total(carried=carried)
    for score in scores:
        sums.add(score)
    return sums.perplexity


class Total:
    """Sums over sentences that come one after the other.

    Args:
        carried: the state flowed through them as one stream.
    """

    def __init__(self, *, carried: bool = False) -> None:
        self._nll: dict[str, float] = {}
        self._count = self._oov = self._words = 0
        self._streams = int(carried)

    def add(self, score: SentenceScore) -> None:
        """Count one more sentence."""
        for direction, log_prob in score.log_prob.items():
            self._nll[direction] = self._nll.get(direction, 0.0) - float(log_prob.sum(dtype=np.float64))
        self._count += len(score.tokens) + 1
        self._words += len(score.tokens)
        self._oov += int((~score.known).sum())

    @property
    def perplexity(self) -> Perplexity:
        """The sums so far."""
        return Perplexity(dict(self._nll), self._count, self._oov, self._words, self._streams)
