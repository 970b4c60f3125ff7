"""The words most likely in a slot of a sentence, from what stands on both sides of it."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from elmo_jax.errors import UserError
from elmo_jax.model.bilm import BiLM
from elmo_jax.scoring.scorer import Scorer

Array = npt.NDArray[Any]

# Log-probabilities of one direction alive at once: 2^22 float32 values are 16 MiB.
MAX_LOG_PROBS = 2**22
# Slots that are worked off at a time, but for large vocabularies.
MAX_CHUNK = 256
# What found true words best; docs/scores.md.
DEFAULT_PRIOR = 0.75


@dataclass(frozen=True)
class Slot:
    """A place in a sentence, and the words that fit it best, the best first.

    All logarithms are natural ones.

    Attributes:
        sentence: number of the sentence, from 0.
        position: of the slot in it, from 0.
        words: K words.
        log_prob: float32 ``[K]``, of both directions together, normalised over all words that may stand in a slot.
        by_direction: for each direction float32 ``[K]``, its log-probability of the word in the slot: what ``Scorer``
            gives for the sentence with that word.
        token: the word that stands there.
        rank: how many words fit as well or better than ``token``, itself included; None when the vocabulary lacks it.
        token_log_prob: of ``token``, as ``log_prob``; None when the vocabulary lacks it.
    """

    sentence: int
    position: int
    words: tuple[str, ...]
    log_prob: npt.NDArray[np.float32]
    by_direction: dict[str, npt.NDArray[np.float32]]
    token: str
    rank: int | None
    token_log_prob: float | None


class Substitutes:
    """Finds the words most likely in a slot.

    The forward direction gives ``p(w | left)`` and the backward one ``p(w | right)``, each from the boundary of the
    sentence up to the slot. Were both contexts independent given the word, Bayes' rule would make of them::

        p(w | left, right)  ~  p(w | left) p(w | right) / p(w)^prior        with prior = 1

    normalised over all words but ``<S>``, ``</S>`` and ``<UNK>``, where p(w) is how often a word occurs. They are not
    quite, and docs/scores.md measures which ``prior`` finds the true word best; 0 is the plain product.

    Args:
        scorer: of the model.
        prior: exponent of p(w); None is 0.75 where the vocabulary has its counts and 0 elsewhere.

    Raises:
        UserError: for a prior without counts, or one that is no finite number.

    Example:
        >>> substitutes = Substitutes(Scorer.from_pretrained("runs/quickstart"))
        >>> [slot] = substitutes.find([["Return", "the", "___", "of", "the", "file"]], [[2]], k=5)
        >>> slot.words
    """

    def __init__(self, scorer: Scorer, prior: float | None = None) -> None:
        self.scorer, vocabulary = scorer, scorer.vocabulary
        if prior is not None and not np.isfinite(prior):
            raise UserError(f"the prior is {prior}: must be a finite number, such as 0 or 1")
        if prior and vocabulary.counts is None:
            raise UserError(
                f"the prior is {prior}, and the vocabulary of {scorer.pretrained.origin} has no counts: give 0, or put "
                "its counts file beside it"
            )
        self.prior = (DEFAULT_PRIOR if vocabulary.counts is not None else 0.0) if prior is None else prior
        log_weight_V = np.zeros(len(vocabulary), np.float32)
        if self.prior and vocabulary.counts is not None:
            # A word that was never counted is as good as one counted once.
            counts = np.maximum(vocabulary.counts, 1).astype(np.float64)
            log_weight_V = (-self.prior * np.log(counts / counts.sum())).astype(np.float32)
        log_weight_V[[vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id]] = -np.inf
        self._chunk = max(1, min(MAX_CHUNK, MAX_LOG_PROBS // len(vocabulary)))
        self._log_weight_V = jax.device_put(log_weight_V)
        self._choose = jax.jit(partial(_choose, scorer.model), static_argnames="k")

    @classmethod
    def from_pretrained(cls, path: str | Path, step: int | None = None, prior: float | None = None) -> "Substitutes":
        """The model at a path, as ``Scorer.from_pretrained``."""
        return cls(Scorer.from_pretrained(path, step), prior)

    @property
    def n_words(self) -> int:
        """How many words may stand in a slot."""
        return len(self.scorer.vocabulary) - 3

    def find(
        self, sentences: Iterable[Sequence[str]], positions: Iterable[Sequence[int]] | None = None, *, k: int = 10
    ) -> list[Slot]:
        """The best words of all slots, in the order of the text.

        Args:
            sentences: lists of tokens.
            positions: the slots of each sentence, from 0; None is every word. What stands in a slot has no part in what
                is found for it, but it is read as it stands for other slots of its sentence.
            k: words of a slot, at most as many as the vocabulary has.

        Raises:
            UserError: for a position that the sentence does not have, for less than one word, and what
                ``Scorer.score`` refuses.
        """
        given = itertools.repeat(None) if positions is None else positions
        return list(self.stream(zip(sentences, given, strict=positions is not None), k=k))

    def stream(self, sentences: Iterable[tuple[Sequence[str], Sequence[int] | None]], *, k: int = 10) -> Iterator[Slot]:
        """The results of ``find`` one after the other, in memory that does not grow with their number.

        Args:
            sentences: pairs of tokens and slots; None for every word.
            k: words of a slot.
        """
        if k < 1:
            raise UserError(f"the number of substitutes is {k}: must be at least 1")
        given: deque[Sequence[int] | None] = deque()

        def tokens() -> Iterator[Sequence[str]]:
            for sentence, positions in sentences:
                given.append(positions)
                yield sentence

        places = self._places(self.scorer.predictors(tokens()), given)
        while some := list(itertools.islice(places, self._chunk)):
            yield from self._slots(some, min(k, self.n_words))

    def _places(
        self, predictors: Iterator[tuple[Sequence[str], Array]], given: deque[Sequence[int] | None]
    ) -> Iterator[tuple[int, int, str, Array]]:
        """Every slot: its sentence and position, the word that stands there, and what the softmax sees ``[D, P]``."""
        for number, (sentence, top_DTP) in enumerate(predictors):
            positions = given.popleft()
            for place in range(len(sentence)) if positions is None else positions:
                if not 0 <= place < len(sentence):
                    raise UserError(f"slot {place} of sentence {number}: it has {len(sentence)} words, the first is 0")
                # The rows of a direction begin with the word, and with the boundary before it.
                both = [top_TP[place + d] for d, top_TP in enumerate(top_DTP)]
                yield number, place, sentence[place], np.stack(both)

    def _slots(self, places: Sequence[tuple[int, int, str, Array]], k: int) -> Iterator[Slot]:
        """What is found for at most a chunk of slots, by one program."""
        vocabulary, directions, scorer = self.scorer.vocabulary, self.scorer.directions, self.scorer
        top_DNP = np.zeros((len(directions), self._chunk, scorer.model.config.lstm.projection_dim), np.float32)
        target_N = np.zeros(self._chunk, np.int32)
        for i, (_, _, token, top_DP) in enumerate(places):
            top_DNP[:, i], target_N[i] = top_DP, vocabulary.id(token)
        arrays = self._choose(scorer.params, top_DNP, target_N, self._log_weight_V, k=k)
        word_NK, log_prob_NK, each_DNK, rank_N, own_N = map(np.asarray, arrays)
        for i, (number, place, token, _) in enumerate(places):
            known = token in vocabulary.ids and target_N[i] != vocabulary.unk_id
            yield Slot(
                number,
                place,
                tuple(vocabulary.words[word] for word in word_NK[i]),
                log_prob_NK[i].copy(),
                {direction: each_DNK[d, i].copy() for d, direction in enumerate(directions)},
                token,
                int(rank_N[i]) if known else None,
                float(own_N[i]) if known else None,
            )


def _choose(
    model: BiLM,
    params: Any,
    top_DNP: jax.Array,
    target_N: jax.Array,
    log_weight_V: jax.Array,
    *,
    k: int,
) -> tuple[jax.Array, ...]:
    """The K best words, their log-probabilities together and of each direction; rank and log-probability of targets."""
    with jax.default_matmul_precision("highest"):
        each: list[Any] = [model.apply({"params": params}, top_NP, method="log_probs") for top_NP in top_DNP]
    both_NV = jax.nn.log_softmax(sum(each) + log_weight_V)
    log_prob_NK, word_NK = jax.lax.top_k(both_NV, k)
    each_DNK = jnp.stack([jnp.take_along_axis(log_prob_NV, word_NK, axis=1) for log_prob_NV in each])
    own_N1 = jnp.take_along_axis(both_NV, target_N[:, None], axis=1)
    return word_NK, log_prob_NK, each_DNK, (both_NV >= own_N1).sum(axis=1), own_N1[:, 0]
