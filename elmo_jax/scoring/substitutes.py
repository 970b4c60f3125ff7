"""The words most likely in a slot of a sentence, from what stands on both sides of it."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from elmo_jax.errors import UserError
from elmo_jax.model.bilm import BiLM
from elmo_jax.scoring.batches import blocks, buckets
from elmo_jax.scoring.scorer import Scorer

# Log-probabilities of one direction alive at once: 2^22 float32 values are 16 MiB.
MAX_LOG_PROBS = 2**22
# Sentences that are sorted by length together: every word of them may be a slot with its words.
BLOCK_SENTENCES = 256
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

        before = 0
        for block in blocks(tokens(), BLOCK_SENTENCES):
            slots = [tuple(range(len(s)) if (places := given.popleft()) is None else places) for s in block]
            found: dict[int, list[Slot]] = {}
            for number, (sentence, places) in enumerate(zip(block, slots, strict=True)):
                for place in places:
                    if not 0 <= place < len(sentence):
                        raise UserError(
                            f"slot {place} of sentence {before + number}: it has {len(sentence)} words, the first is 0"
                        )
            for numbers, n_rows, length in buckets([len(sentence) for sentence in block]):
                wanted = [(row, place) for row, number in enumerate(numbers) for place in slots[number]]
                if wanted:
                    top_DTBP = self.scorer.top([block[i] for i in numbers], n_rows, length)
                    rows = [block[i] for i in numbers]
                    for (row, _), slot in zip(wanted, self._slots(top_DTBP, rows, wanted, k), strict=True):
                        found.setdefault(numbers[row], []).append(slot)
            for number in sorted(found):
                yield from (replace(slot, sentence=before + number) for slot in found[number])
            before += len(block)

    def _slots(
        self, top_DTBP: jax.Array, rows: Sequence[Sequence[str]], wanted: Sequence[tuple[int, int]], k: int
    ) -> Iterator[Slot]:
        """What is found for slots (row, position) of a batch, some at a time."""
        vocabulary, directions = self.scorer.vocabulary, self.scorer.model.config.directions
        chunk = max(1, MAX_LOG_PROBS // len(vocabulary))
        # One shape for all chunks of a batch shape: few programs.
        room = min(chunk, top_DTBP.shape[1] * top_DTBP.shape[2])
        for begin in range(0, len(wanted), room):
            mine = wanted[begin : begin + room]
            tokens = [rows[row][place] for row, place in mine]
            row_N, target_N = np.zeros((2, room), np.int32)
            time_DN = np.zeros((len(directions), room), np.int32)
            row_N[: len(mine)] = [row for row, _ in mine]
            target_N[: len(mine)] = [vocabulary.id(token) for token in tokens]
            # Forward has read as many words as stand before the slot, backward as stand behind it.
            read = [[place for _, place in mine], [len(rows[row]) - 1 - place for row, place in mine]]
            time_DN[:, : len(mine)] = read[: len(directions)]
            arrays = self._choose(
                self.scorer.params, top_DTBP, time_DN, row_N, target_N, self._log_weight_V, k=min(k, self.n_words)
            )
            word_NK, log_prob_NK, each_DNK, rank_N, own_N = map(np.asarray, arrays)
            for i, token in enumerate(tokens):
                known = token in vocabulary.ids and target_N[i] != vocabulary.unk_id
                yield Slot(
                    mine[i][0],
                    mine[i][1],
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
    top_DTBP: jax.Array,
    time_DN: jax.Array,
    row_N: jax.Array,
    target_N: jax.Array,
    log_weight_V: jax.Array,
    *,
    k: int,
) -> tuple[jax.Array, ...]:
    """The K best words, their log-probabilities together and of each direction; rank and log-probability of targets."""
    top_DNP = top_DTBP[jnp.arange(len(top_DTBP))[:, None], time_DN, row_N]
    each: list[Any] = [model.apply({"params": params}, top_NP, method="log_probs") for top_NP in top_DNP]
    both_NV = jax.nn.log_softmax(sum(each) + log_weight_V)
    log_prob_NK, word_NK = jax.lax.top_k(both_NV, k)
    each_DNK = jnp.stack([jnp.take_along_axis(log_prob_NV, word_NK, axis=1) for log_prob_NV in each])
    own_N1 = jnp.take_along_axis(both_NV, target_N[:, None], axis=1)
    return word_NK, log_prob_NK, each_DNK, (both_NV >= own_N1).sum(axis=1), own_N1[:, 0]
