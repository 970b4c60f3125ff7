"""Log-probabilities of the words of sentences, in both directions."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from elmo_jax.data.sentence_ids import refuse_text
from elmo_jax.data.text import BOS, EOS
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.scoring.carried import carried as carried_tops
from elmo_jax.train import trained
from elmo_jax.train.evaluate import Perplexity

Array = npt.NDArray[Any]

# Predictions that the softmax makes at a time.
CHUNK = 1024


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
        total = Total()
        total.add(self)
        return total.perplexity


class Scorer:
    """Gives every word of tokenised sentences its log-probability under the full normalised distribution.

    The distribution is the exact one, whichever softmax the model was trained with, and no array has all words for many
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
        self.vocabulary = pretrained.words()
        self.model = pretrained.model.clone(dtype=jnp.float32)
        # Of the encoder the softmax needs the table of words at most.
        self.params = jax.device_put(
            {name: part for name, part in pretrained.params.items() if not name.startswith("lstm")}
        )
        self._embedder = Embedder(pretrained)
        self._log_prob = jax.jit(self._log_prob_of)

    @classmethod
    def from_pretrained(cls, path: str | Path, step: int | None = None) -> "Scorer":
        """The model at a path: the best weights of a run, or those of its checkpoint of a given step, or any other.

        Raises:
            UserError: when there is no model at the path, no such checkpoint, or it gives no probabilities.
        """
        return cls(trained.load(Path(path), step))

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that the model reads in."""
        return self.model.config.directions

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
        pairs = self.predictors(sentences, carried=carried)
        vocabulary = self.vocabulary
        while some := _some(pairs):
            targets = []
            for sentence, _ in some:
                ids = [vocabulary.bos_id, *map(vocabulary.id, sentence), vocabulary.eos_id]
                targets.append(np.array([ids[1:], ids[:-1]][: len(self.directions)], np.int32))
            tops = np.concatenate([top_DTP for _, top_DTP in some], axis=1)
            log_prob_DN = self._chunked(tops, np.concatenate(targets, axis=1))
            begin = 0
            for sentence, top_DTP in some:
                end = begin + top_DTP.shape[1]
                known = np.fromiter((token in vocabulary.ids for token in sentence), bool, len(sentence))
                rows = zip(self.directions, log_prob_DN[:, begin:end].copy(), strict=True)
                yield SentenceScore(tuple(sentence), known, dict(rows))
                begin = end

    def predictors(
        self, sentences: Iterable[Sequence[str]], *, carried: bool = False
    ) -> Iterator[tuple[Sequence[str], Array]]:
        """Each sentence, and what the softmax sees of it.

        Yields:
            The sentence and float32 ``[D, m + 1, P]`` in the order of the text: forward row t is for word t, or for
            ``</S>`` after the last; backward row t for ``<S>`` when t is 0, else for word t - 1 (ELMO_SPEC 2.13).
        """
        # The model reads ahead: each sentence waits for its layers.
        waiting: deque[Sequence[str]] = deque()

        def checked() -> Iterator[Sequence[str]]:
            for sentence in sentences:
                waiting.append(_checked(sentence))
                yield sentence

        if carried:
            for top_DTP in carried_tops(self.pretrained, self.model, checked()):
                yield waiting.popleft(), np.stack([top_DTP[0], *(top_TP[::-1] for top_TP in top_DTP[1:])])
            return
        width = self.model.config.lstm.projection_dim
        for top in self._embedder.stream(checked(), "top", boundaries=True):
            backward = [top[1:, width:]] if len(self.directions) == 2 else []
            yield waiting.popleft(), np.stack([top[:-1, :width], *backward])

    def _chunked(self, top_DNP: Array, target_DN: Array) -> npt.NDArray[np.float32]:
        """The log-probabilities of any number of targets, ``[D, N]``, by one program."""
        d, n, p = top_DNP.shape
        found = []
        for begin in range(0, n, CHUNK):
            size = min(CHUNK, n - begin)
            top, target = np.zeros((d, CHUNK, p), np.float32), np.zeros((d, CHUNK), np.int32)
            top[:, :size], target[:, :size] = top_DNP[:, begin : begin + size], target_DN[:, begin : begin + size]
            found.append((self._log_prob(self.params, top, target), size))
        return np.concatenate([np.asarray(values)[:, :size] for values, size in found], axis=1)

    def _log_prob_of(self, params: Any, top_DNP: jax.Array, target_DN: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("highest"):
            found: Any = self.model.apply(
                {"params": params}, top_DNP[:, :, None], target_DN[:, :, None], method="log_prob"
            )
        return found[:, :, 0]


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
        """The sums so far, as ``elmo eval`` has them."""
        return Perplexity(dict(self._nll), self._count, self._oov, self._words, self._streams)


def _some(pairs: Iterator[tuple[Sequence[str], Array]]) -> list[tuple[Sequence[str], Array]]:
    """The next sentences, together at least a chunk of predictions if there are as many."""
    found: list[tuple[Sequence[str], Array]] = []
    n = 0
    for pair in pairs:
        found.append(pair)
        n += pair[1].shape[1]
        if n >= CHUNK:
            break
    return found


def _checked(sentence: Sequence[str]) -> Sequence[str]:
    refuse_text(sentence)
    for mark in {BOS, EOS}.intersection(sentence):
        raise UserError(f"the token {mark} is the mark of a sentence boundary: leave it out, it is added")
    return sentence
