"""The types of a text: sorted in blocks by many workers, and written by one; the numbers of tokens among them."""

import itertools
import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from elmo_jax.data.beam.files import WorkFolder, local_copy
from elmo_jax.data.characters import utf8
from elmo_jax.data.lines import BOS, EOS


class TypeBlock(NamedTuple):
    """Types of one length with the same first bytes, sorted.

    Attributes:
        key: sorts blocks as types are sorted.
        length: bytes of each type.
        data: the types, one after the other.
        counts: int64: how often each occurs, as bytes.
    """

    key: bytes
    length: int
    data: bytes
    counts: bytes


class Types(NamedTuple):
    """All types of a text in order, with the two boundaries.

    Attributes:
        bytes: location of ``Corpus.type_bytes``.
        offsets: location of ``Corpus.type_offsets``.
        counts: location of ``Corpus.type_counts``, without the boundaries.
        lengths: for each length of a token: (length, number of the first type that long, its first byte, how many).
    """

    bytes: str
    offsets: str
    counts: str
    lengths: list[tuple[int, int, int, int]]


def block_key(counted: tuple[bytes, int]) -> tuple[bytes, tuple[bytes, int]]:
    """A counted token with the key of its block of types: its length and its first two bytes, which sort as it does."""
    token = counted[0]
    return struct.pack(">Q", len(token)) + token[:2], counted


def sort_types(block: tuple[bytes, Iterable[tuple[bytes, int]]]) -> TypeBlock:
    """The types of a block, sorted."""
    key, counted = block
    ordered = sorted(counted)
    data, counts = b"".join(token for token, _ in ordered), np.array([n for _, n in ordered], np.int64)
    return TypeBlock(key, len(ordered[0][0]), data, counts.tobytes())


def write_types(_: object, found: list[TypeBlock], folder: WorkFolder) -> Types:
    """Write all types."""
    ordered = sorted(found)
    marks = [utf8(BOS), utf8(EOS)]
    ends, lengths = [len(marks[0]), len(marks[0] + marks[1])], list[tuple[int, int, int, int]]()
    offsets, n, end = [np.array([0, *ends], np.int64)], 2, ends[-1]
    for length, group in itertools.groupby(ordered, key=lambda block: block.length):
        m = sum(len(block.data) // length for block in group)
        lengths.append((length, n, end, m))
        offsets.append(end + length * np.arange(1, m + 1))
        n, end = n + m, end + length * m
    return Types(
        bytes=folder.write("types", *marks, *(block.data for block in ordered)),
        offsets=folder.write("offsets", *(part.data for part in offsets)),
        counts=folder.write("counts", *(block.counts for block in ordered)),
        lengths=lengths,
    )


def type_ids(data: bytes, sizes: npt.NDArray[np.int64], types: Types) -> npt.NDArray[np.int32]:
    """The types of tokens, found by bisection among the types of their length.

    Args:
        data: the tokens, one after the other.
        sizes: bytes of each.
        types: of the text they are from.
    """
    type_bytes = np.memmap(local_copy(types.bytes), np.uint8, mode="r")
    starts = np.cumsum(sizes) - sizes
    ids = np.empty(len(sizes), np.int32)
    for length, first, begin, n in types.lengths:
        here = np.flatnonzero(sizes == length)
        if not len(here):
            continue
        # Tokens hold no NUL, which NumPy would not compare at their ends.
        dtype = np.dtype(f"S{length}")
        known = type_bytes[begin : begin + n * length].view(dtype)
        wanted = np.frombuffer(b"".join(data[start : start + length] for start in starts[here].tolist()), dtype)
        found = np.searchsorted(known, wanted)
        if found.max() >= n or (known[found] != wanted).any():
            raise RuntimeError(f"{types.bytes} lacks types of the text; did a file of the text change meanwhile?")
        ids[here] = first + found
    return ids
