"""The encoded corpus: memory-mapped arrays, found in a cache or made there."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from elmo_jax.data import processes
from elmo_jax.data.encoding import COLUMNS, FORMAT, HEADER, column_path, encode, encode_numbered
from elmo_jax.data.lines import Advance, Sentence
from elmo_jax.data.numbering import Numbered, number, number_parts
from elmo_jax.data.progress import Progress
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import Source, text_source
from elmo_jax.errors import UserError

if TYPE_CHECKING:
    from elmo_jax.data.vocab import Vocabulary

__all__ = ["Corpus", "encode", "open_corpus", "prepare"]

log = logging.getLogger(__name__)

TYPES_AT_ONCE = 1 << 14
# Bytes of files that are encoded before other processes would be ready.
SMALL_TEXT = 8 << 20


@dataclass(frozen=True, eq=False)
class Corpus:
    """Text as type ids in prediction coordinates (docs/design.md); the arrays are memory-mapped and read-only.

    Attributes:
        directory: where it is stored.
        fingerprint: a hash of the contents.
        ids: int32 ``[n_predictions + 1]`` type ids, with a boundary (0) before, between and after the sentences.
        starts: int64 ``[n_sentences + 1]``: positions in ``ids`` of the boundaries: before each sentence, and the last.
        documents: int64 ``[n_documents + 1]``: the first sentence of each document, and n_sentences.
        type_bytes: uint8: UTF-8 of all types, one after the other. Type 0 is ``<S>``, 1 is ``</S>``, the others
            follow by (byte length, bytes).
        type_offsets: int64 ``[n_types + 1]``: where the bytes of each type start.
        type_counts: int64 ``[n_types]``: how often each is predicted in one direction.
        n_empty_lines: empty lines of the text, which are no sentences.
        longest_token_bytes: bytes of the longest type.
    """

    directory: Path
    fingerprint: str
    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    type_bytes: npt.NDArray[np.uint8]
    type_offsets: npt.NDArray[np.int64]
    type_counts: npt.NDArray[np.int64]
    n_empty_lines: int
    longest_token_bytes: int

    @property
    def n_predictions(self) -> int:
        """Predictions of one direction: every token, and a boundary for every sentence."""
        return len(self.ids) - 1

    @property
    def n_sentences(self) -> int:
        """Sentences of at least one token."""
        return len(self.starts) - 1

    @property
    def n_tokens(self) -> int:
        """Tokens, without boundaries."""
        return self.n_predictions - self.n_sentences

    @property
    def n_documents(self) -> int:
        """Runs of sentences between empty lines or ends of shards."""
        return len(self.documents) - 1

    @property
    def n_types(self) -> int:
        """Distinct tokens, and the two boundaries."""
        return len(self.type_counts)

    @property
    def n_token_types(self) -> int:
        """Distinct tokens, without boundaries."""
        return self.n_types - 2

    def word(self, type_id: int) -> str:
        """The token of a type."""
        start, end = self.type_offsets[type_id : type_id + 2]
        return self.type_bytes[start:end].tobytes().decode()

    def words(self) -> Iterator[str]:
        """The tokens of all types; see ``words_of``."""
        return words_of(self.type_bytes, self.type_offsets)

    def first(self, n_predictions: int) -> "Corpus":
        """The first sentences, at least one and as many as have at most ``n_predictions`` predictions.

        The types stay those of the whole corpus; ``type_counts`` is of the part.
        """
        n = max(1, int(np.searchsorted(self.starts, n_predictions, side="right")) - 1)
        if n >= self.n_sentences:
            return self
        ids = self.ids[: self.starts[n] + 1]
        counts = np.bincount(ids, minlength=self.n_types)
        counts[:2] = n
        return replace(
            self,
            fingerprint=f"{self.fingerprint}:{n}",
            ids=ids,
            starts=self.starts[: n + 1],
            documents=np.append(self.documents[self.documents < n], n),
            type_counts=counts,
        )

    def word_ids(self, vocabulary: "Vocabulary") -> npt.NDArray[np.int32]:
        """int32 ``[n_types]``: the vocabulary id of each type, that of ``<UNK>`` where it has none."""
        return np.fromiter(map(vocabulary.id, self.words()), np.int32, self.n_types)


def words_of(type_bytes: npt.NDArray[np.uint8], type_offsets: npt.NDArray[np.int64]) -> Iterator[str]:
    """The tokens of all types, one after the other: lists of them all would outweigh the model."""
    for first in range(0, len(type_offsets) - 1, TYPES_AT_ONCE):
        offsets = type_offsets[first : first + TYPES_AT_ONCE + 1].tolist()
        data, begin = type_bytes[offsets[0] : offsets[-1]].tobytes(), offsets[0]
        for start, end in pairwise(offsets):
            yield data[start - begin : end - begin].decode()


def prepare(source: Source, cache_dir: Path, *, progress: bool = True) -> Corpus:
    """The encoded corpus of a source: opened where it is, or where an earlier run left it, else encoded now.

    Its directory in ``cache_dir`` is named by a hash of the files' paths, sizes and modification times, and of the
    source's variant.

    Raises:
        UserError: what reading, writing and opening raise.
    """
    if source.encoded is not None:
        return open_prepared(source.encoded, source.name)
    try:
        stats = [(path.resolve(), path.stat()) for path in source.files]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    files = [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]
    directory = Path(cache_dir) / cache_name(source.name, source.variant, files)
    if not directory.exists():
        total = sum(stat.st_size for _, stat in stats)
        with (
            Progress(f"encoding {source.name}", total, shown=progress) as bar,
            contextlib.closing(_numbered(source, bar.advance, total)) as pieces,
        ):
            encode_numbered(pieces, directory, source.title)
    return open_prepared(directory, source.name)


def text_or_corpus(globs: str, segmentation: Segmentation) -> Source:
    """The text shards that match ``globs``, or an encoded corpus when ``globs`` is its directory.

    How the text of a corpus was cut, nobody knows; it is taken as it is.

    Raises:
        UserError: what ``text.expand`` raises.
    """
    directory = Path(globs.strip()).expanduser()
    if not globs.strip() or not (directory / HEADER).is_file():
        return text_source(globs, segmentation)
    return Source("text", (directory / HEADER,), lambda advance: _sentences(directory), encoded=directory)


def _sentences(directory: Path) -> Iterator[Sentence]:
    """The sentences of an encoded corpus, with None at the end of each document."""
    corpus = open_corpus(directory)
    ends = set(corpus.documents[1:].tolist())
    for sentence, (start, end) in enumerate(pairwise(map(int, corpus.starts)), 1):
        yield [corpus.word(type_id) for type_id in corpus.ids[start + 1 : end]]
        if sentence in ends:
            yield None


def cache_name(name: str, variant: str, files: Iterable[tuple[str, int, int]]) -> str:
    """What the encoded corpus of a source is called in a cache.

    Args:
        name: of the source.
        variant: of the source.
        files: path, size and time of modification (in nanoseconds) of each of its files.
    """
    state = [FORMAT, variant, sorted(files)]
    key = hashlib.blake2b(json.dumps(state).encode(), digest_size=6).hexdigest()
    return f"{name}-{key}"


def open_prepared(directory: Path, name: str) -> Corpus:
    """Open the corpus of a source by its name, and say what is in it. Raises what ``open_corpus`` raises."""
    corpus = open_corpus(directory)
    log.info(
        "%s: %d tokens, %d sentences, %d types, %d empty lines (%s)",
        *(name, corpus.n_tokens, corpus.n_sentences, corpus.n_token_types, corpus.n_empty_lines, directory),
    )
    return corpus


def _numbered(source: Source, advance: Advance, n_bytes: int) -> Generator[Numbered, None, None]:
    """The pieces of a text, numbered by all cores when there are enough of them to wait for their processes."""
    if source.pieces is None:
        yield from number_parts(source.read(advance))
        return
    pieces, n = source.pieces(advance), processes.available()
    yield from processes.ordered_map(number, pieces, n) if n > 1 and n_bytes >= SMALL_TEXT else map(number, pieces)


def open_corpus(directory: Path) -> Corpus:
    """Map an encoded corpus into memory.

    Raises:
        UserError: when files are missing, of another format version or not of the size that the header says.
    """
    header = _read_header(Path(directory))
    return Corpus(
        directory=Path(directory),
        fingerprint=header["fingerprint"],
        n_empty_lines=header["n_empty_lines"],
        longest_token_bytes=header["longest_token_bytes"],
        **{name: _map(Path(directory), name, header["bytes"][name]) for name in COLUMNS},
    )


def _read_header(directory: Path) -> dict[str, Any]:
    path = directory / HEADER
    try:
        header = json.loads(path.read_bytes())
        version = header["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, f"it is missing or no header ({error})") from error
    if version != FORMAT:
        raise _damaged(path, f"it has format {version}, and this version reads format {FORMAT}")
    return header


def _map(directory: Path, name: str, n_bytes: int) -> npt.NDArray[Any]:
    path = column_path(directory, name)
    found = path.stat().st_size if path.is_file() else 0
    if found != n_bytes:
        raise _damaged(path, f"it has {found} bytes instead of {n_bytes}")
    # A plain array on the mapped memory: indexing a np.memmap makes another one each time, which is slow.
    return np.asarray(np.memmap(path, COLUMNS[name], mode="r"))


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"encoded corpus: cannot use {path}: {reason}; delete the directory {path.parent}, it is rebuilt")
