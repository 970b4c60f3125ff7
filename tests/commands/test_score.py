"""``elmo score`` and ``elmo substitutes``: files read back by hand, equal to independent code and to ``elmo eval``."""

import csv
import json

import numpy as np
import pytest

from tests.reference import numpy_bilm
from tests.scoring.models import FULL, WORDS, pretrained, reference, saved, sentences

TEXTS = [sentence for sentence in sentences(8) if sentence]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A pretrained directory, and the independent implementation of its model."""
    made = pretrained(**FULL)
    return saved(tmp_path_factory.mktemp("model") / "small", made), reference(made)


@pytest.fixture(autouse=True)
def text(folder):
    """Sentences, and an empty line after the second."""
    lines = [" ".join(sentence) for sentence in TEXTS]
    (folder / "text.txt").write_text("\n".join([*lines[:2], "", *lines[2:]]) + "\n", encoding="utf-8")


def wanted(model):
    """Forward and backward log-probabilities of every sentence by independent code."""
    numpy_model, kernel, bias = model[1]
    for sentence in TEXTS:
        ids = [0, *(WORDS.index(word) if word in WORDS else 2 for word in sentence), 1]
        yield numpy_bilm.score(numpy_model([sentence])[0][0][-1], ids, kernel, bias)


def test_a_line_for_every_word(elmo, model):
    status, out, err = elmo("score", model[0], "text.txt")
    assert status == 0
    rows = list(csv.DictReader(out.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    for number, (sentence, (forward, backward)) in enumerate(zip(TEXTS, wanted(model), strict=True)):
        mine = [row for row in rows if row["line"] == str(number + (number > 1))]
        assert [row["token"] for row in mine] == ["<S>", *sentence, "</S>"]
        assert [row["known"] for row in mine] == ["", *(str(int(word in WORDS)) for word in sentence), ""]
        assert (mine[0]["forward"], mine[-1]["backward"]) == ("", "")
        np.testing.assert_allclose([float(row["forward"]) for row in mine[1:]], forward, atol=2e-5)
        np.testing.assert_allclose([float(row["backward"]) for row in mine[:-1]], backward, atol=2e-5)
    assert "stateless" in err


def test_the_total_is_that_of_elmo_eval(elmo, model):
    _, out, _ = elmo("score", model[0], "text.txt", "--format", "json")
    *scores, total = map(json.loads, out.splitlines())
    assert [score["line"] for score in scores] == [0, 1, 3, 4, 5, 6, 7][: len(TEXTS)]
    for score, (forward, backward) in zip(scores, wanted(model), strict=True):
        np.testing.assert_allclose(score["forward"], forward, atol=2e-5)
        assert score["perplexity_backward"] == pytest.approx(np.exp(-backward.mean()), rel=1e-5)
        assert score["perplexity"] == pytest.approx(np.exp(-np.mean([forward, backward])), rel=1e-5)
    for more, how in (([], ["--stateless"]), (["--carried"], ["--streams", "1"])):
        _, out, _ = elmo("score", model[0], "text.txt", "--format", "json", *more)
        total = json.loads(out.splitlines()[-1])["total"]
        _, out, _ = elmo("eval", model[0], "--text", "text.txt", "--json", "--cache-dir", "encoded", *how)
        evaluated = json.loads(out)
        assert set(total) <= set(evaluated)
        for name, value in total.items():
            same = evaluated[name] if isinstance(value, str) else pytest.approx(evaluated[name], rel=1e-6)
            assert value == same, name


def test_a_line_for_every_sentence_in_a_file(elmo, model, folder):
    status, out, _ = elmo("score", model[0], "text.txt", "--format", "sentences", "-o", "out.tsv")
    assert status == 0
    assert "perplexity" in out
    rows = list(csv.DictReader((folder / "out.tsv").read_text().splitlines(), delimiter="\t"))
    assert [int(row["words"]) for row in rows] == list(map(len, TEXTS))
    for row, (forward, _) in zip(rows, wanted(model), strict=True):
        assert float(row["perplexity_forward"]) == pytest.approx(np.exp(-forward.mean()), rel=1e-4)


def test_substitutes_are_the_scores_of_the_filled_slot(elmo, model, folder):
    status, out, _ = elmo("substitutes", model[0], "w3 ___ w7", "--count", "4")
    assert status == 0
    found = list(csv.DictReader(out.splitlines(), delimiter="\t"))
    assert [row["rank"] for row in found] == ["1", "2", "3", "4"]
    (folder / "filled.txt").write_text("".join(f"w3 {row['word']} w7\n" for row in found))
    _, out, _ = elmo("score", model[0], "filled.txt", "--format", "json")
    for row, score in zip(found, map(json.loads, out.splitlines()), strict=False):
        assert float(row["forward"]) == pytest.approx(score["forward"][1], abs=2e-5)
        assert float(row["backward"]) == pytest.approx(score["backward"][2], abs=2e-5)
    _, marked, _ = elmo("substitutes", model[0], "w3 w9 w7", "--word", "1", "--count", "4", "--format", "json")
    slot = json.loads(marked)
    assert [word["word"] for word in slot["words"]] == [row["word"] for row in found]
    assert (slot["token"], slot["position"]) == ("w9", 1)
    assert 1 <= slot["rank"] <= 27
    _, every, _ = elmo("substitutes", model[0], "--text", "text.txt", "--every-word", "--count", "1")
    assert len(every.splitlines()) == 1 + sum(map(len, TEXTS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "MODEL", "empty.txt"], "empty.txt has no sentence to score"),
        (["score", "MODEL", "text.txt", "-o", "empty.txt"], "empty.txt exists already: name another file"),
        (["score", "MODEL", "nothing"], "no text file matches 'nothing'"),
        (["substitutes", "MODEL"], "give one SENTENCE, or --text with many"),
        (["substitutes", "MODEL", "w1 w2"], "line 0, 'w1 w2', has no token ___, the mark of a slot: mark it"),
        (["substitutes", "MODEL", "w1 ___."], "put spaces around it in '___.'"),
        (["substitutes", "MODEL", "w1 w2", "--word", "2"], "--word is 2, and 'w1 w2' has 2 words: use 0 to 1"),
        (["substitutes", "MODEL", "w1 ___", "--count", "0"], "the number of substitutes is 0: must be at least 1"),
        (["substitutes", "MODEL", "w1 ___", "--prior", "inf"], "the prior is inf: must be a finite number"),
        (["substitutes", "MODEL", "w1 ___ </S>"], "the token </S> is the mark of a sentence boundary"),
    ],
)
def test_mistakes_are_one_line(elmo, model, folder, arguments, message):
    (folder / "empty.txt").write_text("\n\n")
    before = sorted(folder.iterdir())
    status, _, err = elmo(*(model[0] if word == "MODEL" else word for word in arguments))
    assert status == 2
    assert err.count("\n") == 1
    assert message in err
    assert sorted(folder.iterdir()) == before


def test_a_model_without_a_softmax_is_refused(elmo, folder):
    made = pretrained()
    del made.params["softmax"]
    path = saved(folder / "model", made)
    for command in (["score", path, "text.txt"], ["substitutes", path, "w1 ___"]):
        status, out, err = elmo(*command)
        assert (status, out) == (2, "")
        assert "has no softmax, so it gives vectors and no probabilities" in err
