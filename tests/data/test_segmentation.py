import dataclasses
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacremoses import MosesTokenizer

from elmo_jax.data import segmentation
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.errors import UserError
from tests.shared import shared

EVERY = [
    Segmentation(tokenizer, sentences, language)
    for tokenizer, language in (("whitespace", "en"), ("unicode", "en"), ("moses", "en"), ("moses", "de"))
    for sentences in ("lines", "unicode")
]


@given(st.text(max_size=40))
@pytest.mark.parametrize("cut", EVERY, ids=lambda cut: cut.variant)
def test_sentences_have_tokens_and_tokens_have_no_whitespace(cut, line):
    for sentence in cut(line):
        assert sentence
        assert all(token.split() == [token] for token in sentence)


@given(st.text(max_size=40))
@pytest.mark.parametrize("cut", [cut for cut in EVERY if cut.tokenizer != "moses"], ids=lambda cut: cut.variant)
def test_nothing_but_whitespace_is_lost(cut, line):
    assert "".join(token for sentence in cut(line) for token in sentence) == "".join(line.split())


@given(st.text(st.sampled_from("aB1 .!?…,\u2029\u0301)"), max_size=30))
@pytest.mark.parametrize("tokenizer", ["whitespace", "unicode", "moses"])
def test_sentences_are_tokenised_one_by_one(tokenizer, line):
    cut = Segmentation(tokenizer, "unicode")
    parts = ["".join(part) for part in Segmentation("whitespace", "unicode")(line)]
    assert len(parts) == len(cut(line))
    assert ["".join(part) for part in cut(line)] == parts


@pytest.mark.parametrize(
    ("cut", "line", "expected"),
    [
        (Segmentation(), " He isn't\there.  ", ["He isn't here."]),
        (Segmentation("unicode"), "He isn't here. Go!", ["He isn't here . Go !"]),
        (Segmentation("unicode", "unicode"), "He isn't here. Go!", ["He isn't here .", "Go !"]),
        (Segmentation("whitespace", "unicode"), "He isn't here . Go !", ["He isn't here .", "Go !"]),
        (Segmentation("moses"), "He isn't here, Mr. Smith.", ["He isn 't here , Mr. Smith ."]),
        (Segmentation("moses"), 'A|B & <b>[1]</b> "x"', ['A | B & < b > [ 1 ] < / b > " x "']),
        (Segmentation("moses"), "5,300 of 1.5 ... and/or e-mail", ["5,300 of 1.5 ... and / or e-mail"]),
        (Segmentation("moses", "lines", "de"), "Die z.B. am 3. Mai, d.h. bald.", ["Die z.B. am 3. Mai , d.h. bald ."]),
        (Segmentation("moses", "lines", "fr"), "C'est l'homme.", ["C' est l' homme ."]),
        (Segmentation("moses", "unicode", "it"), "Ecco l'uomo. Va!", ["Ecco l' uomo .", "Va !"]),
    ],
)
def test_examples(cut, line, expected):
    assert [" ".join(sentence) for sentence in cut(line)] == expected


@pytest.mark.parametrize("cut", EVERY, ids=lambda cut: cut.variant)
@pytest.mark.parametrize("line", ["", " ", "\t\u3000\u2029\x1f\x85\u00a0"])
def test_whitespace_is_no_sentence(cut, line):
    assert cut(line) == []


def test_a_line_without_a_token_is_no_sentence():
    assert Segmentation("moses")("\x01 \x02") == []


# Moses


@pytest.mark.parametrize(
    ("language", "path"),
    [
        ("en", "data/lm/gutenberg/valid.txt"),
        ("de", "data/multilingual/de_gsd-ud-dev.tok.txt"),
        ("ru", "data/multilingual/ru_gsd-ud-dev.tok.txt"),
    ],
)
def test_the_rules_of_moses_are_those_of_the_library(language, path):
    library, cut = MosesTokenizer(language), Segmentation("moses", "lines", language)
    for line in shared(path).read_text(encoding="utf-8").split("\n")[:150]:
        assert cut(line) == [tokens for tokens in [library.tokenize(line, escape=False)] if tokens]


def test_lines_of_many_languages_come_apart_at_punctuation_and_nowhere_else():
    """Universal Dependencies splits off the same commas and full stops, whatever the script."""
    for name, mark in (("de_gsd-ud-dev", ","), ("ar_pud-ud-test", "،"), ("zh_gsd-ud-dev", "。")):
        lines = shared(f"data/multilingual/{name}.tok.txt").read_text(encoding="utf-8").split("\n")[:100]
        for line in lines:
            tokens = [token for sentence in Segmentation("unicode", "unicode")(line) for token in sentence]
            assert "".join(tokens) == "".join(line.split())
            assert tokens.count(mark) == sum(token == mark for token in line.split())


@pytest.mark.parametrize("language", ["xx", "EN", "german", "", "ar"])
def test_a_language_without_rules_is_refused(language):
    with pytest.raises(UserError) as caught:
        Segmentation("moses", "lines", language)
    assert str(caught.value).startswith(
        f"language is {language!r}: the rules of Moses know as, bn, ca, cs, de, el, en,"
    )
    assert "'unicode'" in str(caught.value)


def test_a_missing_library_is_told_at_once(monkeypatch):
    monkeypatch.setattr(segmentation, "_tokenize", segmentation._tokenize.__wrapped__)
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(UserError, match=r"sacremoses .*pip install sacremoses"):
        Segmentation("moses")


# What tells encoded corpora apart


def test_the_variant_names_all_that_the_sentences_depend_on(monkeypatch):
    assert Segmentation().variant == ""
    assert Segmentation(language="de").variant == ""
    monkeypatch.setattr(segmentation, "version", lambda name: f"1.{len(name)}")
    assert Segmentation("unicode").variant == "tokenizer unicode, sentences lines, rules 1, uniseg 1.6"
    assert Segmentation("moses", "lines", "de").variant == "tokenizer moses de, sentences lines, sacremoses 1.10"
    assert Segmentation("moses", "unicode").variant == (
        "tokenizer moses en, sentences unicode, rules 1, uniseg 1.6, sacremoses 1.10"
    )
    assert len({cut.variant for cut in EVERY}) == len(EVERY)


def test_fields_are_those_of_the_configuration():
    from elmo_jax.config import Data

    for field in dataclasses.fields(Segmentation):
        assert getattr(Data(), field.name) == field.default
        assert Data.__annotations__[field.name] == Segmentation.__annotations__[field.name]
