"""How tokens become what the token encoder of a model reads: characters, or the id of a word."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import PAD, character_ids
from elmo_jax.data.vocab import Vocabulary


class Spelling(Protocol):
    """Spells tokens, among which ``<S>`` and ``</S>`` are the boundaries of a sentence.

    Attributes:
        pad: the id that fills a row past the end of its token, and rows without a token.
    """

    pad: int

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[Any]:
        """What the encoder reads of N tokens: whole numbers ``[N, C]``, or ``[N]`` for one id a token."""


class Characters:
    """UTF-8 bytes between marks (ELMO_SPEC 2.1): uint16 ``[N, width]``.

    Args:
        width: ids of a token.
    """

    pad = PAD

    def __init__(self, width: int) -> None:
        self.width = width

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[np.uint16]:
        """Character ids of tokens, uint16 ``[N, width]``."""
        return character_ids(tokens, self.width)


class Words:
    """Ids of a vocabulary, int32 ``[N]``; a word that it lacks is ``<UNK>``."""

    pad = 0

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[np.int32]:
        """Word ids of tokens, int32 ``[N]``."""
        return np.fromiter(map(self.vocabulary.id, tokens), np.int32, len(tokens))
