"""``elmo encode``: encode text ahead of training."""

import argparse
from pathlib import Path

from elmo_jax.commands import text_arguments

NAME = "encode"
SUMMARY = "Encode text ahead of training."
DETAILS = """\
Training does this by itself when the encoded corpus is missing. It is found again by paths, sizes and modification
times of the shards.

  elmo encode --text 'corpus/*.txt' --output encoded
  elmo encode --tfds lm1b --split train --output encoded
  elmo train ... --config.data.train='corpus/*.txt' --config.data.cache_dir=encoded"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    text_arguments.add(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the directory of encoded corpora")


def run(options: argparse.Namespace) -> int:
    """Encode text ahead of training."""
    from elmo_jax.data.corpus import prepare

    corpus = prepare(text_arguments.source(options), Path(options.output))
    print(
        f"{corpus.directory}: {corpus.n_tokens:,} tokens, {corpus.n_sentences:,} sentences, "
        f"{corpus.n_documents:,} documents, {corpus.n_types:,} types; {corpus.n_empty_lines:,} empty lines skipped; "
        f"the longest token has {corpus.longest_token_bytes:,} bytes"
    )
    return 0
