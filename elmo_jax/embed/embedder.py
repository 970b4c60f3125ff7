"""Vectors of the words of sentences: any layer of a trained model, each sentence by itself or one after the other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import jax
import numpy.typing as npt

from elmo_jax.data.alignment import Token, align
from elmo_jax.embed.engine import Engine, State
from elmo_jax.embed.results import Layers, Pooling, wanted
from elmo_jax.errors import UserError
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train import trained

Array = npt.NDArray[Any]
Dtype = Literal["float32", "bfloat16", "float64"]


@dataclass(frozen=True)
class Passage:
    """A sentence of raw text.

    Attributes:
        line: number of its line in the text, from 0.
        tokens: its tokens, each with its characters in the line.
        vectors: as ``Embedder.embed`` gives them for these tokens.
    """

    line: int
    tokens: list[Token]
    vectors: Array


class Embedder:
    """Gives the layers of a biLM for tokenised sentences (ELMO_SPEC 2.7).

    The same sentence gives the same vectors up to rounding, whatever stands beside it: there is no state between
    sentences unless it is asked for. Every distinct word is encoded once and remembered. Sentences are laid one behind
    the other into rows, and programs run over windows of these rows, so that no length needs a program of its own and
    hardly anything is padded. Rows are spread over all devices.

    Several threads may use one embedder.

    Args:
        pretrained: the model.
        token_budget: positions that a device works on at a time: more need more memory.
        cache_words: words whose encodings are remembered, in host memory.
        devices: to use; None for all of this process.
        dtype: of products: "float32", exact on every device; "bfloat16", faster on some and good to about two
            digits; "float64", which needs ``jax.config.update("jax_enable_x64", True)`` and gives float64 vectors.

    Example:
        >>> embedder = Embedder.from_pretrained("runs/quickstart")
        >>> [vectors] = embedder.embed([["Every", "word", "has", "a", "vector"]])
        >>> vectors.shape                       # layers, words, both directions side by side
        (3, 5, 128)
    """

    def __init__(
        self,
        pretrained: Pretrained,
        *,
        token_budget: int = 2048,
        cache_words: int = 100_000,
        devices: Sequence[jax.Device] | None = None,
        dtype: Dtype = "float32",
    ) -> None:
        if token_budget < 1 or cache_words < 0:
            raise UserError(
                f"token_budget is {token_budget} and cache_words {cache_words}: use 1 or more, and 0 or more"
            )
        if dtype not in ("float32", "bfloat16", "float64"):
            raise UserError(f"dtype is {dtype!r}: use 'float32', 'bfloat16' or 'float64'")
        if dtype == "float64" and jax.dtypes.canonicalize_dtype("float64") != "float64":
            raise UserError("dtype 'float64' needs jax.config.update('jax_enable_x64', True) before it")
        self.pretrained, self.segmentation = pretrained, pretrained.segmentation
        self._engine = Engine(pretrained, token_budget, cache_words, devices or jax.local_devices(), dtype)

    @classmethod
    def from_pretrained(cls, path: str | Path, step: int | None = None, **options: Any) -> "Embedder":
        """The model at a path: the best weights of a run, or those of its checkpoint of a given step, or any other.

        Args:
            path: of the model.
            step: of a run: the checkpoint to take instead of the best.
            options: as for the class.

        Raises:
            UserError: when there is no model at the path, or no such checkpoint.
        """
        return cls(trained.load(Path(path), step), **options)

    @overload
    def embed(
        self,
        sentences: Iterable[Sequence[str]],
        layers: Layers = "all",
        *,
        pooling: Pooling | None = None,
        boundaries: bool = False,
        stateful: Literal[False] = False,
    ) -> list[Array]: ...

    @overload
    def embed(
        self,
        sentences: Iterable[Sequence[str]],
        layers: Layers = "all",
        *,
        pooling: Pooling | None = None,
        boundaries: bool = False,
        stateful: Literal[True],
        state: State | None = None,
    ) -> tuple[list[Array], State]: ...

    def embed(
        self,
        sentences: Iterable[Sequence[str]],
        layers: Layers = "all",
        *,
        pooling: Pooling | None = None,
        boundaries: bool = False,
        stateful: bool = False,
        state: State | None = None,
    ) -> list[Array] | tuple[list[Array], State]:
        """The vectors of all words of each sentence.

        Args:
            sentences: lists of tokens; a list may be empty.
            layers: "all"; "top"; "average" of all; the number of one, where 0 are the token encodings; a ``Mix``, or
                "mix" for the first that came with the model. A mix that normalises layers does so sentence by sentence.
            pooling: one vector instead of one a word: "mean" or "max" over the words, that of the "first" or the
                "last" word, or the "final" state of each direction: the forward half of the last word and the backward
                half of the first. Zeros for a sentence without words.
            boundaries: keep the vectors of ``<S>`` and ``</S>``, before and behind those of the words. They count in
                pooling.
            stateful: as bilm-tf and AllenNLP do it (ELMO_SPEC 2.6): sentence r starts from the state that the last
                sentence r left behind. All sentences of the call are in memory.
            state: from the call before; None for zeros.

        Returns:
            For each sentence float32 ``[tokens, D P]``, for all layers ``[n_layers + 1, tokens, D P]``, without the
            axis of tokens when they are pooled. The directions lie side by side, forward first; layer 0 is the token
            encodings, repeated for each. If stateful also the state after the call, whose rows are numbered; rows
            without a sentence are unchanged.

        Raises:
            UserError: for a sentence that is text instead of a list of tokens, and for wishes that make no sense.
        """
        if stateful:
            wishes = wanted(self.pretrained, layers, pooling, boundaries)
            return self._engine.stateful(sentences, wishes, state)
        if state is not None:
            raise UserError("a state was given without stateful=True")
        return list(self.stream(sentences, layers, pooling=pooling, boundaries=boundaries))

    def stream(
        self,
        sentences: Iterable[Sequence[str]],
        layers: Layers = "all",
        *,
        pooling: Pooling | None = None,
        boundaries: bool = False,
    ) -> Iterator[Array]:
        """The results of ``embed`` one after the other, in memory that does not grow with their number.

        Some sentences are read ahead: results come in blocks of about ``16 * token_budget`` tokens.
        """
        wishes = wanted(self.pretrained, layers, pooling, boundaries)
        return self._engine.stream(sentences, wishes)

    def text(
        self,
        lines: Iterable[str],
        layers: Layers = "all",
        *,
        pooling: Pooling | None = None,
        boundaries: bool = False,
        segmentation: Callable[[str], list[list[str]]] | None = None,
    ) -> Iterator[Passage]:
        """The sentences of raw text with their vectors, and the characters that each token was made of.

        Args:
            lines: of text; one without a sentence gives nothing.
            layers: see ``embed``.
            pooling: see ``embed``.
            boundaries: see ``embed``.
            segmentation: gives the sentences of a line, lists of tokens: a ``Segmentation``, or any tokeniser. None
                cuts as the training text was; where nobody says how that was, at white space.

        Raises:
            UserError: for one text instead of its lines.
        """
        if isinstance(lines, str):
            raise UserError(f"lines are a list of them, not the text {lines[:40]!r}: use its .splitlines()")
        cut_line = self.segmentation if segmentation is None else segmentation
        # Each sentence waits for its vectors in the order of the text.
        waiting: deque[tuple[int, list[Token]]] = deque()

        def sentences() -> Iterator[list[str]]:
            for number, line in enumerate(lines):
                cut = cut_line(line)
                tokens = iter(align(line, [token for sentence in cut for token in sentence]))
                for sentence in cut:
                    waiting.append((number, [next(tokens) for _ in sentence]))
                    yield sentence

        for vectors in self.stream(sentences(), layers, pooling=pooling, boundaries=boundaries):
            yield Passage(*waiting.popleft(), vectors)

    def document(self, tokens: Sequence[str], layers: Layers = "all", *, chunk_tokens: int = 8192) -> Iterator[Array]:
        """The vectors of one long sequence in consecutive chunks, as ``embed`` gives them for it as one sentence.

        Memory holds a chunk at a time, and besides it the states of the backward direction at all ends of chunks: 9 kB
        a chunk for the small model. It reads the whole sequence first, from its end, and then each chunk once more: so
        it takes up to half as long again as ``embed``.

        Args:
            tokens: the sequence; read slice by slice, so it may be one that reads a file.
            layers: see ``embed``; not a mix of normalised layers, which is about the sequence as a whole.
            chunk_tokens: tokens of a chunk, all but the last.
        """
        if isinstance(tokens, str):
            raise UserError(f"a document is a list of tokens, not the text {tokens[:40]!r}: use its .split()")
        if chunk_tokens < 1:
            raise UserError(f"chunk_tokens is {chunk_tokens}: use 1 or more")
        wishes = wanted(self.pretrained, layers, None, False)
        if wishes.mix is not None:
            raise UserError("a mix that normalises layers needs the whole document at once: use embed, or layers='all'")
        return self._engine.document(tokens, wishes, chunk_tokens)

    def clear_cache(self) -> None:
        """Forget the encodings of all words."""
        self._engine.encodings.clear()
