"""The text of a report: notes at their thresholds, and small shares. A whole one is in tests/test_cli.py."""

from dataclasses import replace

import pytest

from elmo_jax.data.report import CorpusReport, corpus_report
from elmo_jax.data.report_text import notes, report_text


@pytest.fixture
def report(encoded) -> CorpusReport:
    """Of two sentences that give no cause for a note."""
    return corpus_report(encoded([[["the", "cat", "."], ["the", "dog", "."]]]), progress=False)


def test_ordinary_text_has_no_notes(report):
    assert not list(notes(report))
    assert "note" not in report_text(report)


@pytest.mark.parametrize(
    ("field", "highest", "more", "said"),
    [
        ("cropped_share", 0.01, 0.0123, "1.23 % of tokens are cropped: raise --config.model.char_cnn.max_characters"),
        ("punctuation_share", 0.03, 0.12, "12.00 % of tokens end in punctuation"),
        ("repeated_share", 0.1, 0.25, "25.00 % of sentences repeat an earlier one"),
    ],
)
def test_a_note_says_what_to_do_about_a_large_share(report, field, highest, more, said):
    assert not list(notes(replace(report, **{field: highest})))
    (note,) = notes(replace(report, **{field: more}))
    assert note.startswith(said)
    assert report_text(replace(report, **{field: more})).endswith(f"\n\nnote: {note}")


def test_a_note_tells_of_long_sentences(report):
    def with_percentile(tokens: int) -> CorpusReport:
        return replace(report, sentence_tokens=replace(report.sentence_tokens, percentile_95=tokens))

    assert not list(notes(with_percentile(100)))
    (note,) = notes(with_percentile(1_234))
    assert note.startswith("one sentence in twenty has 1,234 tokens or more")


@pytest.mark.parametrize(
    ("share", "said"), [(0.0, "0.00 %"), (1e-9, "less than 0.01 %"), (1e-4, "0.01 %"), (1.0, "100.00 %")]
)
def test_a_small_share_is_not_none(report, share, said):
    lines = report_text(replace(report, non_ascii_share=share)).splitlines()
    assert f"  not ASCII               {said}" in lines


def test_repeated_sentences_are_shown(encoded):
    text = report_text(corpus_report(encoded([[["b"], ["a"], ["a"], ["b"], ["a"]]]), progress=False))
    assert "most repeated sentences\n  3 times  first is 2  a\n  2 times  first is 1  b\n" in text
