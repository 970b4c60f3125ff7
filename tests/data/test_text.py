import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data import text
from elmo_jax.data.text import expand, read_sentences, text_source
from elmo_jax.errors import UserError


@pytest.fixture
def shard(tmp_path):
    """Writes a shard of bytes."""

    def write(data: bytes, name: str = "shard.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        list(read_sentences([path]))
    return str(caught.value)


# Lines and tokens


@pytest.mark.parametrize("name", ["shard.txt", "shard.txt.gz"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_a_line_is_a_sentence(shard, name, newline, last):
    path = shard(newline.join([b"a b", b"", b" c\td ", b"e" + newline * last]), name)
    assert list(read_sentences([path])) == [["a", "b"], [], ["c", "d"], ["e"], None]


def test_the_end_of_every_shard_is_told(shard):
    files = [shard(b"a\n", "1"), shard(b"", "2"), shard(b"b", "3")]
    assert list(read_sentences(files)) == [["a"], None, None, ["b"], None]


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"])
def test_other_line_marks_part_tokens_but_not_lines(shard, mark):
    assert list(read_sentences([shard(f"a{mark}b c\n".encode())])) == [["a", "b", "c"], None]


def test_a_byte_order_mark_is_no_text(shard):
    assert list(read_sentences([shard(b"\xef\xbb\xbfa b\n")])) == [["a", "b"], None]


def test_boundary_marks_inside_tokens_are_text(shard):
    assert list(read_sentences([shard(b"x<S> </S>y <s>\n")])) == [["x<S>", "</S>y", "<s>"], None]


def test_a_token_of_a_megabyte_and_a_line_of_ten(shard):
    token, line = "x" * 2**20, "word " * 2**21
    assert list(read_sentences([shard(f"{token} a\n{line}\nb".encode())])) == [
        *([token, "a"], ["word"] * 2**21, ["b"], None)
    ]


@given(st.text(alphabet="ab \né€\r𝄞", max_size=60), st.integers(1, 7))
def test_lines_do_not_depend_on_the_blocks_they_are_read_in(tmp_path_factory, content, block):
    path = tmp_path_factory.mktemp("blocks") / "shard"
    path.write_bytes(content.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block)
        lines = content.removesuffix("\n").split("\n") if content else []
        assert list(read_sentences([path])) == [*map(str.split, lines), None]


@pytest.mark.parametrize("name", ["shard.txt", "shard.txt.gz"])
def test_progress_adds_up_to_the_size_of_the_files(shard, name):
    path, told = shard(b"some words\n" * 300_000, name), []
    list(read_sentences([path], told.append))
    assert sum(told) == path.stat().st_size


# What is refused


def test_invalid_utf8_is_located(shard):
    message = refusal(shard("één\ntwo \n".encode() + b"thr\xffee\n"))
    assert "shard.txt:3: invalid UTF-8 at byte 14 of the file" in message
    assert "iconv" in message


def test_utf8_cut_at_the_end_of_the_file_is_invalid(shard):
    assert "shard.txt:1: invalid UTF-8" in refusal(shard("é".encode()[:1]))


def test_nul_bytes_are_located(shard):
    assert "shard.txt:2: NUL byte at byte 4" in refusal(shard(b"a b\n\0\n"))


@pytest.mark.parametrize("mark", ["<S>", "</S>"])
def test_a_literal_boundary_is_located(shard, mark):
    assert f"shard.txt:2: the token {mark}" in refusal(shard(f"a\nb {mark} c\n".encode()))


def test_lines_are_counted_over_blocks(shard):
    assert "shard.txt:500001: NUL" in refusal(shard(b"words\n" * 500_000 + b"\0"))


def test_a_line_without_end_is_refused(shard, monkeypatch):
    monkeypatch.setattr(text, "MAX_LINE_BYTES", 3 << 20)
    assert "shard.txt:2: the line is longer than" in refusal(shard(b"a\n" + b"word " * 2**20))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"\x1f\x8b" + b"x" * 40])
def test_damaged_compression_names_the_file(shard, damage):
    path = shard(b"words and words\n" * 1000, "shard.gz")
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path}: the compressed data is truncated or corrupt" in refusal(path)


def test_plain_text_named_gz_is_refused(shard, tmp_path):
    shard(b"a b\n").rename(tmp_path / "plain.gz")
    assert "plain.gz: the compressed data" in refusal(tmp_path / "plain.gz")


def test_a_missing_file_is_named(tmp_path):
    assert f"cannot read {tmp_path}/none: No such file" in refusal(tmp_path / "none")


# Globs


def test_globs_are_sorted_and_each_file_comes_once(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt.gz", "d[1].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert expand(f"{tmp_path}/*.txt, {tmp_path}/a*,{tmp_path}/**/*.gz,") == [
        *(tmp_path / name for name in ("a.txt", "b.txt", "d[1].txt", "sub/c.txt.gz"))
    ]
    assert expand(f"{tmp_path}/d[1].txt") == [tmp_path / "d[1].txt"]


@pytest.mark.parametrize(("globs", "named"), [("*.none", "'*.none'"), ("sub", "'sub/*'"), ("", "''"), (" , ", "' , '")])
def test_a_glob_without_files_is_named(tmp_path, monkeypatch, globs, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError) as caught:
        expand(globs)
    assert named in str(caught.value)


def test_a_source_can_be_read_again(shard):
    source = text_source(str(shard(b"a b\n")))
    assert list(source.read(print)) == list(source.read(print)) == [["a", "b"], None]
