"""Synthetic text."""

from collections import Counter

import numpy as np


def test_text_follows_the_law_of_its_vocabulary(tmp_path):
    import zipf_text

    from elmo_jax.data.vocab import SPECIALS, Vocabulary

    text, path = zipf_text.write(tmp_path, 503, 200_000)
    vocabulary = Vocabulary.load(path)
    assert len(vocabulary) == 503 == len(set(vocabulary.words))
    sentences = [line.split() for line in text.read_text(encoding="utf-8").splitlines()]
    assert {len(sentence) for sentence in sentences} == {zipf_text.SENTENCE}
    found = Counter(word for sentence in sentences for word in sentence)
    assert sum(found.values()) == 200_000
    words = vocabulary.words[len(SPECIALS) :]
    expected = 200_000 / np.arange(1, 501) / sum(1 / np.arange(1, 501))
    # Six standard deviations of a Poisson count.
    assert all(abs(found[word] - n) < 6 * np.sqrt(n) for word, n in zip(words, expected, strict=True))
    assert np.all(np.diff(vocabulary.counts[len(SPECIALS) :]) <= 0)
