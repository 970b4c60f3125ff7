r"""Words and sentences against the rules of UAX #29, taken one boundary at a time, and against those of uniseg.

The rules below are the lines of the standard: what stands left of a boundary, what right of it, and whether it is one.
"""

import re
import sys
from collections import defaultdict

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uniseg import sentencebreak, wordbreak
from uniseg.emoji import extended_pictographic

from elmo_jax.data import unicode_boundaries
from elmo_jax.data.unicode_boundaries import sentences, words
from elmo_jax.errors import UserError

# A few characters of every class of either property, so that random text has every sequence of classes.
MEMBERS = defaultdict(list)
for _code in [*range(0x3200), *range(0xFB00, 0xFF80), *range(0x1F100, 0x1F700)]:
    _c = chr(_code)
    _kind = (wordbreak.word_break(_c), sentencebreak.sentence_break(_c), extended_pictographic(_c), _c.isspace())
    if len(MEMBERS[_kind]) < 3:
        MEMBERS[_kind].append(_c)
CHARACTER = st.sampled_from([*MEMBERS.values()]).flatmap(st.sampled_from)
TEXT = st.text(CHARACTER, max_size=12)
# Long words and sentences need many of the classes that continue them.
SPEECH = st.text(st.sampled_from("aAé0.:,'\"_!?)( \u0301\u200d\u05d0\u30a2-"), max_size=30)


# Words


@given(st.one_of(TEXT, SPEECH))
@example("\u05d0'_ \u05d0'a \u05d0\"\u05d0 \u05d0\"a \u05d0'0 \u30a2_a\u30a2 a:b: 1.2. 1'a")
@example("\U0001f1e9\U0001f1ea\U0001f1eb a\u200d\u2139b \u200d\U0001f436 \u0301\u0301a")
def test_words_are_those_of_uniseg_between_whitespace(text):
    assert words(text) == [word for part in text.split() for word in wordbreak.words(part)]


@given(st.one_of(TEXT, SPEECH))
def test_words_are_all_segments_of_uniseg_but_whitespace(text):
    """Except at a narrow no-break space, which UAX #29 puts inside words."""
    text = text.replace("\u202f", " ")
    assert words(text) == [word for segment in wordbreak.words(text) for word in segment.split()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The fox can\u2019t jump 32.3 “feet”, right?", "The fox can\u2019t jump 32.3 “ feet ” , right ?"),
        ("Mr. O'Neill's e-mail: a.b@c.org, $1,234.50!", "Mr . O'Neill's e - mail : a.b @ c.org , $ 1,234.50 !"),
        ("snake_case v2.0 3rd 10:30 5'6\"", "snake_case v2.0 3rd 10 : 30 5'6 \""),
        ("Straßenbahn-Haltestelle „Süd“", "Straßenbahn - Haltestelle „ Süd “"),
        ("動作冒險遊戲。", "動 作 冒 險 遊 戲 。"),
        ("カタカナとひらがな", "カタカナ と ひ ら が な"),
        ("مرحبا، العالم!", "مرحبا ، العالم !"),
        ('צה"ל', 'צה"ל'),
        ("👩\u200d👩\u200d👧 👍🏽 🇩🇪🇫🇷", "👩\u200d👩\u200d👧 👍🏽 🇩🇪 🇫🇷"),
        ("cafe\u0301 \u00ad", "cafe\u0301 \u00ad"),
        ("10\u202f000\u00a0km\u3000x", "10 000 km x"),
        ("<S> </S>", "< S > < / S >"),
    ],
)
def test_words_of_examples(text, expected):
    assert words(text) == expected.split()


# Sentences


def sentence_classes(text: str) -> str:
    signs = {"OLetter": "t", "SContinue": ",", "ATerm": ".", "STerm": "!", "Close": ")", "Sp": " ", "Sep": "S"}
    signs |= {"Lower": "l", "Upper": "u", "Numeric": "0", "Extend": "e", "Format": "f", "CR": "C", "LF": "L"}
    return "".join(signs.get(sentencebreak.sentence_break(c).value, "o") for c in text)


def is_sentence_boundary(left: str, right: str) -> bool:
    """Whether a sentence ends between the classes ``left`` and ``right``, neither of them empty."""
    if left[-1] == "C" and right[0] == "L":  # SB3
        return False
    if left[-1] in "SCL":  # SB4
        return True
    if right[0] in "ef":  # SB5
        return False
    left, right = (re.sub(r"(?<=[^SCL])[ef]+", "", side) for side in (left, right))
    rules = [
        (r"\.$", "0", False),  # SB6
        (r"[ul]\.$", "u", False),  # SB7
        (r"\.\)* *$", "[^tulSCL.!]*l", False),  # SB8
        (r"[.!]\)* *$", "[,.!]", False),  # SB8a
        (r"[.!]\)*$", "[) SCL]", False),  # SB9
        (r"[.!]\)* *$", "[ SCL]", False),  # SB10
        (r"[.!]\)* *[SCL]?$", "", True),  # SB11
    ]
    return next((yes for before, after, yes in rules if re.search(before, left) and re.match(after, right)), False)


@given(st.one_of(TEXT, SPEECH))
@example("He said. \u0301(and) left. “Yes!”, she said. U.S.A. is 3.4 (etc.) * no? Ok.\r\nNew\u2029Last")
def test_sentences_end_where_the_standard_says(text):
    classes, expected = sentence_classes(text), []
    for position, character in enumerate(text):
        if position and not is_sentence_boundary(classes[:position], classes[position:]):
            expected[-1] += character
        else:
            expected.append(character)
    assert sentences(text) == expected


@given(st.one_of(TEXT, SPEECH))
def test_sentences_are_those_of_uniseg(text):
    """Which breaks at a character of class Other between a full stop and a small letter, where SB8 does not."""
    text = "".join(c for c in text if sentencebreak.sentence_break(c).value != "Other")
    assert sentences(text) == [*sentencebreak.sentences(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["He said, “Are you going?” ", "John shook his head."],
        ["It cost 3.5 dollars. ", "No! ", "(Really?) ", "Yes."],
        ["The U.S. market fell, etc. and rose."],
        ["Mr. ", "Smith came."],
        ["Der 3. ", "Mai war kalt. ", "Es schneite."],
        ["它融合了一些特徵。", "真的嗎\uff1f", "是。"],
        ["هل أنت ذاهب؟ ", "نعم."],
        ["First line\u2028", "Second line\r\n", "Third"],
        ["no end"],
    ],
)
def test_sentences_of_examples(expected):
    assert sentences("".join(expected)) == expected


# Both


def test_every_class_has_a_sign():
    assert unicode_boundaries._WORD_SIGNS.keys() == {value.value for value in wordbreak.WordBreak}
    assert unicode_boundaries._SENTENCE_SIGNS.keys() == {value.value for value in sentencebreak.SentenceBreak}


@pytest.mark.long
def test_every_character_is_a_word_and_a_sentence():
    for character in map(chr, range(sys.maxunicode + 1)):
        assert words(character) == ([] if character.isspace() else [character])
        assert sentences(character) == [character]


@pytest.mark.parametrize("run", [". ", ".)", ".", "a.", "1,", "_", "…", ". 1 ", *"a\u0301\u200d"])
@pytest.mark.parametrize("mark", ["", "\u0301", "\u05d0'", '\u05d0"', "a"])
def test_long_texts_take_time_in_proportion(run, mark):
    """The rules look far ahead; a text of this length would not end if each look went over all of it."""
    text = (run + mark) * 20_000
    assert "".join(words(text)) == "".join(text.split())
    assert "".join(sentences(text)) == text


@pytest.mark.parametrize("what", [words, sentences])
def test_a_missing_library_is_told(monkeypatch, what):
    for name in ("uniseg", "uniseg.wordbreak", "uniseg.sentencebreak", "uniseg.emoji"):
        monkeypatch.setitem(sys.modules, name, None)
    for signs in (unicode_boundaries._word_signs, unicode_boundaries._sentence_signs):
        monkeypatch.setattr(unicode_boundaries, signs.__wrapped__.__name__, signs.__wrapped__)
    with pytest.raises(UserError, match=r"uniseg .*pip install uniseg"):
        what("a")
