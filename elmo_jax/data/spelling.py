"""How tokens become what the token encoder of a model reads: characters, the id of a word, or both."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from elmo_jax.data.characters import BOS, EOS, PAD, character_ids, mark_row
from elmo_jax.data.dictionaries import BEGIN_OF_WORD, BOUNDARIES, END_OF_WORD, OOV, Dictionaries
from elmo_jax.data.dictionaries import PAD as PAD_MARK
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError


class Spelling(Protocol):
    """Spells tokens, among which ``<S>`` and ``</S>`` are the boundaries of a sentence.

    Attributes:
        pad: the id that fills a row past the end of its token, and rows without a token.
    """

    pad: int

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[Any]:
        """What the encoder reads of N tokens: whole numbers ``[N, width]``, or ``[N]`` for one id a token."""


class Characters:
    """UTF-8 bytes between marks (ELMO_SPEC 2.1): uint16 ``[N, width]``.

    Args:
        width: ids of a token.
        tokens_to_add: tokens that are one character each, by its id, in place of their bytes: AllenNLP's way to new
            special tokens, whose advice is the ids 1 to 32. ``{"<s>": 256, "</s>": 257}`` names boundaries otherwise.

    Raises:
        UserError: for an id that is neither a byte nor the mark of a boundary.
    """

    pad = PAD

    def __init__(self, width: int, tokens_to_add: Mapping[str, int] | None = None) -> None:
        self.width, self.tokens_to_add = width, dict(tokens_to_add or {})
        for token, character in self.tokens_to_add.items():
            if not 0 <= character <= EOS:
                raise UserError(
                    f"tokens_to_add has {token!r}: {character}; a character is a byte, 0 to 255, or {BOS} or {EOS}, "
                    "the boundaries of a sentence: take a byte that no text has, such as 1 to 8"
                )

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[np.uint16]:
        """Character ids of tokens, uint16 ``[N, width]``."""
        rows = character_ids(tokens, self.width)
        for token, character in self.tokens_to_add.items():
            where = [number for number, name in enumerate(tokens) if name == token]
            rows[where] = mark_row(character, self.width)
        return rows


class Words:
    """Ids of a vocabulary, int32 ``[N]``; a word that it lacks is ``<UNK>``."""

    pad = 0

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[np.int32]:
        """Word ids of tokens, int32 ``[N]``."""
        return np.fromiter(map(self.vocabulary.id, tokens), np.int32, len(tokens))


class WordsAndCharacters:
    """The id of the word, then those of its code points between marks (ELMO_SPEC 2.14): int32 ``[N, 1 + width]``.

    The word or the code points are left out where the model has no dictionary of them. A token is cut to
    ``width - 2`` code points before its word is looked up too, as ELMoForManyLangs does it.

    Args:
        dictionaries: of words and of characters.
        width: ids of the code points of a token and their marks.
    """

    pad = 0

    def __init__(self, dictionaries: Dictionaries, width: int) -> None:
        self.dictionaries, self.width = dictionaries, width

    def __call__(self, tokens: Sequence[str]) -> npt.NDArray[np.int32]:
        """Ids of tokens, int32 ``[N, 1 + width]``."""
        words, characters = self.dictionaries.words, self.dictionaries.characters
        spelt = [BOUNDARIES.get(token, token[: self.width - 2]) for token in tokens]
        rows = np.full((len(spelt), (words is not None) + (characters is not None) * self.width), self.pad, np.int32)
        if words is not None:
            rows[:, 0] = [words.get(token, words[OOV]) for token in spelt]
        if characters is not None:
            rows[:, -self.width :] = characters[PAD_MARK]
            for row, token in zip(rows[:, -self.width :], spelt, strict=True):
                inner = [token] if token in BOUNDARIES.values() else token
                ids = [characters.get(character, characters[OOV]) for character in inner]
                # The marks are the wrong way round, as in all published models.
                row[: len(ids) + 2] = [characters[END_OF_WORD], *ids, characters[BEGIN_OF_WORD]]
        return rows
