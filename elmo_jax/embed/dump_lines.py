"""bilm-tf's layout of the vectors of a text: a dataset for every sentence, named by its line (ELMO_SPEC 2.11)."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from elmo_jax.embed.sentences import Sentence
from elmo_jax.errors import UserError

Array = npt.NDArray[Any]
SENTENCE_TO_INDEX = "sentence_to_index"


class LineLayout:
    """Writes what ``Embedder`` gives for a sentence as one dataset.

    Its name is the number of its line from 0, ``"12"``; where sentences are found within lines, ``"12/0"`` is the first
    of them.

    Args:
        file: to write.
        dtype: of the datasets.
        compression: a filter of HDF5, or none.
        keys: what a dataset is called: after its line, or, as AllenNLP has it, the text of the sentence.
        index: whether to tell the name of every sentence in ``sentence_to_index``, as AllenNLP up to 0.9 did.
    """

    def __init__(
        self, file: h5py.File, dtype: str, compression: str | None, *, keys: Literal["lines", "sentences"], index: bool
    ) -> None:
        self._file, self._dtype, self._compression, self._keys = file, np.dtype(dtype), compression, keys
        self._index: dict[str, str] | None = {} if index else None

    def note(self, sentence: Sentence) -> None:
        """Take note of a sentence that is in the file, or will be."""
        if self._index is not None:
            # The last of equal sentences is the one that is found.
            self._index[sentence.text] = self._key(sentence)

    def write(self, sentence: Sentence, vectors: Array) -> None:
        """Write the vectors of a sentence.

        Raises:
            UserError: for a sentence whose text is the key, and that is there already or cannot be one.
        """
        self.note(sentence)
        key = self._key(sentence)
        if self._keys == "sentences":
            self._refuse_key(sentence)
        # A filter needs chunks, and nothing has none.
        filters: Mapping[str, Any] = {"compression": self._compression} if vectors.size and self._compression else {}
        self._file.create_dataset(key, data=vectors.astype(self._dtype, copy=False), **filters)

    def write_empty(self, line: int) -> None:
        """Keep the place of a line in which no sentence was found."""
        if self._keys == "lines":
            self._file.create_group(str(line))

    def flush(self) -> None:
        """Nothing waits."""

    def finish(self) -> None:
        """Write what is known at the end only."""
        if self._index is not None:
            if SENTENCE_TO_INDEX in self._file:
                del self._file[SENTENCE_TO_INDEX]
            dataset = self._file.create_dataset(SENTENCE_TO_INDEX, (1,), dtype=h5py.string_dtype())
            dataset[0] = json.dumps(self._index)

    def _key(self, sentence: Sentence) -> str:
        if self._keys == "sentences":
            return sentence.text
        return str(sentence.line) if sentence.number is None else f"{sentence.line}/{sentence.number}"

    def _refuse_key(self, sentence: Sentence) -> None:
        shown = f"line {sentence.line + 1}: the sentence {sentence.text[:60]!r}"
        if "." in sentence.text.split("/") or sentence.text.startswith("/") or not sentence.text:
            raise UserError(f"{shown} cannot be the name of a dataset; leave out --use-sentence-keys")
        try:
            taken = sentence.text in self._file
        except (KeyError, ValueError, RuntimeError):
            taken = True
        if taken or self._within_dataset(sentence.text):
            raise UserError(
                f"{shown} is in the file already, and a name can be had once; leave out --use-sentence-keys, or "
                "remove repeated sentences"
            )

    def _within_dataset(self, key: str) -> bool:
        """Whether a part of the name before a slash is a dataset."""
        parts = key.split("/")
        heads = ("/".join(parts[:n]) for n in range(1, len(parts)))
        return any(head and isinstance(self._file.get(head), h5py.Dataset) for head in heads)
