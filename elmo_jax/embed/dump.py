"""The vectors of a whole text in an HDF5 file: in memory that does not grow with it, and gone on with after a kill."""

import dataclasses
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import h5py
import numpy.typing as npt

from elmo_jax.data.segmentation import Segmentation
from elmo_jax.digest import digest
from elmo_jax.embed.dump_array import ArrayLayout
from elmo_jax.embed.dump_lines import LineLayout
from elmo_jax.embed.embedder import Embedder
from elmo_jax.embed.growing_hdf5 import GrowingHDF5
from elmo_jax.embed.results import Layers, Pooling
from elmo_jax.embed.sentences import Line, Sentence, cut_line
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained

Array = npt.NDArray[Any]

# A kill costs at most so much work.
COMMIT_SECONDS = 10.0


@dataclass(frozen=True)
class DumpOptions:
    """What is written.

    Attributes:
        layers: as for ``Embedder.embed``.
        pooling: as for ``Embedder.embed``.
        dtype: of the file.
        layout: bilm-tf's dataset for every sentence (``dump_lines``), or one array (``dump_array``).
        keys: of bilm-tf's layout: lines, or the sentences themselves.
        index: of bilm-tf's layout: AllenNLP's ``sentence_to_index``.
        compression: a filter of HDF5.
        stateful: each sentence starts from the state that the one before it left, as bilm-tf has it.
    """

    layers: Layers = "all"
    pooling: Pooling | None = None
    dtype: Literal["float32", "float16"] = "float32"
    layout: Literal["lines", "array"] = "lines"
    keys: Literal["lines", "sentences"] = "lines"
    index: bool = False
    compression: Literal["gzip", "lzf"] | None = None
    stateful: bool = False


@dataclass(frozen=True)
class Dumped:
    """What was done.

    Attributes:
        lines: of the text, in the file.
        sentences: in the file.
        tokens: in the file.
        resumed: lines that were there already.
        complete: whether that is all; otherwise it was told to stop, and the same call goes on.
    """

    lines: int
    sentences: int
    tokens: int
    resumed: int
    complete: bool


class Layout(Protocol):
    """How vectors lie in a file."""

    def note(self, sentence: Sentence) -> None:
        """Take note of a sentence that was written before."""

    def write(self, sentence: Sentence, vectors: Array) -> None:
        """Write the vectors of a sentence."""

    def write_empty(self, line: int) -> None:
        """Tell of a line without a sentence."""

    def flush(self) -> None:
        """Hand all that was written to the file."""

    def finish(self) -> None:
        """Write what is known at the end only."""


def dump(
    embedder: Embedder,
    lines: Iterable[str],
    path: Path,
    options: DumpOptions | None = None,
    *,
    segmentation: Segmentation | None = None,
    overwrite: bool = False,
    on_line: Callable[[Line], object] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> Dumped:
    """Write the vectors of all sentences of a text.

    The file appears when it is complete. Until then what is done lies beside it (``GrowingHDF5``), and the same call
    goes on from there: it reads the lines that are done once more and makes sure that they are the same.

    Args:
        embedder: of the model.
        lines: of the text.
        path: of the file.
        options: what is written; None for bilm-tf's dump.
        segmentation: how lines are cut into sentences and tokens; None is as the model was trained.
        overwrite: a file that is there may be replaced.
        on_line: told of every line when it is done.
        stop: asked after every sentence whether to stop.

    Raises:
        UserError: for a file that exists, another text, model or options than the file was begun with, and wishes that
            the model or the layout cannot fulfil.

    Example:
        >>> dump(Embedder.from_pretrained("runs/quickstart"), ["A sentence .", "Another one ."], Path("out.hdf5"))
    """
    options, cut = options or DumpOptions(), segmentation or embedder.segmentation
    _refuse_nonsense(options)
    [empty] = embedder.embed([[]], options.layers, pooling=options.pooling)
    asked = {"model": fingerprint(embedder.pretrained), "text cut by": cut.variant, **_readable(options)}
    with GrowingHDF5(path, asked, overwrite=overwrite) as growing:
        within_lines = cut.sentences != "lines"
        layout = _layout(growing.file, options, empty, within_lines)
        numbered = (cut_line(cut, within_lines, number, text) for number, text in enumerate(lines))
        job = _Job(embedder, options, growing, layout, on_line)
        job.skip(numbered)
        if job.run(numbered, stop):
            layout.finish()
            growing.complete(job.progress)
            return job.result(complete=True)
        job.commit()
        return job.result(complete=False)


class _Job:
    """A text on its way into a file."""

    def __init__(
        self,
        embedder: Embedder,
        options: DumpOptions,
        growing: GrowingHDF5,
        layout: Layout,
        on_line: Callable[[Line], object],
    ) -> None:
        self._embedder, self._options, self._growing = embedder, options, growing
        self._layout, self._on_line = layout, on_line
        self._counts = dict.fromkeys(("lines", "sentences", "tokens"), 0)
        self._text = hashlib.blake2b(digest_size=16)
        self._state: dict[str, Array] | None = growing.arrays or None
        self._resumed = 0

    @property
    def progress(self) -> dict[str, Any]:
        return {**self._counts, "text": self._text.hexdigest()}

    def result(self, *, complete: bool) -> Dumped:
        return Dumped(**self._counts, resumed=self._resumed, complete=complete)

    def commit(self) -> None:
        self._layout.flush()
        self._growing.commit(self.progress, self._state)

    def skip(self, lines: Iterator[Line]) -> None:
        """Pass over the lines that are done."""
        done = self._growing.progress
        if done is None:
            return
        while self._counts["lines"] < done["lines"] and (line := next(lines, None)) is not None:
            for sentence in line.sentences:
                self._layout.note(sentence)
                self._count(sentence)
            self._finish(line)
        self._resumed = self._counts["lines"]
        if self.progress != done:
            raise UserError(
                f"{self._growing.path}.partial was begun with another text: its first {done['lines']} lines are not "
                "those of this one; give the same to go on, remove it to begin anew, or name another file"
            )

    def run(self, lines: Iterator[Line], stop: Callable[[], bool]) -> bool:
        """Write all lines; False when it was stopped."""
        waiting: deque[Line] = deque()
        results = self._vectors(self._sentences(lines, waiting))
        committed = time.monotonic()
        while True:
            # The vectors of a line's first sentence are asked for before the line is known to be there.
            vectors = next(results, None)
            while waiting and not waiting[0].sentences:
                line = waiting.popleft()
                self._layout.write_empty(line.number)
                self._finish(line)
            if vectors is None:
                return True
            line = waiting.popleft()
            for number, sentence in enumerate(line.sentences):
                self._layout.write(sentence, vectors if number == 0 else next(results))
                self._count(sentence)
            self._finish(line)
            if stop():
                return False
            if time.monotonic() - committed >= COMMIT_SECONDS:
                self.commit()
                committed = time.monotonic()

    def _sentences(self, lines: Iterator[Line], waiting: deque[Line]) -> Iterator[list[str]]:
        for line in lines:
            waiting.append(line)
            yield from (sentence.tokens for sentence in line.sentences)

    def _vectors(self, sentences: Iterator[list[str]]) -> Iterator[Array]:
        layers, pooling = self._options.layers, self._options.pooling
        if not self._options.stateful:
            yield from self._embedder.stream(sentences, layers, pooling=pooling)
            return
        for sentence in sentences:
            [vectors], self._state = self._embedder.embed(
                [sentence], layers, pooling=pooling, stateful=True, state=self._state
            )
            yield vectors

    def _count(self, sentence: Sentence) -> None:
        self._counts["sentences"] += 1
        self._counts["tokens"] += len(sentence.tokens)

    def _finish(self, line: Line) -> None:
        self._counts["lines"] += 1
        self._text.update(line.text.encode() + b"\n")
        self._on_line(line)


def fingerprint(pretrained: Pretrained) -> str:
    """32 hexadecimal digits that tell models apart: of architecture, weights and, of a model of words, its words."""
    parts: list[Any] = [dataclasses.asdict(pretrained.config.model), digest(pretrained.params)]
    if pretrained.config.model.input == "words":
        parts.append(pretrained.words().words)
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def _layout(file: h5py.File, options: DumpOptions, empty: Array, within_lines: bool) -> Layout:
    if options.layout == "lines":
        return LineLayout(file, options.dtype, options.compression, keys=options.keys, index=options.index)
    pooled = options.pooling is not None
    return ArrayLayout(file, options.dtype, options.compression, empty=empty, pooled=pooled, within_lines=within_lines)


def _refuse_nonsense(options: DumpOptions) -> None:
    if options.layout == "array" and (options.index or options.keys != "lines"):
        raise UserError("sentences have no names in one array: leave out --sentence-to-index and --use-sentence-keys")
    if options.index and options.keys != "lines":
        raise UserError("with --use-sentence-keys a sentence is its own name: leave out --sentence-to-index")


def _readable(options: DumpOptions) -> dict[str, Any]:
    return {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        for name, value in vars(options).items()
    }
