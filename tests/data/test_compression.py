import gzip
import struct
import sys
import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data.compression import read_chunks
from elmo_jax.errors import UserError

TEXT = "".join(f"the {n}th line of some text, not without éèê\n" for n in range(3000)).encode()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def skippable(data: bytes) -> bytes:
    """A frame of user data (RFC 8878, 3.1.2)."""
    return struct.pack("<II", 0x184D2A50, len(data)) + data


COMPRESS = {".txt": bytes, ".gz": gzip.compress, ".zst": zstd}


@pytest.fixture
def read(tmp_path):
    """What is read from a file of these bytes, and the chunks it comes in."""

    def chunks(data: bytes, ending: str, n_bytes: int = 1 << 20) -> list[bytes]:
        path = tmp_path / f"shard{ending}"
        path.write_bytes(data)
        with path.open("rb") as file:
            return list(read_chunks(path, file, n_bytes))

    return chunks


def refusal(read, *args) -> str:
    with pytest.raises(UserError) as caught:
        read(*args)
    return str(caught.value)


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("n_bytes", [1, 1000, 1 << 20])
def test_what_was_compressed_is_read(read, ending, n_bytes):
    chunks = read(COMPRESS[ending](TEXT[:4000]), ending, n_bytes)
    assert b"".join(chunks) == TEXT[:4000]
    assert all(0 < len(chunk) <= n_bytes for chunk in chunks)


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_the_parts_of_a_file_follow_each_other(read, ending):
    """As of `cat a.gz b.gz > ab.gz`, and of tools that compress in parallel."""
    compress = COMPRESS[ending]
    parts = [TEXT[:50_000], b"", TEXT[50_000:50_001], TEXT[50_001:]]
    assert b"".join(read(b"".join(map(compress, parts)), ending)) == TEXT


def test_skippable_frames_are_skipped(read):
    data = skippable(b"") + zstd(TEXT[:70_000]) + skippable(b"x" * 5000) + zstd(TEXT[70_000:]) + skippable(b"end")
    assert b"".join(read(data, ".zst")) == TEXT


def test_frames_of_unknown_size_are_read(read):
    compressor = zstandard.ZstdCompressor().compressobj()
    assert b"".join(read(compressor.compress(TEXT) + compressor.flush(), ".zst")) == TEXT


def test_a_window_of_two_gibibytes_is_allowed(read):
    """The header of `zstd --ultra --long=31`: no size, window descriptor 21 << 3; then one raw block, the last one."""
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 21 << 3) + (1 | len(b"words\n") << 3).to_bytes(3, "little") + b"words\n"
    assert zstandard.get_frame_parameters(frame).window_size == 1 << 31
    assert read(frame, ".zst") == [b"words\n"]


def test_memory_is_bounded_however_well_a_file_is_compressed(read, tmp_path):
    path = tmp_path / "shard.zst"
    path.write_bytes(zstd(bytes(1 << 27)))
    assert path.stat().st_size < 5000
    tracemalloc.start()
    try:
        with path.open("rb") as file:
            assert sum(map(len, read_chunks(path, file, 1 << 20))) == 1 << 27
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


# Damage


@pytest.mark.parametrize("ending", [".gz", ".zst"])
@given(st.data())
def test_a_file_that_breaks_off_anywhere_is_refused(tmp_path_factory, ending, data):
    first, second = (COMPRESS[ending](part) for part in (TEXT[:2000], TEXT[2000:6000]))
    whole = first + second
    # A file that ends with a part is whole: nothing tells that there was another one.
    cut = data.draw(st.integers(0, len(whole) - 1).filter(lambda n: n != len(first)))
    path = tmp_path_factory.mktemp("cut") / f"shard{ending}"
    path.write_bytes(whole[:cut])
    with path.open("rb") as file, pytest.raises(UserError) as caught:
        list(read_chunks(path, file, 1000))
    tool = {".gz": "gzip", ".zst": "zstd"}[ending]
    assert str(caught.value).startswith(f"{path}: the compressed data is truncated or corrupt (")
    assert str(caught.value).endswith(f"); check it with {tool} -t")


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_flipped_bit_is_refused(read, ending):
    data = bytearray(COMPRESS[ending](TEXT))
    data[len(data) // 2] ^= 16
    assert "the compressed data is truncated or corrupt" in refusal(read, bytes(data), ending)


@pytest.mark.parametrize(("ending", "other"), [(".gz", ".zst"), (".zst", ".gz")])
def test_what_is_not_compressed_so_is_refused(read, ending, other):
    for strange in (b"plain text\n", COMPRESS[other](b"text\n")):
        assert "the compressed data is truncated or corrupt" in refusal(read, strange, ending)
        assert "the compressed data is truncated or corrupt" in refusal(
            read, COMPRESS[ending](b"a\n") + strange, ending
        )


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_an_empty_file_is_no_compressed_file(read, ending):
    assert "truncated or corrupt (the file is empty)" in refusal(read, b"", ending)
    assert read(COMPRESS[ending](b""), ending) == []


def test_a_missing_library_is_told(read, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert refusal(read, b"x", ".zst").endswith("): pip install zstandard")
