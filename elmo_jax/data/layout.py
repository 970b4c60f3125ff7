"""Where the sentences of a piece of text stand in the arrays of a corpus (docs/design.md, prediction coordinates)."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.numbering import FIRST_TOKEN, LINE_END


class Extent(NamedTuple):
    """How far a text goes, which is where the next piece of it begins."""

    n_predictions: int = 0
    n_sentences: int = 0
    n_documents: int = 0
    n_empty_lines: int = 0
    in_document: bool = False  # the last line was a sentence

    @property
    def counts(self) -> dict[str, int]:
        """What the header of a corpus tells of its text."""
        return {
            "n_tokens": self.n_predictions - self.n_sentences,
            "n_sentences": self.n_sentences,
            "n_documents": self.n_documents,
            "n_empty_lines": self.n_empty_lines,
        }

    def then(self, piece: "Extent", begins_inside: bool) -> "Extent":
        """The extent of this text and a piece after it, which was laid out by itself.

        Args:
            piece: laid out from the extent of nothing.
            begins_inside: the first line of the piece is a sentence, which goes on with a document that is open.
        """
        return Extent(
            self.n_predictions + piece.n_predictions,
            self.n_sentences + piece.n_sentences,
            self.n_documents + piece.n_documents - (self.in_document and begins_inside),
            self.n_empty_lines + piece.n_empty_lines,
            piece.in_document,
        )


class Laid(NamedTuple):
    """A piece of text in prediction coordinates.

    Attributes:
        numbers: int32: those of the piece, less the ends of lines and documents that are no ends of sentences; every
            sentence is followed by a boundary, which is what ends a line.
        starts: int64: the position before each sentence.
        documents: int64: the first sentence of each document that begins here.
        end: where the text after the piece begins.
    """

    numbers: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    end: Extent


def lay_out(numbers: npt.NDArray[np.int32], begin: Extent) -> Laid:
    """Lay out a piece of text that begins where ``begin`` says.

    Args:
        numbers: as in ``Numbered``.
        begin: the extent of the text before.
    """
    ends = np.flatnonzero(numbers < FIRST_TOKEN)
    sizes = np.diff(ends, prepend=-1)  # of the lines, with their ends
    is_sentence = sizes > 1
    follows_sentence = np.append(begin.in_document, is_sentence[:-1])
    first_of_document = (is_sentence & ~follows_sentence)[is_sentence]
    sizes = sizes[is_sentence]
    end = Extent(
        begin.n_predictions + int(sizes.sum()),
        begin.n_sentences + len(sizes),
        begin.n_documents + int(first_of_document.sum()),
        begin.n_empty_lines + int((numbers[ends[~is_sentence]] == LINE_END).sum()),
        bool(is_sentence[-1]) if len(ends) else begin.in_document,
    )
    starts = begin.n_predictions + np.cumsum(sizes) - sizes
    documents = begin.n_sentences + np.flatnonzero(first_of_document)
    return Laid(np.delete(numbers, ends[~is_sentence]), starts, documents, end)
