import gzip
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data import lines as lines_module
from elmo_jax.data.corpus import Corpus, prepare
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.streams import Rows
from elmo_jax.data.text import TOKENIZED_LINES, expand, read_lines, read_sentences, text_bytes, text_source
from elmo_jax.errors import UserError

NAMES = ["shard.txt", "shard.txt.gz", "shard.txt.zst"]
COMPRESS = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
SEGMENTATIONS = [
    Segmentation(tokenizer, sentences)
    for tokenizer in ("whitespace", "unicode", "moses")
    for sentences in ("lines", "unicode")
]


@pytest.fixture
def shard(tmp_path):
    """Writes a shard of bytes."""

    def write(data: bytes, name: str = "shard.txt") -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(COMPRESS.get(path.suffix, bytes)(data))
        return path

    return write


def refusal(path: Path, segmentation: Segmentation = TOKENIZED_LINES) -> str:
    with pytest.raises(UserError) as caught:
        list(read_sentences([path], segmentation=segmentation))
    return str(caught.value)


# Lines and tokens


@pytest.mark.parametrize("name", NAMES)
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
        patch.setattr(lines_module, "BLOCK_BYTES", block)
        lines = content.removesuffix("\n").split("\n") if content else []
        assert list(read_sentences([path])) == [*map(str.split, lines), None]


@pytest.mark.parametrize("name", NAMES)
def test_progress_adds_up_to_the_size_of_the_files(shard, name):
    path, told = shard(b"some words\n" * 300_000, name), []
    list(read_sentences([path], told.append))
    assert sum(told) == path.stat().st_size


# What is refused


@pytest.mark.parametrize("name", NAMES)
def test_invalid_utf8_is_located(shard, name):
    message = refusal(shard("één\ntwo \n".encode() + b"thr\xffee\n", name))
    assert f"{name}:3: invalid UTF-8 at byte 14 of the file" in message
    assert "iconv" in message


@pytest.mark.parametrize("name", NAMES)
def test_one_shard_of_another_encoding_is_located_and_leaves_nothing_behind(shard, tmp_path, name):
    for good in ("a", "c"):
        shard("déjà vu\n".encode() * 9, f"{good}-{name}")
    strange = shard("one\ndéjà vu\n".encode("latin-1"), f"b-{name}")
    with pytest.raises(UserError) as caught:
        prepare(text_source(f"{tmp_path}/*-shard*"), tmp_path / "cache", progress=False)
    assert str(caught.value).startswith(f"{strange}:2: invalid UTF-8 at byte 5 of the file")
    assert not list((tmp_path / "cache").iterdir())


def test_utf8_cut_at_the_end_of_the_file_is_invalid(shard):
    assert "shard.txt:1: invalid UTF-8" in refusal(shard("é".encode()[:1]))


def test_nul_bytes_are_located(shard):
    assert "shard.txt:2: NUL byte at byte 4" in refusal(shard(b"a b\n\0\n"))


@pytest.mark.parametrize("mark", ["<S>", "</S>"])
def test_a_literal_boundary_is_located(shard, mark):
    assert f"shard.txt:2: the token {mark}" in refusal(shard(f"a\nb {mark} c\n".encode()))


def test_it_is_the_token_that_may_not_be_a_boundary(shard):
    path = shard(b"struck <S>out</S>\n<S> there </S>\n")
    for tokenizer in ("unicode", "moses"):
        cut = Segmentation(tokenizer)
        assert next(read_sentences([path], segmentation=cut)) == ["struck", *"<S>", "out", *"</S>"]
    assert "shard.txt:2: the token <" in refusal(path)
    assert "shard.txt:2: the token <" in refusal(path, Segmentation("whitespace", "unicode"))


def test_lines_are_counted_over_blocks(shard):
    assert "shard.txt:500001: NUL" in refusal(shard(b"words\n" * 500_000 + b"\0"))


def test_a_line_without_end_is_refused(shard, monkeypatch):
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 3 << 20)
    assert "shard.txt:2: the line is longer than" in refusal(shard(b"a\n" + b"word " * 2**20))


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: data[:4] + b"x" * 40])
@pytest.mark.parametrize(("name", "tool"), [("shard.gz", "gzip"), ("shard.zst", "zstd")])
def test_damaged_compression_names_the_file(shard, damage, name, tool):
    path = shard(b"words and words\n" * 1000, name)
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(path)
    assert f"{path}: the compressed data is truncated or corrupt" in message
    assert message.endswith(f"check it with {tool} -t")


@pytest.mark.parametrize("name", ["plain.gz", "plain.zst"])
def test_plain_text_named_as_compressed_is_refused(shard, tmp_path, name):
    shard(b"a b\n").rename(tmp_path / name)
    assert f"{name}: the compressed data" in refusal(tmp_path / name)


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


# The same text


def test_one_text_is_one_corpus_however_it_comes(shard, tmp_path):
    """Tokenised or raw, plain or compressed, in one file or in several."""
    raw = "It's (still) 3.5 km, I say. Go!\n\nNo: wait... déjà vu\n" * 30
    for cut in SEGMENTATIONS:
        sentences = list(read_sentences([shard(raw.encode(), "once")], segmentation=cut))[:-1]
        tokenised = "".join(" ".join(sentence) + "\n" for sentence in sentences)
        half = tokenised.index("\n\n") + 2
        for n, (content, end) in enumerate(itertools.product((raw, tokenised), ("", ".gz", ".zst"))):
            shard(content.encode(), f"{n}/all.txt{end}")
        for part, (content, end) in enumerate([(tokenised[:half], ".zst"), (tokenised[half:], ".gz")]):
            shard(content.encode(), f"parts/{part}.txt{end}")
        sources = [
            *(text_source(f"{tmp_path}/{n}/*", cut) for n in range(3)),
            *(text_source(f"{tmp_path}/{n}/*") for n in range(3, 6)),
            text_source(f"{tmp_path}/parts/0*,{tmp_path}/parts/*.gz"),
        ]
        corpora = [prepare(source, tmp_path / "cache", progress=False) for source in sources]
        assert len({corpus.fingerprint for corpus in corpora}) == 1
        assert {corpus.n_documents for corpus in corpora} == {31}


def test_each_segmentation_has_its_own_corpus_in_the_cache(shard, tmp_path):
    path = shard(b"It's here, isn't it? Yes.\n")
    made = {prepare(text_source(str(path), cut), tmp_path / "cache").directory for cut in SEGMENTATIONS}
    assert len(made) == len(SEGMENTATIONS)
    again = {prepare(text_source(str(path), cut), tmp_path / "cache").directory for cut in SEGMENTATIONS}
    assert again == made


# Documents


@pytest.mark.parametrize("cut", SEGMENTATIONS, ids=lambda cut: cut.variant)
def test_blank_lines_end_documents_and_lines_without_tokens_do_not(shard, cut):
    path = shard("One. Two.\nThree.\n \u3000\nFour.\n\n\nFive.".encode())
    sentences = list(read_sentences([path], segmentation=cut))
    documents = [list(group) for blank, group in itertools.groupby(sentences, lambda s: not s) if not blank]
    assert sentences.count([]) == 3
    assert [len(document) for document in documents] == [3 if cut.sentences == "unicode" else 2, 1, 1]
    if cut.tokenizer == "moses":
        assert list(read_sentences([shard(b"a\n\x01\nb")], segmentation=cut)) == [["a"], ["b"], None]


def read_in_order(corpus: Corpus, seed: int | None, n_rows: int) -> list[list[str]]:
    """The words that each row reads in one epoch, ``</S>`` after each sentence."""
    rows = Rows(corpus, n_rows, range(n_rows), seed, "document", 1)
    window = rows.read(rows.start(), rows.n_windows(1))[0]
    return [[corpus.word(int(i)) for i in window.targets[row, 0][window.keep[row]]] for row in range(n_rows)]


@pytest.mark.parametrize("cut", SEGMENTATIONS, ids=lambda cut: cut.variant)
def test_a_row_reads_documents_whole_and_in_the_order_of_the_text(shard, tmp_path, cut):
    rng, documents = np.random.default_rng(0), []
    for name in (f"{n}{end}" for n, end in enumerate(["", ".gz", ".zst"])):
        texts = [
            "\n".join(f"Document d{name[0]}x{d}. Line {n}, it says." for n in range(rng.integers(1, 9)))
            for d in range(7)
        ]
        shard("\n\n".join(texts).encode(), f"docs/{name}")
        documents += texts
    whole = [
        [token for line in document.split("\n") for sentence in cut(line) for token in [*sentence, "</S>"]]
        for document in documents
    ]
    corpus = prepare(text_source(f"{tmp_path}/docs/*", cut), tmp_path / "cache", progress=False)
    for row, read in enumerate(read_in_order(corpus, None, 4)):
        assert read == [token for document in whole[row::4] for token in document]
    shuffled = read_in_order(corpus, 3, 4)
    remaining = list(whole)
    for read in shuffled:
        while read:
            (document,) = [document for document in remaining if read[: len(document)] == document]
            remaining.remove(document)
            read = read[len(document) :]
    assert not remaining


PEAK = """
import sys
from pathlib import Path
from elmo_jax.data.corpus import prepare
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import text_source
corpus = prepare(text_source(sys.argv[1], Segmentation(*sys.argv[3:])), Path(sys.argv[2]))
print(corpus.n_documents, corpus.n_sentences)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def peak_of_one_document(folder: Path, path: Path, n_bytes: int, *segmentation: str) -> float:
    """MiB that encoding takes at its peak, for one document of ``n_bytes``."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{n:04}" for n in range(1000)])
    n_lines = n_bytes // 100
    lines = (f"One, two {' '.join(drawn)}. The end.\n" for drawn in words[rng.integers(0, 1000, (n_lines, 9))])
    path.write_bytes(COMPRESS.get(path.suffix, bytes)("".join(lines).encode()))
    command = [sys.executable, "-c", PEAK, str(path), str(folder / "cache"), *segmentation]
    (documents, sentences), (peak,) = map(
        str.split, subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    )
    assert (documents, int(sentences)) == ("1", n_lines * (2 if "unicode" in segmentation[1:] else 1))
    return int(peak) / 1024


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")


@needs_proc
def test_memory_does_not_follow_the_length_of_a_document(tmp_path):
    """Its tokens alone would take 200 MiB."""
    assert peak_of_one_document(tmp_path, tmp_path / "document.zst", 24 << 20) < 100


@pytest.mark.long
@needs_proc
@pytest.mark.parametrize(
    ("name", "segmentation"),
    [
        ("document.txt", ("whitespace", "lines")),
        ("document.txt.gz", ("unicode", "unicode")),
        ("document.txt.zst", ("whitespace", "unicode")),
    ],
)
def test_a_document_of_a_hundred_megabytes(tmp_path, name, segmentation):
    peaks = [peak_of_one_document(tmp_path, tmp_path / name, n_bytes, *segmentation) for n_bytes in (10**7, 10**8)]
    assert peaks[1] - peaks[0] < 30
    assert peaks[1] < 100


# Lines


def test_lines_are_those_that_sentences_are_cut_from(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffone  two\r\n\n three".encode())
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"four\n\n"))
    files = [tmp_path / "a.txt", tmp_path / "b.txt.gz"]
    assert list(read_lines(files)) == ["one  two", "", " three", "four", ""]
    assert text_bytes(files) == (tmp_path / "a.txt").stat().st_size + 6
    assert text_bytes([*files, Path("/dev/null")]) is None
    (tmp_path / "bad.txt").write_bytes(b"good\nwith </S> in it\n")
    with pytest.raises(UserError, match=r"bad\.txt:2: the token </S>"):
        list(read_lines([tmp_path / "bad.txt"]))
