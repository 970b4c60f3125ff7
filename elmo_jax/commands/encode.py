"""``elmo encode``: encode text ahead of training."""

import argparse
from pathlib import Path

from elmo_jax.commands import beam_arguments, report_arguments, segmentation_arguments, text_arguments
from elmo_jax.commands.termination import sigterm_cleans_up

NAME = "encode"
SUMMARY = "Encode text ahead of training."
DETAILS = """\
Training does this by itself when the encoded corpus is missing. It is found again by paths, sizes and modification
times of the shards. A report says what the text holds: sentences, types, unknown words at several vocabulary sizes,
bytes of a character, cropped tokens, repetitions; docs/corpora.md reads one. --beam encodes on a cluster, to the same
bytes.

  elmo encode --text 'corpus/*.txt' --output encoded
  elmo train ... --config.data.train='corpus/*.txt' --config.data.cache_dir=encoded
  elmo encode --tfds lm1b --split train --output encoded
  elmo encode --text 'raw/*.zst' --tokenizer moses --language de --output encoded --report report.json
  elmo encode --text 'gs://bucket/*.zst' --output encoded --beam='--runner=DataflowRunner --project=me ...'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    text_arguments.add(parser)
    beam_arguments.add(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="the directory of encoded corpora")
    segmentation_arguments.add(parser)
    report_arguments.add(parser)


def run(options: argparse.Namespace) -> int:
    """Encode text ahead of training."""
    report_arguments.check(options)
    segmentation = segmentation_arguments.segmentation(options)
    with sigterm_cleans_up():
        if options.beam is None:
            from elmo_jax.data.corpus import prepare

            beam_arguments.refuse_remote(options)
            corpus = prepare(text_arguments.source(options, segmentation), Path(options.output))
        else:
            from elmo_jax.data.beam import corpus as by_beam

            corpus = by_beam.prepare(beam_arguments.text(options), segmentation, Path(options.output), options.beam)
    print(
        f"{corpus.directory}: {corpus.n_tokens:,} tokens, {corpus.n_sentences:,} sentences, "
        f"{corpus.n_documents:,} documents, {corpus.n_token_types:,} types; {corpus.n_empty_lines:,} empty lines "
        f"skipped; the longest token has {corpus.longest_token_bytes:,} bytes"
    )
    report_arguments.give(options, corpus)
    return 0
