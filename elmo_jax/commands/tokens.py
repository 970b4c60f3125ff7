"""``elmo tokens``: the encodings of a list of words."""

import argparse
from pathlib import Path

NAME = "tokens"
SUMMARY = "Encodings of the words of a list, without context."
DETAILS = """\
Layer 0 of the model, which depends on the word alone: bilm-tf's token table (HDF5, one dataset "embedding", [words,
width], a row for each line of the list), for programs that look words up instead of reading their characters; or text
as GloVe has it, a line for each word. Of a model of words it is the table of the model.

bilm-tf's reader wants <S>, </S> and <UNK> in the list: the vocab.txt of a run or an export has them.

  elmo tokens runs/quickstart runs/quickstart/vocab.txt tokens.hdf5
  elmo tokens runs/quickstart words.txt vectors.txt.gz --format text"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a run directory or any other model")
    parser.add_argument("words", metavar="WORDS", help="a file of one word a line, such as a vocabulary")
    parser.add_argument("output", metavar="OUTPUT", help="the file to make; text is gzipped when its name ends in .gz")
    parser.add_argument("--format", choices=("hdf5", "text"), default="hdf5", help="of OUTPUT (default hdf5)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUTPUT when it is there")
    parser.add_argument("--step", type=int, metavar="N", help="of a run: this checkpoint instead of the best one")


def run(options: argparse.Namespace) -> int:
    """Write the encodings of a list of words."""
    from elmo_jax import compilation_cache
    from elmo_jax.data.text import BOS, EOS
    from elmo_jax.data.vocab import read_words
    from elmo_jax.embed import token_table
    from elmo_jax.embed.embedder import Embedder
    from elmo_jax.interop.outputs import refuse_existing_file
    from elmo_jax.telemetry import Progress

    output = Path(options.output)
    refuse_existing_file(output, overwrite=options.overwrite)
    words = read_words(Path(options.words))
    compilation_cache.enable()
    embedder = Embedder.from_pretrained(options.model, options.step)
    write = {"hdf5": token_table.write_hdf5, "text": token_table.write_text}[options.format]
    with Progress(len(words), unit="words") as progress:
        write(embedder, words, output, overwrite=options.overwrite, advance=progress.update)
    width = embedder.pretrained.config.model.lstm.projection_dim
    print(f"{output}: {len(words):,} words, {width} numbers each")
    missing = [mark for mark in (BOS, EOS) if mark not in words]
    if missing and options.format == "hdf5":
        print(f"  note: {' and '.join(missing)} not in the list: bilm-tf's reader of token tables wants them")
    vocabulary = embedder.pretrained.vocabulary
    if embedder.pretrained.config.model.input == "words" and vocabulary is not None:
        unknown = sum(word not in vocabulary.ids for word in words)
        if unknown:
            print(f"  note: {unknown:,} words are not in the model's table: they have the row of <UNK>")
    return 0
