"""Text of a TensorFlow Datasets builder, by name, split and feature."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elmo_jax.data.lines import BOS, EOS, Advance, Sentence, decode, refuse_boundaries, sentences_of
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import Source
from elmo_jax.data.tfds_builder import open_split
from elmo_jax.errors import UserError

# Records are read in blocks, since each read takes time that grows with the records of the file; a block is at most
# so many records, and so many bytes of the file, for builders whose records are whole books.
BLOCK_RECORDS = 8192
BLOCK_BYTES = 4 << 20


def tfds_source(
    name: str, split: str, *, feature: str = "", data_dir: str = "", segmentation: Segmentation | None = None
) -> Source:
    """A split of a prepared builder.

    The files of the split are read as if they were text shards, and the lines of their records as if they stood there
    one after the other: records of one line, such as the sentences of 1 Billion Word, are one document until an empty
    record or the end of the file. A record of several lines is an article, and a document of its own.

    Args:
        name: of a builder that is prepared as array_record: ``lm1b``, ``wiki40b/de`` or ``my_news/long:1.0.0``.
        split: such as ``train``, ``train[:10%]`` or ``train+validation``.
        feature: the text; ``story/title`` is one inside another. Empty: the only text there is.
        data_dir: where builders are prepared; empty: ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``.
        segmentation: of a line into sentences and tokens; None: one sentence, tokens separated by whitespace.

    Raises:
        UserError: when the builder is unknown or not prepared as array_record, or has no such split or text.
    """
    data = open_split(name, split, data_dir)
    info = data.dataset_info
    feature = _text_feature(info, feature)
    text = _Text(data, feature, segmentation or Segmentation())
    return Source(
        name=re.sub(r"[^\w.-]+", "_", f"{info.name}-{split}").rstrip("_"),
        files=text.files,
        read=text.read,
        variant=repr((info.full_name, split, feature, text.segmentation.variant)),
        pieces=text.in_blocks,
    )


def shared_records(name: str, first: str, second: str, data_dir: str = "") -> int:
    """How many records are in both of two splits of a builder.

    Raises:
        UserError: when the builder is unknown or not prepared as array_record, or has no such split.
    """
    ours, theirs = (_pieces(open_split(name, split, data_dir)) for split in (first, second))
    return sum(a.n_common(b) for a in ours for b in theirs)


@dataclass(frozen=True)
class _Piece:
    """Records of a split that follow each other in one file.

    Attributes:
        path: the file.
        records: their numbers in the file.
        keys: their numbers in the split.
        block: how many to read at once.
    """

    path: Path
    records: range
    keys: range
    block: int

    def n_common(self, other: "_Piece") -> int:
        """How many records are in both."""
        first, last = max(self.records[0], other.records[0]), min(self.records[-1], other.records[-1])
        return max(0, last + 1 - first) if self.path == other.path else 0

    def blocks(self) -> Iterator[range]:
        """The keys of what is read at once."""
        for first in range(0, len(self.keys), self.block):
            yield self.keys[first : first + self.block]


def _pieces(data: Any) -> list[_Piece]:
    pieces, n_records = [], 0
    for file in data.dataset_info.splits[data.split].file_instructions:
        path, records = Path(file.filename), range(file.skip, file.skip + file.take)
        bytes_a_record = max(1, path.stat().st_size // file.examples_in_shard)
        block = min(BLOCK_RECORDS, max(1, BLOCK_BYTES // bytes_a_record))
        pieces.append(_Piece(path, records, range(n_records, n_records + file.take), block))
        n_records += file.take
    return pieces


@dataclass(frozen=True)
class _Record:
    """Where a text comes from, for messages."""

    split: str
    key: int
    path: Path

    mend_nul = mend_encoding = "correct the text, and prepare the builder again"

    def __str__(self) -> str:
        return f"{self.split}, record {self.key} (in {self.path.name})"

    def at(self, byte: int) -> tuple[str, str]:
        return str(self), f"byte {byte} of its text"


@dataclass(frozen=True)
class _Records:
    """Records that were read at once, as a ``Piece``."""

    texts: list[bytes]
    split: str
    keys: range
    path: Path
    segmentation: Segmentation

    def sentences(self) -> Iterator[Sentence]:
        for key, text in zip(self.keys, self.texts, strict=True):
            yield from self._sentences(text, _Record(self.split, key, self.path))

    def _sentences(self, value: bytes, place: _Record) -> Iterator[Sentence]:
        text = decode(value, place)
        lines = text.removesuffix("\n").split("\n")
        if BOS in text or EOS in text:
            for line in lines:
                refuse_boundaries(self.segmentation(line), str(place))
        is_article = len(lines) > 1
        if is_article:
            yield None
        yield from sentences_of(lines, self.segmentation)
        if is_article:
            yield None


class _Text:
    """The text of a data source.

    Args:
        data: of raw records.
        feature: path of the text in a record.
        segmentation: of its lines.
    """

    def __init__(self, data: Any, feature: str, segmentation: Segmentation) -> None:
        self.segmentation = segmentation
        self.pieces = _pieces(data)
        metadata = [Path(data.dataset_info.data_dir) / file for file in ("dataset_info.json", "features.json")]
        self.files = (*sorted({piece.path for piece in self.pieces}), *metadata)
        self._data = data
        self._name = f"{data.dataset_info.full_name} {data.split}"
        self._feature = feature

    def read(self, advance: Advance) -> Iterator[Sentence]:
        """The sentences of all records; see ``tfds_source``."""
        for block in self.in_blocks(advance):
            if block is None:
                yield None
            else:
                yield from block.sentences()

    def in_blocks(self, advance: Advance) -> Iterator[_Records | None]:
        """The same, some records at a time, and None at the end of each file."""
        value_of = _value_reader(self._feature)
        n_bytes, n_records = sum(path.stat().st_size for path in self.files), len(self._data)
        for piece in self.pieces:
            for keys, records in self._blocks(piece):
                yield _Records(list(map(value_of, records)), self._name, keys, piece.path, self.segmentation)
                advance(n_bytes * keys.stop // n_records - n_bytes * keys.start // n_records)
            yield None

    def _blocks(self, piece: _Piece) -> Iterator[tuple[range, Sequence[bytes]]]:
        try:
            # At its end the file is closed: a split may have more of them than can be open.
            with self._data.data_source:
                for keys in piece.blocks():
                    yield keys, self._data.__getitems__(keys)
        except (RuntimeError, ValueError, IndexError) as error:
            raise UserError(
                f"{piece.path} is damaged ({str(error) or 'cut off'}): prepare the builder again"
            ) from error


def _value_reader(feature: str) -> Callable[[bytes], bytes]:
    """What gives the text of a stored record.

    TFDS stores a ``tf.train.Example`` whose keys are the paths of features. Its own decoding is many times slower, and
    decodes all that is in the record besides the text.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    def value_of(record: bytes) -> bytes:
        values = tf_example_pb2.Example.FromString(record).features.feature[feature].bytes_list.value
        return values[0] if values else b""  # an optional text that is absent

    return value_of


def _text_feature(info: Any, asked: str) -> str:
    """The path of the feature asked for, or of the only text.

    Raises:
        UserError: when there is no such text, or none was asked for and there is not one.
    """
    features = dict(sorted(_leaves(info.features)))
    texts = [path for path, feature in features.items() if feature.shape == () and feature.np_dtype in (str, object)]
    if not texts:
        raise UserError(
            f"{info.full_name} has no text among its features ({', '.join(features)}): choose another builder"
        )
    if asked and asked not in texts:
        problem = "is no text" if asked in features else "does not exist"
        raise UserError(f"{info.full_name}: the feature {asked!r} {problem}: choose {' or '.join(texts)}")
    if not asked and len(texts) > 1:
        raise UserError(
            f"{info.full_name} has {len(texts)} texts, {', '.join(texts)}: name one by --config.data.tfds.feature, "
            "or --feature"
        )
    return asked or texts[0]


def _leaves(features: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Path and feature of everything that is no dictionary of features."""
    if not hasattr(features, "items"):
        yield prefix, features
        return
    for name, feature in features.items():
        yield from _leaves(feature, f"{prefix}/{name}" if prefix else name)
