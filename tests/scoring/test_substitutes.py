"""Substitutes: brute force over a small vocabulary, and what other programs get wrong (ELMO_SPEC T8)."""

import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.scoring import substitutes as module
from elmo_jax.scoring.scorer import Scorer
from elmo_jax.scoring.substitutes import Substitutes
from tests.scoring.models import COUNTS, FULL, WORDS, pretrained

SENTENCE = ["w3", "w1", "nowhere", "w7", "w2"]
ALLOWED = WORDS[3:]


def brute_force(scorer, sentence, place, prior):
    """The log-probability of every allowed word in a slot: each is put there and scored, by direction and together."""
    filled = scorer.score([[*sentence[:place], word, *sentence[place + 1 :]] for word in ALLOWED])
    each = {
        direction: np.array([score.log_prob[direction][place + d] for score in filled], np.float64)
        for d, direction in enumerate(scorer.directions)
    }
    frequency = np.array(COUNTS[3:]) / sum(COUNTS)
    together = sum(each.values()) - prior * np.log(frequency)
    return each, together - np.log(np.exp(together).sum())


@pytest.mark.parametrize("changes", [{}, FULL, {"bidirectional": False}], ids=["adaptive", "full", "forward only"])
@pytest.mark.parametrize("prior", [0.0, 0.75])
def test_equals_putting_every_word_into_the_slot(changes, prior):
    scorer = Scorer(pretrained(**changes))
    slots = Substitutes(scorer, prior).find([SENTENCE], k=len(ALLOWED))
    assert [slot.position for slot in slots] == [0, 1, 2, 3, 4]
    for slot in slots:
        each, together = brute_force(scorer, SENTENCE, slot.position, prior)
        order = [ALLOWED.index(word) for word in slot.words]
        assert sorted(order) == list(range(len(ALLOWED)))
        np.testing.assert_allclose(slot.log_prob, together[order], atol=2e-5)
        assert (np.diff(slot.log_prob) <= 0).all()
        assert np.exp(slot.log_prob, dtype=np.float64).sum() == pytest.approx(1, abs=1e-5)
        for direction, values in each.items():
            np.testing.assert_allclose(slot.by_direction[direction], values[order], atol=2e-5)
        if slot.token == "nowhere":
            assert slot.rank is slot.token_log_prob is None
        else:
            assert slot.words[slot.rank - 1] == slot.token
            assert slot.token_log_prob == pytest.approx(together[ALLOWED.index(slot.token)], abs=2e-5)


def test_both_contexts_matter_and_the_word_in_the_slot_does_not():
    substitutes = Substitutes(Scorer(pretrained()))

    def of(*sentence):
        [slot] = substitutes.find([sentence], [[2]], k=27)
        return dict(zip(slot.words, slot.log_prob, strict=True))

    def apart(a, b):
        return max(abs(a[word] - b[word]) for word in a)

    found = of("w3", "w1", "___", "w7", "w2")
    assert apart(found, of("w3", "w1", "w9", "w7", "w2")) < 1e-5
    assert apart(found, of("w3", "w5", "___", "w7", "w2")) > 0.01
    assert apart(found, of("w8", "w1", "___", "w7", "w2")) > 0.01
    assert apart(found, of("w3", "w1", "___", "w7", "w9")) > 0.01


def test_boundaries_and_unk_are_left_out_however_likely():
    model = pretrained(**FULL)
    model.params["softmax"]["bias"] = np.array([50.0, 50.0, 50.0, *[0.0] * 27], np.float32)
    [slot] = Substitutes(Scorer(model)).find([SENTENCE], [[1]], k=100)
    assert sorted(slot.words) == sorted(ALLOWED)
    assert np.exp(slot.log_prob, dtype=np.float64).sum() == pytest.approx(1, abs=1e-5)


def test_slots_in_chunks_and_any_number_of_sentences(monkeypatch):
    scorer = Scorer(pretrained())
    texts = [["w1", "w2"], [], SENTENCE, ["w4"] * 9]
    whole = Substitutes(scorer).find(texts, [[1, 0], [], [2], range(9)], k=3)
    assert [(slot.sentence, slot.position) for slot in whole] == [(0, 1), (0, 0), (2, 2), *((3, i) for i in range(9))]
    monkeypatch.setattr(module, "MAX_LOG_PROBS", 2 * len(WORDS))
    for one, other in zip(whole, Substitutes(scorer).find(texts, [[1, 0], [], [2], range(9)], k=3), strict=True):
        assert one.words == other.words
        np.testing.assert_allclose(one.log_prob, other.log_prob, atol=1e-5)


def test_the_prior_needs_counts():
    scorer = Scorer(pretrained(counts=None))
    assert Substitutes(scorer).prior == 0
    assert Substitutes(Scorer(pretrained())).prior == module.DEFAULT_PRIOR
    with pytest.raises(UserError, match="has no counts: give 0"):
        Substitutes(scorer, 0.5)
    with pytest.raises(UserError, match="the prior is nan"):
        Substitutes(scorer, float("nan"))


def test_what_is_no_slot_is_refused():
    substitutes = Substitutes(Scorer(pretrained()))
    with pytest.raises(UserError, match="slot 5 of sentence 1: it has 5 words"):
        substitutes.find([["w1"], SENTENCE], [[0], [5]])
    with pytest.raises(UserError, match="number of substitutes is 0"):
        substitutes.find([SENTENCE], k=0)
