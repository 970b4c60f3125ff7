"""Where the tokens of a line stand in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, pairwise


@dataclass(frozen=True)
class Token:
    """A token and the characters ``line[start:end]`` that it was made of.

    Attributes:
        text: what the model reads. A tokeniser may rewrite: then it is not ``line[start:end]``.
        start: of its first character in the line, counted from 0.
        end: behind its last character; equal to ``start`` when it was made of nothing.
    """

    text: str
    start: int
    end: int


def align(line: str, tokens: Sequence[str]) -> list[Token]:
    """Find the tokens of a line in their order.

    Tokens that stand in the line with only whitespace between them are found exactly. Where a tokeniser rewrote, left
    out or added characters, the longest common runs of characters are matched, and a token whose characters have no
    counterpart gets those of the line that stand between its neighbours'.

    Example:
        >>> align("It's so.", ["It", "'s", "so", "."])[1]
        Token(text="'s", start=2, end=4)
    """
    return _exactly(line, tokens) or _nearly(line, tokens)


def _exactly(line: str, tokens: Iterable[str]) -> list[Token] | None:
    found, end = [], 0
    for token in tokens:
        start = line.find(token, end)
        if start < 0 or not (start == end or line[end:start].isspace()):
            return None
        end = start + len(token)
        found.append(Token(token, start, end))
    return found


def _nearly(line: str, tokens: Sequence[str]) -> list[Token]:
    places = [place for place, character in enumerate(line) if not character.isspace()]
    written = "".join(line[place] for place in places)
    matcher = SequenceMatcher(None, written, "".join(tokens), autojunk=False)
    # For each character of the tokens, the characters of the line that it comes from.
    origin: list[tuple[int, int]] = []
    for kind, begin, end, first, last in matcher.get_opcodes():
        origin += ((begin + i, begin + i + 1) if kind == "equal" else (begin, end) for i in range(last - first))
    found, here = [], 0
    for token, (first, last) in zip(tokens, pairwise(accumulate(map(len, tokens), initial=0)), strict=True):
        begin, end = (origin[first][0], origin[last - 1][1]) if last > first else (0, 0)
        start = places[begin] if end > begin else here
        here = places[end - 1] + 1 if end > begin else here
        found.append(Token(token, start, max(start, here)))
    return found
