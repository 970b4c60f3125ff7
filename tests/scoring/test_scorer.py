"""Scores are the log-probabilities of independent NumPy code, and their sum is what an evaluation sums."""

import numpy as np
import pytest

from elmo_jax.config import Softmax
from elmo_jax.data.corpus import prepare
from elmo_jax.data.text import text_source
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.parallel import DataParallel
from elmo_jax.scoring import scorer as module
from elmo_jax.scoring.scorer import Scorer, Total
from elmo_jax.train.evaluate import Evaluator
from tests.reference import numpy_bilm
from tests.scoring.models import FULL, WORDS, pretrained, reference, sentences

KINDS = {
    "adaptive": {},
    "full": FULL,
    "sampled": {"softmax": Softmax("sampled", n_negative_samples_batch=8)},
    "shared table": {**FULL, "input": "words", "share_embedding_softmax": True},
    "forward only": {"bidirectional": False},
}


@pytest.mark.parametrize("kind", ["full", "sampled", "shared table"])
def test_equals_independent_numpy_code(kind):
    model = pretrained(**KINDS[kind])
    numpy_model, kernel, bias = reference(model)
    texts = sentences()
    for sentence, score in zip(texts, Scorer(model).score(texts), strict=True):
        ids = [0, *(WORDS.index(word) if word in WORDS else 2 for word in sentence), 1]
        [layers], _ = numpy_model([sentence])
        forward, backward = numpy_bilm.score(layers[-1], ids, kernel, bias)
        assert score.tokens == tuple(sentence)
        assert score.known.tolist() == [word in WORDS for word in sentence]
        np.testing.assert_allclose(score.log_prob["forward"], forward, atol=2e-5, rtol=1e-5)
        np.testing.assert_allclose(score.log_prob["backward"], backward, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "carried"),
    [("adaptive", False), ("adaptive", True), ("sampled", False), ("shared table", False), ("forward only", True)],
)
def test_the_sum_is_that_of_the_evaluation(tmp_path, kind, carried):
    """Stateless, and carried over one stream."""
    model = pretrained(**KINDS[kind])
    # The text of an evaluation has no empty sentence.
    texts = [sentence for sentence in sentences(20) if sentence]
    (tmp_path / "text.txt").write_text("".join(f"{' '.join(s)}\n" for s in texts))
    corpus = prepare(text_source(str(tmp_path / "text.txt")), tmp_path / "encoded", progress=False)
    evaluate = Evaluator(model.model, model.config, model.words(), DataParallel())
    wanted = evaluate(model.params, corpus, streams=int(carried))
    total = Total(carried=carried)
    for score in Scorer(model).stream(texts, carried=carried):
        total.add(score)
    found = total.perplexity
    assert (found.count, found.words, found.oov, found.kind) == (wanted.count, wanted.words, wanted.oov, wanted.kind)
    assert list(found.nll) == list(wanted.nll) == list(model.config.model.directions)
    for direction, nll in wanted.nll.items():
        assert found.nll[direction] == pytest.approx(nll, rel=1e-6)
    assert found.average == pytest.approx(wanted.average, rel=1e-6)


def test_a_sentence_has_the_same_scores_in_any_company(monkeypatch):
    scorer = Scorer(pretrained())
    texts = sentences(9)
    alone = [scorer.score([sentence])[0] for sentence in texts]
    monkeypatch.setattr(module, "CHUNK", 16)
    for together in (scorer.score(texts), Scorer(scorer.pretrained).score(texts[::-1])[::-1]):
        for one, other in zip(alone, together, strict=True):
            for direction, values in one.log_prob.items():
                np.testing.assert_allclose(other.log_prob[direction], values, atol=1e-5)


def test_perplexity_of_a_sentence():
    [score] = Scorer(pretrained()).score([["w1", "nowhere", "w2"]])
    sums = score.perplexity
    assert (sums.count, sums.words, sums.oov) == (4, 3, 1)
    for direction, values in score.log_prob.items():
        assert sums.by_direction[direction] == pytest.approx(np.exp(-np.mean(values, dtype=np.float64)))
    assert sums.average == pytest.approx(np.sqrt(np.prod(list(sums.by_direction.values()))))
    assert Scorer(pretrained()).score([]) == []


def test_what_cannot_be_scored_is_refused():
    model = pretrained()
    scorer = Scorer(model)
    with pytest.raises(UserError, match=r"not the text 'w1 w2': use its \.split"):
        scorer.score(["w1 w2"])
    with pytest.raises(UserError, match="the token </S> is the mark of a sentence boundary"):
        scorer.score([["w1", "</S>"]])
    bare = {name: part for name, part in model.params.items() if name != "softmax"}
    with pytest.raises(UserError, match="has no softmax"):
        Scorer(Pretrained(model.config, bare, model.vocabulary, "bare"))
    with pytest.raises(UserError, match="has no vocabulary"):
        Scorer(Pretrained(model.config, model.params, None, "bare"))
