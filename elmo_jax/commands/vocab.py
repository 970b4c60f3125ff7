"""``elmo vocab``: build a vocabulary from text shards."""

import argparse
from pathlib import Path

from elmo_jax.commands import text_arguments
from elmo_jax.errors import UserError

NAME = "vocab"
SUMMARY = "Build a vocabulary from text."
DETAILS = """\
Writes one word a line: <S>, </S>, <UNK>, then by falling count; the counts, which the adaptive softmax needs, go
beside it (vocab.txt -> vocab.counts.txt).

  elmo vocab --text 'corpus/*.txt.gz' --output vocab.txt --min-count 3 --max-size 800000
  elmo vocab --tfds lm1b --split train --output vocab.txt"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    text_arguments.add(parser)
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="where to write; must not exist (but see --force)"
    )
    parser.add_argument("--min-count", type=int, default=1, metavar="N", help="leave out words that occur less often")
    parser.add_argument(
        "--max-size", type=int, default=800_000, metavar="N", help="words at most, with the three specials"
    )
    parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(options: argparse.Namespace) -> int:
    """Build a vocabulary from text."""
    from elmo_jax.data import vocab

    if options.min_count < 1:
        raise UserError(f"--min-count is {options.min_count}: it must be at least 1, which keeps every word")
    if options.max_size < 4:
        raise UserError(
            f"--max-size is {options.max_size}: it must leave room for <S>, </S>, <UNK> and a word: at least 4"
        )
    output = Path(options.output)
    if output.exists() and not options.force:
        raise UserError(f"{output} exists; choose another --output, or give --force to replace it")
    counts = vocab.count_text(text_arguments.source(options))
    vocabulary = vocab.build(counts, options.min_count, options.max_size)
    vocabulary.save(output)
    assert vocabulary.counts is not None
    unknown, total = int(vocabulary.counts[vocabulary.unk_id]), sum(counts.values()) - 2 * counts[vocab.BOS]
    print(
        f"{output}: {len(vocabulary):,} words of {total:,} tokens in {counts[vocab.BOS]:,} sentences; "
        f"{unknown:,} tokens ({100 * unknown / total:.2f} %) are out of it"
    )
    return 0
