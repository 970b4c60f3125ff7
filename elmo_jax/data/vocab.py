"""The vocabulary: the words that are predicted, in a bilm-tf file; their counts and their tokeniser beside it."""

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from elmo_jax.data.compression import COMPRESSED, most_unpacked, read_chunks
from elmo_jax.data.corpus import Corpus
from elmo_jax.data.lines import BOS, EOS
from elmo_jax.errors import UserError

__all__ = ["BOS", "EOS", "UNK", "Vocabulary", "build", "build_from_corpus"]

UNK = "<UNK>"
SPECIALS = (BOS, EOS, UNK)
# A line that bilm-tf skips; it stands in the vocabulary of the 1 Billion Word models.
SKIPPED_LINE = "!!!MAXTERMID"
MAX_BYTES, CHUNK_BYTES = 1 << 30, 1 << 20


class Vocabulary:
    """Words and their ids.

    Attributes:
        words: the word of each id. ``<S>``, ``</S>`` and ``<UNK>`` are among them, anywhere.
        counts: int64 ``[len(words)]`` how often each is predicted in the training text, or None when not known.
        tokenizer: what made the words from text, as ``Segmentation.tokens`` says it, or None when not known.
        ids: the id of each word.
    """

    def __init__(self, words: Sequence[str], counts: npt.ArrayLike | None = None, tokenizer: str | None = None) -> None:
        self.words, self.tokenizer = list(words), tokenizer
        self.counts: npt.NDArray[np.int64] | None = None if counts is None else np.asarray(counts, np.int64)
        self.ids = {word: number for number, word in enumerate(self.words)}
        self.bos_id, self.eos_id, self.unk_id = (self.ids[special] for special in SPECIALS)

    def __len__(self) -> int:
        return len(self.words)

    def id(self, word: str) -> int:
        """The id of a word, or that of ``<UNK>`` when it is not in the vocabulary."""
        return self.ids.get(word, self.unk_id)

    def digest(self) -> str:
        """16 hexadecimal digits that tell vocabularies apart: a hash of the words in order."""
        return blake2b("\n".join(self.words).encode(), digest_size=8).hexdigest()

    @classmethod
    def load(cls, path: Path | str) -> "Vocabulary":
        """Read a vocabulary of one word a line, and what is known beside it (``counts_path``, ``tokenizer_path``).

        A file whose name ends in ``.gz`` or ``.zst`` is decompressed.

        Raises:
            UserError: naming file and line, for what is no vocabulary or no counts of it.
        """
        path = Path(path)
        words = read_words(path)
        missing = [special for special in SPECIALS if special not in words]
        if missing:
            raise UserError(
                f"{path}: has no line {' and no line '.join(missing)} among its {len(words)}; a vocabulary needs "
                f"{', '.join(SPECIALS)}: add the missing lines at the top, or build a vocabulary with `elmo vocab`"
            )
        if len(words) == len(SPECIALS):
            raise UserError(f"{path}: holds only {', '.join(SPECIALS)}; add words, or build one with `elmo vocab`")
        counts, tokenizer = counts_path(path), tokenizer_path(path)
        return cls(
            words,
            _read_counts(counts, len(words)) if counts.exists() else None,
            "".join(_read_lines(tokenizer)) or None if tokenizer.exists() else None,
        )

    def save(self, path: Path | str) -> None:
        """Write the words, and beside them the counts and the tokeniser when known; each file is replaced as a whole.

        Raises:
            UserError: when they cannot be written.
        """
        path = Path(path)
        files: dict[Path, Iterable[str]] = {path: self.words}
        if self.counts is not None:
            files[counts_path(path)] = map(str, self.counts.tolist())
        if self.tokenizer is not None:
            files[tokenizer_path(path)] = [self.tokenizer]
        temporaries = {file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}"): file for file in files}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for temporary, file in temporaries.items():
                with temporary.open("w", encoding="utf-8", newline="\n") as stream:
                    stream.writelines(f"{line}\n" for line in files[file])
            # What was known of an earlier vocabulary must never stand beside this one.
            for beside in (counts_path(path), tokenizer_path(path)):
                beside.unlink(missing_ok=True)
            for temporary, file in temporaries.items():
                os.replace(temporary, file)
        except OSError as error:
            raise UserError(
                f"cannot write {path}: {error.strerror or error}; make room there or choose another place"
            ) from error
        finally:
            for temporary in temporaries:
                with contextlib.suppress(OSError):  # a read-only place holds no temporary
                    temporary.unlink(missing_ok=True)


def build(
    counts: Mapping[str, int] | Iterable[tuple[str, int]],
    min_count: int,
    max_size: int,
    tokenizer: str | None = None,
) -> Vocabulary:
    """The vocabulary of counted words: the specials, then words by falling count and, among equals, by the word.

    Args:
        counts: how often each token occurs; ``<S>`` and ``</S>`` are the numbers of sentences. ``<UNK>`` counts what
            the text calls so and every token left out.
        min_count: words that occur less often are left out.
        max_size: words at most, specials included.
        tokenizer: what made the tokens, as ``Segmentation.tokens`` says it, when it is known.

    Raises:
        UserError: when no word is left.
    """
    left = dict(counts)
    special_counts = [left.pop(special, 0) for special in SPECIALS]
    kept = sorted(word for word, count in left.items() if count >= min_count)
    kept.sort(key=left.__getitem__, reverse=True)  # stable: equals stay sorted by the word
    del kept[max(max_size - len(SPECIALS), 0) :]
    if not kept:
        raise UserError(
            f"no word of {len(left)} is left with min_count {min_count} and max_vocabulary {max_size}: lower "
            f"min_count (the most frequent word occurs {max(left.values(), default=0)} times) or raise max_vocabulary"
        )
    kept_counts = [left[word] for word in kept]
    special_counts[SPECIALS.index(UNK)] += sum(left.values()) - sum(kept_counts)
    return Vocabulary([*SPECIALS, *kept], [*special_counts, *kept_counts], tokenizer)


def build_from_corpus(corpus: Corpus, min_count: int, max_size: int, tokenizer: str | None = None) -> Vocabulary:
    """The vocabulary of an encoded corpus; see ``build``."""
    return build_from_types(corpus.words(), corpus.type_counts, min_count, max_size, tokenizer)


def build_from_types(
    words: Iterable[str],
    counts: npt.NDArray[np.int64],
    min_count: int,
    max_size: int,
    tokenizer: str | None = None,
) -> Vocabulary:
    """The vocabulary of types with their counts; see ``build``. Words too rare for it are never held in memory.

    Args:
        words: the types of a text, each once, of which the first are ``<S>`` and ``</S>``.
        counts: int64 ``[len(words)]``: how often each occurs.
        min_count: see ``build``.
        max_size: see ``build``.
        tokenizer: see ``build``.
    """
    least = min_count
    if len(counts) > max_size:  # with the specials, more than what the vocabulary may hold are at least as frequent
        least = max(least, int(np.partition(counts, -max_size)[-max_size]))
    is_frequent = counts >= least
    is_frequent[:2] = True
    if is_frequent.sum() <= len(SPECIALS):
        is_frequent[:] = True  # there may be no word for a vocabulary: `build` says so
    left = dict(zip(itertools.compress(words, is_frequent), counts[is_frequent].tolist(), strict=True))
    left[UNK] = left.get(UNK, 0) + int(counts[~is_frequent].sum())
    return build(left, min_count, max_size, tokenizer)


def read_words(path: Path) -> list[str]:
    """The words of a file of one word a line, each once, but for a line that bilm-tf skips.

    Raises:
        UserError: naming file and line, for an empty line, a word that was there before, and what is no text.
    """
    numbered = [(n, line) for n, line in enumerate(_read_lines(path), 1) if line != SKIPPED_LINE]
    empty = [n for n, word in numbered if not word]
    if empty:
        raise UserError(f"{path}: empty at {_lines(empty)}; a vocabulary has one word a line: remove them")
    _refuse_duplicates(path, numbered)
    return [word for _, word in numbered]


def counts_path(path: Path) -> Path:
    """The file beside a vocabulary that has its counts: ``vocab.txt`` has ``vocab.counts.txt``."""
    return path.with_name(path.name.removesuffix(".txt") + ".counts.txt")


def tokenizer_path(path: Path) -> Path:
    """The file beside a vocabulary that names its tokeniser: ``vocab.txt`` has ``vocab.tokenizer.txt``."""
    return path.with_name(path.name.removesuffix(".txt") + ".tokenizer.txt")


def _read_lines(path: Path) -> list[str]:
    """The stripped lines of a UTF-8 file, which may be compressed; only a newline ends a line."""
    data = bytearray()
    try:
        with path.open("rb") as file:
            most = min(MAX_BYTES, most_unpacked(path.stat().st_size)) if path.suffix in COMPRESSED else MAX_BYTES
            for chunk in read_chunks(path, file, CHUNK_BYTES):
                data += chunk
                if len(data) > most:
                    raise UserError(f"{path}: has more than {most:,} bytes, which is no vocabulary; name another")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: invalid UTF-8 at byte {error.start} of the file; convert it: "
            f"iconv -f <its encoding> -t UTF-8"
        ) from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")] if text else []


def _refuse_duplicates(path: Path, numbered: list[tuple[int, str]]) -> None:
    first: dict[str, int] = {}
    for number, word in numbered:
        if first.setdefault(word, number) != number:
            raise UserError(f"{path}:{number}: '{word}' is already at line {first[word]}; keep one of them")


def _read_counts(path: Path, n_words: int) -> list[int]:
    lines = _read_lines(path)
    if len(lines) != n_words:
        raise UserError(
            f"{path}: {len(lines)} counts for {n_words} words; it needs one a word in the same order: "
            f"correct or delete it"
        )
    wrong = [number for number, line in enumerate(lines, 1) if not (line.isascii() and line.isdecimal())]
    if wrong:
        raise UserError(
            f"{path}: no count at {_lines(wrong)} ('{lines[wrong[0] - 1]}'); each line is one integer: "
            f"correct or delete the file"
        )
    return [int(line) for line in lines]


def _lines(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return f"line{'s' if len(numbers) > 1 else ''} {shown}{' and more' if len(numbers) > 5 else ''}"
