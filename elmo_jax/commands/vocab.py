"""``elmo vocab``: build a vocabulary from text shards."""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from elmo_jax.commands import beam_arguments, report_arguments, segmentation_arguments, text_arguments
from elmo_jax.commands.termination import sigterm_cleans_up
from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.data.vocab import Vocabulary

NAME = "vocab"
SUMMARY = "Build a vocabulary from text."
DETAILS = """\
Writes one word a line: <S>, </S>, <UNK>, then by falling count. The counts, which the adaptive softmax needs, go
beside it (vocab.txt -> vocab.counts.txt), and the name of the tokeniser (vocab.tokenizer.txt). A report says what the
text holds, unknown words at several vocabulary sizes among it; docs/corpora.md reads one.

The text is encoded on the way, as training does it, which takes about as much disk as the text: beside the output for
as long as the command runs, or to stay in --cache-dir. --beam counts on a cluster and encodes nothing.

  elmo vocab --text 'corpus/*.txt.gz' --output vocab.txt --min-count 3 --max-size 800000 --report report.json
  elmo vocab --tfds lm1b --split train --output vocab.txt
  elmo vocab --text 'raw/*.txt' --tokenizer unicode --sentences unicode --output vocab.txt
  elmo vocab --text 'gs://bucket/*.zst' --output vocab.txt --beam='--runner=DataflowRunner --project=me ...'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    text_arguments.add(parser)
    beam_arguments.add(parser)
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="where to write; must not exist (but see --force)"
    )
    parser.add_argument("--min-count", type=int, default=1, metavar="N", help="leave out words that occur less often")
    parser.add_argument(
        "--max-size", type=int, default=800_000, metavar="N", help="words at most, with the three specials"
    )
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="of encoded corpora, as config.data.cache_dir (default: a temporary one)"
    )
    segmentation_arguments.add(parser)
    report_arguments.add(parser)


def run(options: argparse.Namespace) -> int:
    """Build a vocabulary from text."""
    from elmo_jax.data.corpus import prepare
    from elmo_jax.data.vocab import build_from_types

    _check(options)
    output, segmentation = Path(options.output), segmentation_arguments.segmentation(options)
    limits = (options.min_count, options.max_size, segmentation.tokens)
    if options.beam is not None:
        from elmo_jax.data.beam.corpus import count

        with sigterm_cleans_up():
            place = _folder(output) / ".elmo-vocab"
            counted = count(beam_arguments.text(options), segmentation, place, options.beam)
            vocabulary = build_from_types(counted.words(), counted.type_counts, *limits)
            _save(vocabulary, output, counted.n_tokens, counted.n_sentences)
        return 0
    beam_arguments.refuse_remote(options)
    source = text_arguments.source(options, segmentation)
    with sigterm_cleans_up(), _cache(options.cache_dir, output) as cache:
        corpus = prepare(source, cache)
        vocabulary = build_from_types(corpus.words(), corpus.type_counts, *limits)
        _save(vocabulary, output, corpus.n_tokens, corpus.n_sentences)
        report_arguments.give(options, corpus)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse, before the long work, what is wrong with the arguments.

    Raises:
        UserError: naming one.
    """
    from elmo_jax.data.vocab import counts_path, tokenizer_path

    if options.min_count < 1:
        raise UserError(f"--min-count is {options.min_count}: it must be at least 1, which keeps every word")
    if options.max_size < 4:
        raise UserError(
            f"--max-size is {options.max_size}: it must leave room for <S>, </S>, <UNK> and a word: at least 4"
        )
    output = Path(options.output)
    if output.exists() and not options.force:
        raise UserError(f"{output} exists; choose another --output, or give --force to replace it")
    report_arguments.check(options)
    results = {path.resolve() for path in (output, counts_path(output), tokenizer_path(output))}
    if options.report is not None and Path(options.report).resolve() in results:
        raise UserError(f"--report {options.report} is a file of the vocabulary; choose another --report")
    for name in ("report", "cache_dir"):
        if options.beam is not None and getattr(options, name) is not None:
            raise UserError(
                f"--{name.replace('_', '-')} takes encoded text, and elmo vocab --beam only counts: leave it out, or "
                "run elmo encode --beam, which reports, and elmo vocab with --text the folder that makes"
            )


def _save(vocabulary: "Vocabulary", output: Path, n_tokens: int, n_sentences: int) -> None:
    vocabulary.save(output)
    assert vocabulary.counts is not None
    unknown = int(vocabulary.counts[vocabulary.unk_id])
    print(
        f"{output}: {len(vocabulary):,} words of {n_tokens:,} tokens in {n_sentences:,} sentences; "
        f"{unknown:,} tokens ({100 * unknown / n_tokens:.2f} %) are out of it"
    )


@contextlib.contextmanager
def _cache(directory: str | None, output: Path) -> Iterator[Path]:
    """The directory of encoded corpora; without one a temporary directory where the output will be."""
    if directory is not None:
        yield Path(directory)
        return
    try:
        temporary = tempfile.TemporaryDirectory(prefix=".elmo-vocab-", dir=_folder(output))
    except OSError as error:
        raise UserError(f"cannot write {output}: {error.strerror or error}; choose another place") from error
    with temporary:
        yield Path(temporary.name)


def _folder(output: Path) -> Path:
    """The folder where the output will be, or the one where that will be made."""
    return next(parent for parent in output.absolute().parents if parent.is_dir())
