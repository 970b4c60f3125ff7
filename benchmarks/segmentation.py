"""Speed of every way to cut raw text into sentences and tokens, on one core, in JSON lines.

    python benchmarks/segmentation.py FILE [language]

The file is plain text; its first lines are taken, about a megabyte. Rates are of the best of three; ``encode`` is the
whole way from the file to an encoded corpus. ``uniseg`` are the rules as that package applies them itself, on a
hundredth of the lines.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from timing import seconds
from uniseg.sentencebreak import sentences
from uniseg.wordbreak import words

from elmo_jax.data.corpus import encode, open_corpus
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import read_sentences

BYTES = 1_000_000


def report(what: str, lines: list[str], cut: Callable[[str], Iterable[object]], **more: float) -> None:
    """Measure one way to cut lines."""
    taken = seconds(lambda: [list(cut(line)) for line in lines])
    n_characters = sum(map(len, lines))
    print(json.dumps({"what": what, "characters_per_second": round(n_characters / taken), **more}), flush=True)


def main() -> None:
    """Every tokeniser with every kind of sentences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("language", nargs="?", default="en")
    options = parser.parse_args()
    language: str = options.language
    with options.file.open(encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file.readlines(BYTES)]
    for tokenizer in ("whitespace", "unicode", "moses"):
        for kind in ("lines", "unicode"):
            cut = Segmentation(tokenizer, kind, language if tokenizer == "moses" else "en")
            tokens = sum(len(sentence) for line in lines for sentence in cut(line))
            with tempfile.TemporaryDirectory() as name:
                shard, corpus = Path(name, "shard.txt"), Path(name, "corpus")
                shard.write_text("\n".join(lines), encoding="utf-8")
                begin = time.perf_counter()
                encode(read_sentences([shard], segmentation=cut), corpus)
                encoding = time.perf_counter() - begin
                assert open_corpus(corpus).n_tokens == tokens
            report(
                f"{cut.tokens}, {kind}", lines, cut, tokens=tokens, encode_tokens_per_second=round(tokens / encoding)
            )
    few = lines[: max(1, len(lines) // 100)]
    report("uniseg words", few, words)
    report("uniseg sentences", few, sentences)


if __name__ == "__main__":
    main()
