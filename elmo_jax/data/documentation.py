"""The embedded corpus: the documentation that every Python carries, so that a first run needs no download."""

import ast
import os
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

# Packages of the standard library that are tests or hold little prose, and what is installed besides it.
SKIPPED_FOLDERS = {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}
# One sentence of this many is held out.
HELDOUT_EVERY = 20
MIN_TOKENS = 4

_TOKEN = re.compile(r"\w+(?:['.-]\w+)*|[^\w\s]")
_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z\"'(`*])")
_PARAGRAPH_END = re.compile(r"\n\s*\n")


def documentation_files() -> list[Path]:
    """The source files of the standard library and of ``pydoc_data``, in a fixed order."""
    found = []
    for folder, folders, files in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]
        found += [Path(folder, name) for name in files if name.endswith(".py")]
    return sorted(found)


def documentation_sentences(heldout: bool, advance: Callable[[int], object]) -> Iterator[list[str] | None]:
    """The sentences of all docstrings and help topics, parsed from the source files and never imported.

    A sentence belongs to the held-out or the training part by a hash of its text, so none is in both.

    Args:
        heldout: the held-out twentieth instead of the rest.
        advance: told the size in bytes of each file when it is done.

    Yields:
        The tokens of a sentence, and None at the end of each docstring or topic (a document).
    """
    for path in documentation_files():
        source = path.read_bytes()
        for text in _texts(source):
            yield from (tokens for tokens in _sentences(text) if _is_heldout(tokens) == heldout)
            yield None
        advance(len(source))


def _texts(source: bytes) -> Iterator[str]:
    """Docstrings and the values of dictionary displays (``pydoc_data.topics`` is one) that are prose."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escape sequences in sources that are not ours
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield docstring
        elif isinstance(node, ast.Dict):
            for value in node.values:
                if isinstance(value, ast.Constant) and isinstance(value.value, str) and "\n\n" in value.value:
                    yield value.value


def _sentences(text: str) -> Iterator[list[str]]:
    for paragraph in _PARAGRAPH_END.split(text):
        if ">>>" in paragraph:
            continue
        for sentence in _SENTENCE_END.split(paragraph):
            tokens = _TOKEN.findall(sentence)
            # Tables, grammars and rules are mostly punctuation.
            if len(tokens) >= MIN_TOKENS and 2 * sum(map(str.isalpha, tokens)) > len(tokens):
                yield tokens


def _is_heldout(tokens: list[str]) -> bool:
    digest = blake2b(" ".join(tokens).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELDOUT_EVERY == 0
