"""``elmo substitutes``: the words most likely in a slot."""

import argparse
import json
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from elmo_jax.commands import line_arguments, output_arguments, segmentation_arguments
from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.embed.sentences import Sentence
    from elmo_jax.scoring.substitutes import Slot

NAME = "substitutes"
SUMMARY = "The words most likely in a slot of a sentence, from both sides of it."
DETAILS = """\
p(w | left) p(w | right) / p(w)^prior, normalised over all words but <S>, </S> and <UNK>: what stands before the slot
through the forward direction, what stands behind it through the backward one. docs/scores.md says where the prior is
from. Logarithms are natural ones; those of each direction are over the whole vocabulary, as elmo score gives them.

  elmo substitutes runs/quickstart "Return the ___ of the file ."
  elmo substitutes runs/quickstart "Return the name of the file ." --word 2 --word 5
  elmo substitutes runs/quickstart --text sentences.txt --every-word --count 3 --format json -o slots.jsonl

Words, sentences and lines are counted from 0. JSON tells rank and log-probability of the word that stands in the slot
too. Another slot of the same sentence is read as it stands there: mark one slot a sentence."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a run directory or any other model with a softmax")
    parser.add_argument("sentence", metavar="SENTENCE", nargs="?", help="a sentence")
    parser.add_argument("--text", metavar="TEXT", help=f"instead of SENTENCE: {line_arguments.TEXT_HELP}")
    slots = parser.add_mutually_exclusive_group()
    slots.add_argument("--slot", default="___", metavar="MARK", help="the token that marks a slot (default ___)")
    slots.add_argument("--word", type=int, action="append", metavar="N", help="the slot is word N, from 0; repeatable")
    slots.add_argument("--every-word", action="store_true", help="every word is a slot")
    parser.add_argument("--count", type=int, default=10, metavar="K", help="words for a slot (default 10)")
    parser.add_argument(
        "--prior",
        type=float,
        metavar="X",
        help="how much the frequency of a word counts: 0 is the plain product (default 0.75, without counts 0)",
    )
    parser.add_argument("--format", choices=("tsv", "json"), default="tsv", help="of the lines (default tsv)")
    output_arguments.add(parser)
    parser.add_argument("--step", type=int, metavar="N", help="of a run: this checkpoint instead of the best one")
    segmentation_arguments.add(parser, of_run=True)


def run(options: argparse.Namespace) -> int:
    """Find substitutes."""
    from elmo_jax import compilation_cache
    from elmo_jax.embed.sentences import cut_line
    from elmo_jax.scoring.substitutes import Substitutes

    output_arguments.check(options)
    if (options.sentence is None) == (options.text is None):
        raise UserError("give one SENTENCE, or --text with many; see elmo substitutes --help")
    files = line_arguments.files(options.text) if options.text is not None else []
    compilation_cache.enable()
    substitutes = Substitutes.from_pretrained(options.model, options.step, options.prior)
    cut = line_arguments.segmentation(options, substitutes.scorer.pretrained)
    waiting: deque[Sentence] = deque()
    with (
        line_arguments.read(files, cut, "finding substitutes") as (read, progress),
        output_arguments.opened(options) as file,
    ):
        lines = read if options.sentence is None else [options.sentence]

        def sentences() -> Iterator[tuple[list[str], tuple[int, ...]]]:
            for number, text in enumerate(lines):
                for sentence in cut_line(cut, True, number, text).sentences:
                    waiting.append(sentence)
                    yield sentence.tokens, _slots(options, sentence)
                progress.advance(line_arguments.line_bytes(text))

        directions = substitutes.scorer.directions
        if options.format == "tsv":
            columns = ("line", "sentence", "position", "token", "rank", "word", "log_prob", *directions)
            file.write("\t".join(columns) + "\n")
        number = -1
        for slot in substitutes.stream(sentences(), k=options.count):
            while number < slot.sentence:
                sentence, number = waiting.popleft(), number + 1
            file.writelines(_rows(options.format, sentence, slot))
        if number < 0:
            raise UserError("there is no sentence: give text with words in it")
    return 0


def _slots(options: argparse.Namespace, sentence: "Sentence") -> tuple[int, ...]:
    tokens, shown = sentence.tokens, " ".join(sentence.tokens)[:60]
    if options.every_word:
        return tuple(range(len(tokens)))
    if options.word:
        for number in options.word:
            if not 0 <= number < len(tokens):
                raise UserError(
                    f"--word is {number}, and '{shown}' has {len(tokens)} words: use 0 to {len(tokens) - 1}"
                )
        return tuple(options.word)
    found = tuple(number for number, token in enumerate(tokens) if token == options.slot)
    if not found:
        inside = next((token for token in tokens if options.slot in token), None)
        hint = f"put spaces around it in '{inside}'" if inside else "mark it, or give --word or --every-word"
        raise UserError(f"line {sentence.line}, '{shown}', has no token {options.slot}, the mark of a slot: {hint}")
    return found


def _rows(kind: str, sentence: "Sentence", slot: "Slot") -> Iterator[str]:
    place = {"line": sentence.line, "sentence": sentence.number or 0, "position": slot.position, "token": slot.token}
    if kind == "json":
        words = [
            {
                "word": word,
                "log_prob": _rounded(slot.log_prob[i]),
                **{direction: _rounded(values[i]) for direction, values in slot.by_direction.items()},
            }
            for i, word in enumerate(slot.words)
        ]
        own = {"rank": slot.rank, "log_prob": None if slot.rank is None else _rounded(slot.token_log_prob)}
        yield json.dumps({**place, **own, "words": words}, ensure_ascii=False) + "\n"
        return
    for i, word in enumerate(slot.words):
        each = (f"{values[i]:.6f}" for values in slot.by_direction.values())
        yield "\t".join([*map(str, place.values()), str(i + 1), word, f"{slot.log_prob[i]:.6f}", *each]) + "\n"


def _rounded(value: Any) -> float:
    return round(float(value), 6)
