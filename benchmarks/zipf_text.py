"""Synthetic text: words drawn by Zipf's law, P(k) ~ 1 / k, in sentences of 25, with the vocabulary they come from."""

from pathlib import Path

import numpy as np

from elmo_jax.data.vocab import SPECIALS, Vocabulary

SENTENCE = 25
# Words drawn at once.
BLOCK = 1_000_000
# Counts are those of a text of this many words, about that of 1 Billion Word; a word has one at least.
COUNTED = 800_000_000


def write(folder: Path, n_words: int, n_tokens: int, seed: int = 0) -> tuple[Path, Path]:
    """Write a text and its vocabulary with counts.

    A frequent word is short, as in English: letters number the words, and up to eight capitals follow.

    Args:
        folder: where ``text.txt`` and ``vocab.txt`` are written.
        n_words: of the vocabulary, specials included.
        n_tokens: of the text, rounded up to whole sentences.
        seed: of everything.

    Returns:
        The two files.
    """
    rng = np.random.default_rng(seed)
    n = n_words - len(SPECIALS)
    capitals = rng.integers(65, 91, (n, 8)).astype(np.uint8)
    tails = [bytes(row[:length]).decode() for row, length in zip(capitals, rng.integers(0, 9, n), strict=True)]
    words = np.array([_letters(k) + (tail if k >= 100 else "") for k, tail in enumerate(tails)])
    law = 1 / np.arange(1, n + 1)
    cumulative = np.cumsum(law) / law.sum()
    text, vocabulary = folder / "text.txt", folder / "vocab.txt"
    with text.open("w", encoding="utf-8") as file:
        for begin in range(0, n_tokens, BLOCK):
            block = -(-min(BLOCK, n_tokens - begin) // SENTENCE) * SENTENCE
            drawn = np.searchsorted(cumulative, rng.random(block))
            file.writelines(" ".join(line) + "\n" for line in words[np.minimum(drawn, n - 1)].reshape(-1, SENTENCE))
    counts = np.maximum(1, (COUNTED * law / law.sum()).astype(np.int64))
    boundary = COUNTED // SENTENCE
    Vocabulary([*SPECIALS, *words.tolist()], np.concatenate([[0, boundary, 0], counts])).save(vocabulary)
    return text, vocabulary


def _letters(number: int) -> str:
    """The number in letters: a to z, aa, ab, ..."""
    letters = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        letters = chr(97 + digit) + letters
    return letters
