import gzip
import logging
import os
import tarfile
from pathlib import Path

import pytest

from elmo_jax.data import lm1b
from elmo_jax.data.corpus import prepare
from elmo_jax.data.lm1b import prepare_lm1b
from elmo_jax.data.text import text_source
from elmo_jax.data.tfds_source import tfds_source
from elmo_jax.errors import UserError
from tests.builders import HELDOUT, LM1B, TRAIN, lm1b_files, write_archive, write_files
from tests.filesystems import contents, small_disk

TEXT = [[f"train sentence {n} of file {k} ." for n in range(5 + k)] for k in range(3)]
HELD = [["held out , é €"], ["another one .", "", "the last ."]]
FILES = lm1b_files(TEXT, HELD)


@pytest.fixture
def archive(tmp_path):
    return write_archive(tmp_path / "lm1b.tar.gz", FILES)


def refusal(folder: Path, source: Path) -> str:
    """What preparing into ``folder/builders`` says; nothing may be left there."""
    before = contents(folder)
    with pytest.raises(UserError) as caught:
        prepare_lm1b(source, str(folder / "builders"), progress=False)
    assert contents(folder) == before | ({"builders": None} if (folder / "builders").exists() else {})
    return str(caught.value)


# What is prepared


def test_the_stock_tfds_reads_the_lines_in_order(tmp_path, archive):
    import tensorflow_datasets as tfds

    directory, sentences = prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    assert directory == tmp_path / "builders/lm1b/1.1.0"
    assert sentences == {"train": 18, "test": 4}
    for split, files in (("train", TEXT), ("test", HELD)):
        records = tfds.data_source("lm1b", split=split, data_dir=tmp_path / "builders", download=False)
        assert [record["text"] for record in records] == [line.encode() for lines in files for line in lines]
    assert [path.name for path in (tmp_path / "builders").iterdir()] == ["lm1b"]
    assert [path.name for path in (tmp_path / "builders/lm1b").iterdir()] == ["1.1.0"]


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_encoded_corpus_is_that_of_the_files(tmp_path, archive, split):
    prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    shards = write_files(tmp_path / "text", FILES) / {"train": TRAIN, "test": HELDOUT}[split]
    of_files = prepare(text_source(f"{shards}/*"), tmp_path / "encoded", progress=False)
    of_tfds = prepare(
        tfds_source("lm1b", split, data_dir=str(tmp_path / "builders")), tmp_path / "encoded", progress=False
    )
    assert of_tfds.directory != of_files.directory
    assert contents(of_tfds.directory) == contents(of_files.directory)
    assert of_tfds.n_documents == {"train": 3, "test": 3}[split]


@pytest.mark.parametrize("kind", ["directory", "parent", "tar"])
def test_it_is_the_same_from_all_that_holds_the_files(tmp_path, archive, kind):
    directory, _ = prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    unpacked = write_files(tmp_path / "downloads", FILES)
    tar = write_archive(tmp_path / "lm1b.tar", FILES, mode="w")
    source = {"directory": unpacked, "parent": unpacked.parent, "tar": tar}[kind]
    other, _ = prepare_lm1b(source, str(tmp_path / "other"), progress=False)
    assert contents(other) == contents(directory)
    assert contents(unpacked.parent) == contents(write_files(tmp_path / "again", FILES).parent)


def test_more_text_than_tfds_sorts_in_memory_needs_no_tensorflow(tmp_path, archive, monkeypatch):
    from tensorflow_datasets.core import shuffle

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 10)
    assert prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)[1]["train"] == 18


def test_files_that_are_missing_from_the_official_ones_are_told(tmp_path, archive, caplog):
    with caplog.at_level(logging.WARNING, "elmo_jax"):
        prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    assert caplog.messages == [
        f"{archive} has 3 of the 99 files of the split train",
        f"{archive} has 2 of the 50 files of the split test",
    ]


# What is refused


def test_a_builder_that_exists_is_kept(tmp_path, archive):
    prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"builders/lm1b/1\.1\.0 exists already: use it, remove it or choose another"):
        prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    assert contents(tmp_path) == before


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (member("/etc/news.en-00001-of-00100"), "'/etc/news.en-00001-of-00100' leads out of the archive"),
        (member("../news"), "'../news' leads out of the archive"),
        (member(f"{LM1B}/{TRAIN}/../../../news"), f"'{LM1B}/{TRAIN}/../../../news' leads out of the archive"),
        (member(f"{LM1B}/{TRAIN}", tarfile.SYMTYPE, "/tmp"), f"'{LM1B}/{TRAIN}' is a link to '/tmp'"),
        (member("x", tarfile.LNKTYPE, "/etc/passwd"), "'x' is a link to '/etc/passwd'"),
        (member("x", tarfile.FIFOTYPE), "'x' is neither a file nor a directory"),
        (member("x", tarfile.CHRTYPE), "'x' is neither a file nor a directory"),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_unsafe_archive_is_refused_by_the_member(tmp_path, bad, message, first):
    archive = write_archive(tmp_path / "bad.tar", FILES, *([bad] if first else []), mode="w")
    if not first:
        with tarfile.open(archive, "a") as tar:
            tar.addfile(bad)
    assert refusal(tmp_path, archive).startswith(f"{archive}: its member {message}, as none of the official one; get ")


def test_a_file_that_is_twice_in_the_archive_is_refused(tmp_path, archive):
    name = f"{LM1B}/{TRAIN}/news.en-00002-of-00100"
    twice = write_archive(tmp_path / "twice.tar.gz", FILES, member(name))
    assert refusal(tmp_path, twice).startswith(f"{twice} holds {TRAIN}/news.en-00002-of-00100 twice; get http://")


def damaged(path: Path, part: float, flip: bool) -> Path:
    data = bytearray(path.read_bytes())
    position = int(len(data) * part)
    if flip:
        data[position] ^= 0xFF
    path.write_bytes(data if flip else data[:position])
    return path


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.995])
def test_a_damaged_archive_is_refused(tmp_path, archive, part, flip):
    said = refusal(tmp_path, damaged(archive, part, flip))
    assert said.startswith(f"{archive} is no tar.gz archive, or is truncated or corrupt (")
    assert f"get {lm1b.LM1B_URL}" in said


def test_a_tar_that_ends_within_a_file_is_refused(tmp_path):
    archive = write_archive(tmp_path / "lm1b.tar", FILES, mode="w")
    os.truncate(archive, 2000)
    assert "is truncated or corrupt" in refusal(tmp_path, archive)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>404 Not Found</html>" * 100, gzip.compress(b"some text\n" * 1000)],
    ids=["nothing", "a web page", "no tar"],
)
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    assert refusal(tmp_path, tmp_path / "file").startswith(f"{tmp_path}/file is ")


@pytest.mark.parametrize("without", [TRAIN, HELDOUT])
@pytest.mark.parametrize("unpacked", [True, False])
def test_an_archive_of_something_else_is_told_what_is_missing(tmp_path, without, unpacked):
    files = {name: data for name, data in FILES.items() if without not in name}
    source = write_files(tmp_path / "x", files) if unpacked else write_archive(tmp_path / "x.tar.gz", files)
    pattern = {TRAIN: "news.en-*-of-*", HELDOUT: "news.en.heldout-*-of-*"}[without]
    assert refusal(tmp_path, source) == (
        f"{source} is not the 1 Billion Word benchmark: it has no {without}/{pattern}; get {lm1b.LM1B_URL}"
    )


def test_a_missing_archive_is_told_where_to_get(tmp_path):
    assert refusal(tmp_path, tmp_path / "none.tar.gz") == f"there is no {tmp_path}/none.tar.gz; get {lm1b.LM1B_URL}"


def test_another_encoding_is_located_and_leaves_nothing_behind(tmp_path):
    files = {**FILES, f"{LM1B}/{TRAIN}/news.en-00002-of-00100": b"good .\ncaf\xe9 .\n"}
    assert refusal(tmp_path, write_archive(tmp_path / "latin.tar.gz", files)).startswith(
        f"{TRAIN}/news.en-00002-of-00100:2: invalid UTF-8 at byte 3 of the line (invalid continuation byte); this is "
    )


def test_interrupted_it_leaves_nothing_behind(tmp_path, archive, monkeypatch):
    records = lm1b._records

    def interrupt(path, *arguments):
        yield from records(path, *arguments)
        if path.name.startswith("news.en-00002"):
            raise KeyboardInterrupt

    monkeypatch.setattr(lm1b, "_records", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare_lm1b(archive, str(tmp_path / "builders"), progress=False)
    assert not list((tmp_path / "builders").iterdir())


@pytest.mark.parametrize("size", ["16k", "200k"])
def test_a_full_disk_is_told_and_nothing_is_left_behind(tmp_path, archive, size):
    with small_disk(tmp_path / "disk", size):
        with pytest.raises(UserError, match=rf"cannot prepare lm1b in {tmp_path}/disk: .*No space left.*; make room"):
            prepare_lm1b(archive, str(tmp_path / "disk"), progress=False)
        assert not list((tmp_path / "disk").iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path, archive):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=rf"cannot prepare lm1b in {tmp_path}/file: .*(File exists|Not a directory)"):
        prepare_lm1b(archive, str(tmp_path / "file"), progress=False)
