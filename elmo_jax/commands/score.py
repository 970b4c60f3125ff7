"""``elmo score``: log-probabilities of the words of a text."""

import argparse
import json
import sys
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from elmo_jax.commands import line_arguments, output_arguments, segmentation_arguments
from elmo_jax.commands.evaluate import describe
from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.embed.sentences import Sentence
    from elmo_jax.scoring.scorer import SentenceScore
    from elmo_jax.train.evaluate import Perplexity

NAME = "score"
SUMMARY = "Log-probability of every word of a text, perplexity of every sentence."
DETAILS = """\
Natural logarithms under the full normalised distribution: forward of each word and </S> given what stands before it,
backward of <S> and each word given what stands behind it. Words out of the vocabulary are scored as <UNK> and marked
(known 0). Lines are counted from 0; empty ones are passed over. The perplexity of the whole, which is that of elmo eval
--stateless (with --carried: of --streams 1), comes at the end, on standard error when the scores go to standard output.

  elmo score runs/quickstart text.txt                             a line for every word
  elmo score runs/quickstart text.txt --format sentences          a line for every sentence
  elmo score runs/quickstart text.txt --format json -o scores.jsonl
  echo "Return the name of the file ." | elmo score runs/quickstart -

docs/scores.md has the columns and an example of their use."""

FORMATS = ("tsv", "sentences", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a run directory or any other model with a softmax")
    parser.add_argument("text", metavar="TEXT", help=line_arguments.TEXT_HELP)
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="tsv",
        help="tab-separated, a line a word (default) or a line a sentence; or a JSON object a sentence, the sums last",
    )
    parser.add_argument(
        "--carried", action="store_true", help="each sentence starts from the state that the one before it left"
    )
    output_arguments.add(parser)
    parser.add_argument("--step", type=int, metavar="N", help="of a run: this checkpoint instead of the best one")
    segmentation_arguments.add(parser, of_run=True)


def run(options: argparse.Namespace) -> int:
    """Score a text."""
    from elmo_jax import compilation_cache
    from elmo_jax.embed.sentences import cut_line
    from elmo_jax.scoring.scorer import Scorer, Total

    output_arguments.check(options)
    files = line_arguments.files(options.text)
    compilation_cache.enable()
    scorer = Scorer.from_pretrained(options.model, options.step)
    cut = line_arguments.segmentation(options, scorer.pretrained)
    total = Total(carried=options.carried)
    waiting: deque[Sentence] = deque()
    with (
        line_arguments.read(files, cut, f"scoring {options.text}") as (lines, progress),
        output_arguments.opened(options) as file,
    ):

        def sentences() -> Iterator[list[str]]:
            for number, text in enumerate(lines):
                for sentence in cut_line(cut, True, number, text).sentences:
                    waiting.append(sentence)
                    yield sentence.tokens
                progress.advance(line_arguments.line_bytes(text))

        directions = scorer.directions
        for row in _header(options.format, directions):
            file.write(row)
        for score in scorer.stream(sentences(), carried=options.carried):
            total.add(score)
            file.writelines(_rows(options.format, waiting.popleft(), score))
        if not total.perplexity.count:
            raise UserError(f"{options.text} has no sentence to score: give text with words in it")
        if options.format == "json":
            file.write(json.dumps({"total": total.perplexity.as_dict()}) + "\n")
    table = describe(scorer.pretrained.origin, options.text, total.perplexity)
    print(table, file=sys.stdout if options.output else sys.stderr)
    return 0


def _header(kind: str, directions: tuple[str, ...]) -> Iterator[str]:
    if kind == "tsv":
        yield _tabbed("line", "sentence", "token", "known", *directions)
    elif kind == "sentences":
        perplexities = (f"perplexity_{direction}" for direction in directions)
        yield _tabbed("line", "sentence", "words", "unknown", "perplexity", *perplexities)


def _rows(kind: str, sentence: "Sentence", score: "SentenceScore") -> Iterator[str]:
    place = (sentence.line, sentence.number or 0)
    sums = score.perplexity
    if kind == "sentences":
        values = (sums.average, *sums.by_direction.values())
        yield _tabbed(*place, sums.words, sums.oov, *(f"{value:.6g}" for value in values))
        return
    log_prob = {direction: [f"{value:.6f}" for value in values] for direction, values in score.log_prob.items()}
    if kind == "json":
        about = {"line": place[0], "sentence": place[1], "tokens": score.tokens, "known": score.known.tolist()}
        numbers = {direction: [float(value) for value in values] for direction, values in log_prob.items()}
        yield json.dumps({**about, **numbers, **_perplexities(sums)}, ensure_ascii=False) + "\n"
        return
    # Nothing is before <S> and nothing behind </S>: these have one log-probability each.
    columns = [[""] + log_prob["forward"]]
    if "backward" in log_prob:
        columns.append(log_prob["backward"] + [""])
    tokens = ["<S>", *score.tokens, "</S>"]
    known = ["", *map(str, score.known.astype(int)), ""]
    for row in list(zip(tokens, known, *columns, strict=True))[len(columns) == 1 :]:
        yield _tabbed(*place, *row)


def _perplexities(sums: "Perplexity") -> dict[str, float]:
    each = {f"perplexity_{direction}": value for direction, value in sums.by_direction.items()}
    return {"perplexity": sums.average, **each}


def _tabbed(*values: object) -> str:
    return "\t".join(map(str, values)) + "\n"
