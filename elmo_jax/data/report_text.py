"""A corpus report as text for people, with notes where a number suggests to do something."""

import unicodedata
from collections.abc import Iterator, Sequence

from elmo_jax.data.report import PUNCTUATION, CorpusReport, Distribution

# Above these a note is worth its line.
MANY_CROPPED = 0.01
MANY_PUNCTUATED = 0.03
MANY_REPEATED = 0.1
LONG_SENTENCE = 100


def report_text(report: CorpusReport) -> str:
    """The numbers, unknown words by vocabulary size, examples, and the notes."""
    blocks = [_numbers(report), _vocabularies(report), _examples(report), [f"note: {note}" for note in notes(report)]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def notes(r: CorpusReport) -> Iterator[str]:
    """What the numbers suggest to do."""
    if r.cropped_share > MANY_CROPPED:
        yield (
            f"{_percent(r.cropped_share)} of tokens are cropped: raise "
            "--config.model.char_cnn.max_characters_per_token, or cut the text into words (--config.data.tokenizer)"
        )
    if r.punctuation_share > MANY_PUNCTUATED:
        yield (
            f"{_percent(r.punctuation_share)} of tokens end in punctuation, and every word has several forms: separate "
            "it (--config.data.tokenizer=unicode)"
        )
    if r.sentence_tokens.percentile_95 > LONG_SENTENCE:
        yield (
            f"one sentence in twenty has {r.sentence_tokens.percentile_95:,} tokens or more: if lines are paragraphs, "
            "cut them into sentences (--config.data.sentences=unicode)"
        )
    if r.repeated_share > MANY_REPEATED:
        yield (
            f"{_percent(r.repeated_share)} of sentences repeat an earlier one: the model learns them by heart, and "
            "held-out text that shares them looks too easy; remove what the text repeats by mistake"
        )


def _numbers(r: CorpusReport) -> list[str]:
    cropped = f"  cropped after {r.max_characters - 2} bytes"
    return _columns(
        [
            ("sentences", f"{r.sentences:,} in {r.documents:,} documents; {r.empty_lines:,} empty lines"),
            ("  tokens of a sentence", _spread(r.sentence_tokens)),
            ("  repeat an earlier one", _percent(r.repeated_share)),
            ("tokens", f"{r.tokens:,}"),
            ("  characters of a token", _spread(r.token_characters)),
            ("  bytes of a character", f"{r.bytes_per_character:.3f}"),
            (cropped, _percent(r.cropped_share)),
            ("  not ASCII", _percent(r.non_ascii_share)),
            ("  words with punctuation", f"{_percent(r.punctuation_share)} (one of {PUNCTUATION.decode()} at the end)"),
            ("types", f"{r.types:,} ({r.types_per_token:.4f} a token)"),
            ("  occur once", _percent(r.hapax_share)),
            (cropped, _percent(r.cropped_types_share)),
        ]
    )


def _vocabularies(r: CorpusReport) -> list[str]:
    *names, whole = [f"{unknown.vocabulary_size:,}" for unknown in r.unknown]
    shares = [(_percent(unknown.share), _percent(unknown.new_text)) for unknown in r.unknown]
    rows = [(name, *pair) for name, pair in zip([*names, f"all {whole}"], shares, strict=True)]
    return _columns([("vocabulary", "unknown here", "in new text (estimated)"), *rows], right=3)


def _examples(r: CorpusReport) -> list[str]:
    titled: dict[str, list[tuple[str, ...]]] = {
        "most frequent tokens": [(f"{t.count:,} times", t.text) for t in r.most_frequent],
        "longest tokens": [(f"{t.n_bytes:,} bytes", t.text) for t in r.longest_tokens],
        "most repeated sentences": [(f"{s.count:,} times", f"first is {s.number:,}", s.text) for s in r.most_repeated],
        "longest sentences": [(f"{s.tokens:,} tokens", f"number {s.number:,}", s.text) for s in r.longest_sentences],
    }
    return [
        line
        for title, rows in titled.items()
        if rows
        for line in (title, *(f"  {_printable(row)}" for row in _columns(rows, right=len(rows[0]) - 1)))
    ]


def _columns(rows: Sequence[tuple[str, ...]], right: int = 0) -> list[str]:
    """Rows with aligned columns, the first ``right`` of them to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            text.rjust(width) if number < right else text.ljust(width)
            for number, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _spread(d: Distribution) -> str:
    return (
        f"mean {d.mean:.1f}, median {d.median:,}; 95 % have up to {d.percentile_95:,}, 99 % up to {d.percentile_99:,}, "
        f"all up to {d.largest:,}"
    )


def _percent(share: float) -> str:
    return "less than 0.01 %" if 0 < share < 0.0001 else f"{100 * share:.2f} %"


def _printable(text: str) -> str:
    """Text that cannot move the cursor of a terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) == "Cc" else c for c in text)
