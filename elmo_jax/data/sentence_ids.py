"""Sentences as padded arrays of ids, as a layer in someone's own model reads them (ELMO_SPEC 2.1, 2.2).

Here, as in bilm-tf and AllenNLP, every id is one higher than in training and 0 is "no token", so that zeros pad.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.lines import BOS, EOS
from elmo_jax.data.spelling import Characters, Spelling
from elmo_jax.errors import UserError

Sentences = Sequence[Sequence[str]]
# Characters of a token in all published models.
PUBLISHED_WIDTH = 50


def batch_to_ids(
    sentences: Sentences, spelling: Spelling | None = None, *, boundaries: bool = False, length: int | None = None
) -> npt.NDArray[np.int32]:
    """What AllenNLP's ``batch_to_ids`` gives and, with ``boundaries``, bilm-tf's ``Batcher`` and ``TokenBatcher``.

    Ids are those of training (0 to 260 for characters) plus one. A token that is not there is all zeros.

    Args:
        sentences: B lists of tokens; a list may be empty.
        spelling: of the model, ``Pretrained.spelling``; None is that of the published models, ``Characters(50)``.
        boundaries: put ``<S>`` and ``</S>`` around each sentence. ``Elmo`` does so itself and wants none.
        length: tokens T to pad to, boundaries included; None is the longest sentence. A compiled program is made anew
            for each T.

    Returns:
        int32 ``[B, T, C]``, or ``[B, T]`` for a model of words.

    Raises:
        UserError: for a sentence that is text instead of a list of tokens, or longer than ``length``.

    Example:
        >>> batch_to_ids([["Hi", "."], ["No"]], Characters(6))[:, :, :4]
        array([[[259,  73, 106, 260],
                [259,  47, 260, 261]],
        <BLANKLINE>
               [[259,  79, 112, 260],
                [  0,   0,   0,   0]]], dtype=int32)
    """
    spelling = spelling or Characters(PUBLISHED_WIDTH)
    rows = [[BOS, *sentence, EOS] if boundaries else sentence for sentence in _checked(sentences)]
    number: dict[str, int] = {}
    numbers = _padded(([number.setdefault(token, len(number) + 1) for token in row] for row in rows), rows, length)
    spelt = spelling(list(number)).astype(np.int32) + 1
    return np.concatenate([np.zeros_like(spelt, shape=(1, *spelt.shape[1:])), spelt])[numbers]


class DistinctBatch(NamedTuple):
    """Sentences as numbers of distinct words: the arguments of ``Elmo`` of the same names.

    Attributes:
        ids: int32 ``[B, T]``: 0 for no token, 1 to V for the words of a table, V + 1 and so on for the types below.
        types: what the encoder reads of the words that the table lacks, as ``Spelling`` spells them: ``[U, C]`` or
            ``[U]``.
        n_types: int32 scalar, how many rows of ``types`` are in use.
    """

    ids: npt.NDArray[np.int32]
    types: npt.NDArray[Any]
    n_types: np.int32


class DistinctIds:
    """Numbers the distinct words of a batch, so that each is encoded once, and words of a table not at all.

    Args:
        spelling: of the model, ``Pretrained.spelling``.
        known: the V words whose encodings are in a table, in its order.

    Example:
        >>> numbered = DistinctIds(Characters(50), known=["the", "cat"])
        >>> batch = numbered([["the", "cat", "sat"], ["the", "end"]])
        >>> batch.ids
        array([[1, 2, 3],
               [1, 4, 0]], dtype=int32)
        >>> int(batch.n_types)                  # "sat" and "end" are spelt
        2
    """

    def __init__(self, spelling: Spelling, known: Iterable[str] = ()) -> None:
        self._spelling = spelling
        words = list(known)
        self._known = {word: number for number, word in enumerate(words, 1)}
        self._n_known = len(words)

    def __call__(self, sentences: Sentences, *, length: int | None = None, room: int | None = None) -> DistinctBatch:
        """The numbers of a batch.

        Args:
            sentences: B lists of tokens, without boundaries.
            length: tokens T to pad to; None is the longest sentence.
            room: rows U of ``types``; None is the smallest power of two that is enough. Only rows in use cost time.

        Raises:
            UserError: for a sentence that is text, or for one or types that are too many for ``length`` and ``room``.
        """
        rows, fresh = _checked(sentences), dict[str, int]()
        ids = _padded(([self._number(token, fresh) for token in row] for row in rows), rows, length)
        n = len(fresh)
        room = 1 << max(n - 1, 0).bit_length() if room is None else room
        if n > room:
            raise UserError(f"{n} distinct words are to be spelt and room is {room}; raise it or take smaller batches")
        spelt = self._spelling(list(fresh))
        types = np.full((room, *spelt.shape[1:]), self._spelling.pad, spelt.dtype)
        types[:n] = spelt
        return DistinctBatch(ids, types, np.int32(n))

    def _number(self, token: str, fresh: dict[str, int]) -> int:
        return self._known.get(token) or fresh.setdefault(token, self._n_known + len(fresh) + 1)


def refuse_text(sentence: Sequence[str]) -> None:
    """Refuse text where a list of tokens should be: it would pass for a list of its characters.

    Raises:
        UserError: naming it.
    """
    if isinstance(sentence, str):
        raise UserError(f"a sentence is a list of tokens, not the text {sentence[:40]!r}: use its .split()")


def _checked(sentences: Sentences) -> Sentences:
    for sentence in sentences:
        refuse_text(sentence)
    return sentences


def _padded(numbers: Iterable[list[int]], rows: Sentences, length: int | None) -> npt.NDArray[np.int32]:
    """int32 ``[B, T]`` of the numbers of each row, zeros behind them."""
    longest = max(map(len, rows), default=0)
    if length is not None and longest > length:
        raise UserError(f"a sentence has {longest} tokens and length is {length}; raise length or cut the sentence")
    padded = np.zeros((len(rows), longest if length is None else length), np.int32)
    for row, ids in zip(padded, numbers, strict=True):
        row[: len(ids)] = ids
    return padded
