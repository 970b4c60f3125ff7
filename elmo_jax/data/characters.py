"""The character ids of a token: its UTF-8 bytes between marks (ELMO_SPEC 2.1, training side)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from elmo_jax.data.lines import BOS as BOS_TOKEN
from elmo_jax.data.lines import EOS as EOS_TOKEN

# Ids 0 to 255 are bytes.
BOS, EOS, BOW, EOW, PAD = 256, 257, 258, 259, 260
N_CHARACTERS = 261

# Types whose character ids a table keeps: 6.5 MB of them for tokens of 50 characters.
TYPES_KEPT = 1 << 16


def utf8(token: str) -> bytes:
    """The bytes of a token, without code points that UTF-8 cannot encode (lone surrogates)."""
    return token.encode("utf-8", "ignore")


def character_ids(tokens: Sequence[str], width: int) -> npt.NDArray[np.uint16]:
    """Character ids of tokens, among which ``<S>`` and ``</S>`` are the boundaries.

    Args:
        tokens: N tokens.
        width: ids of a token, at least 3; the first ``width - 2`` bytes are kept.

    Returns:
        uint16 ``[N, width]`` of 0..260: ``[BOW, bytes..., EOW, PAD...]``.
    """
    encoded = [utf8(token) for token in tokens]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    rows = _spell(np.frombuffer(b"".join(encoded), np.uint8), np.cumsum(lengths) - lengths, lengths, width)
    _mark_boundary(rows, np.array([token == BOS_TOKEN for token in tokens], bool), BOS)
    _mark_boundary(rows, np.array([token == EOS_TOKEN for token in tokens], bool), EOS)
    return rows


def character_rows(
    flat_bytes: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64], ids: npt.NDArray[np.integer], width: int
) -> npt.NDArray[np.uint16]:
    """Character ids of types of an encoded corpus, of which 0 is ``<S>`` and 1 is ``</S>``.

    Args:
        flat_bytes: the bytes of all types, one after the other.
        offsets: ``[V + 1]``: type v is ``flat_bytes[offsets[v] : offsets[v + 1]]``.
        ids: ``[N]`` type ids.
        width: ids of a token, at least 3.

    Returns:
        uint16 ``[N, width]``, as ``character_ids`` of the types.
    """
    starts = offsets[ids]
    rows = _spell(flat_bytes, starts, offsets[ids + 1] - starts, width)
    _mark_boundary(rows, ids == 0, BOS)
    _mark_boundary(rows, ids == 1, EOS)
    return rows


class CharacterTable:
    """``character_rows`` of a corpus again and again: the most frequent types are spelt once and kept.

    Args:
        flat_bytes: see ``character_rows``.
        offsets: see ``character_rows``.
        counts: ``[V]`` how often each type occurs.
        width: ids of a token, at least 3.
    """

    def __init__(
        self,
        flat_bytes: npt.NDArray[np.uint8],
        offsets: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        width: int,
    ) -> None:
        self._bytes, self._offsets, self.width = flat_bytes, offsets, width
        n_kept = min(len(counts), TYPES_KEPT)
        kept = np.argpartition(counts, -n_kept)[-n_kept:]
        self._rows = character_rows(flat_bytes, offsets, kept, width)
        self._place = np.full(len(counts), -1, np.int32)
        self._place[kept] = np.arange(len(kept), dtype=np.int32)

    def spell(self, ids: npt.NDArray[np.integer], out: npt.NDArray[np.uint16]) -> None:
        """Write the character ids of N types into ``out``, uint16 ``[N, width]``."""
        place = self._place.take(ids, mode="clip")
        self._rows.take(place, axis=0, out=out, mode="clip")
        others = np.flatnonzero(place < 0)
        if len(others):
            out[others] = character_rows(self._bytes, self._offsets, ids[others], self.width)


def mark_row(character: int, width: int) -> npt.NDArray[np.uint16]:
    """The row of a token that is one character, such as the mark of a boundary: uint16 ``[width]``."""
    return np.array([BOW, character, EOW] + [PAD] * (width - 3), np.uint16)


def _spell(
    flat: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], width: int
) -> npt.NDArray[np.uint16]:
    """Rows of the byte strings ``flat[starts[i] : starts[i] + lengths[i]]``: work follows the bytes, not the width."""
    kept = np.minimum(lengths, width - 2)
    rows = np.full(len(kept) * width, PAD, np.uint16)
    begin = np.arange(len(kept)) * width
    rows[begin] = BOW
    rows[begin + 1 + kept] = EOW
    # The bytes kept are numbered through all tokens; those of one token lie together in `flat` and in `rows`.
    before = np.cumsum(kept) - kept
    number = np.arange(kept.sum())
    rows[np.repeat(begin + 1 - before, kept) + number] = flat[np.repeat(starts - before, kept) + number]
    return rows.reshape(len(kept), width)


def _mark_boundary(rows: npt.NDArray[np.uint16], where: npt.NDArray[np.bool_], character: int) -> None:
    rows[where] = mark_row(character, rows.shape[1])
