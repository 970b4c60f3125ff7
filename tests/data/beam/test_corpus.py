"""A corpus that a pipeline makes is that of `elmo encode`, byte for byte; counts and errors are the same, too."""

import os
import re
from pathlib import Path

import pytest

from elmo_jax.data.beam import corpus as by_beam
from elmo_jax.data.beam import work
from elmo_jax.data.corpus import prepare
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import text_source
from elmo_jax.data.vocab import build_from_corpus, build_from_types
from elmo_jax.errors import UserError
from tests.data.beam.conftest import IN_THIS_PROCESS

beam = pytest.importorskip("apache_beam", reason="Apache Beam is absent: pip install 'elmo-jax[beam]'")

PROCESSES = "--direct_running_mode=multi_processing --direct_num_workers=2"
THREADS = "--direct_running_mode=multi_threading --direct_num_workers=2"
EVERYTHING_TWICE = f"{IN_THIS_PROCESS} --direct_runner_bundle_repeat=1"
CUTS = [Segmentation(), Segmentation("unicode", "unicode"), Segmentation("moses", "lines", "de")]


@pytest.mark.parametrize("shard_bytes", [48, 1000, 1 << 20])
@pytest.mark.parametrize("segmentation", CUTS, ids=lambda cut: cut.tokens)
def test_a_pipeline_encodes_to_the_same_bytes(encoded_twice, text, segmentation, shard_bytes):
    plain, piped = encoded_twice(text, segmentation, shard_bytes=shard_bytes)
    assert piped == plain


@pytest.mark.parametrize("flags", [PROCESSES, THREADS, EVERYTHING_TWICE])
def test_several_workers_encode_to_the_same_bytes(encoded_twice, text, flags):
    """Also when work is done again, as after the loss of a worker."""
    plain, piped = encoded_twice(text, flags=flags)
    assert piped == plain


@pytest.mark.parametrize("flags", [IN_THIS_PROCESS, THREADS])
def test_counting_gives_the_same_vocabulary(text, tmp_path, flags):
    corpus = prepare(text_source(text), tmp_path / "plain", progress=False)
    place = tmp_path / "vocab.txt"
    counted = by_beam.count(text, Segmentation(), place, flags, shard_bytes=512)
    assert (counted.n_tokens, counted.n_sentences) == (corpus.n_tokens, corpus.n_sentences)
    for limits in ((1, 1000), (3, 1000), (1, 12)):
        ours, theirs = (
            build_from_types(counted.words(), counted.type_counts, *limits),
            build_from_corpus(corpus, *limits),
        )
        assert ours.words == theirs.words
        assert ours.counts.tolist() == theirs.counts.tolist()
    assert not list(tmp_path.glob("vocab*"))


@pytest.mark.parametrize(
    ("name", "bad", "told"),
    [
        ("b-4.txt", b"fine\n" * 50 + b"a <S> b\n" + b"fine\n" * 50, r"b-4\.txt:51: the token <S>"),
        ("b-4.txt", b"fine\n" * 50 + b"a \xff\n" + b"fine\n" * 50, r"b-4\.txt:51: invalid UTF-8 at byte 252"),
        ("b-5.txt.gz", b"\x1f\x8b no gzip", r"b-5\.txt\.gz: the compressed data is truncated or corrupt"),
    ],
)
def test_bad_text_is_told_as_elmo_encode_tells_it_and_leaves_nothing(text, tmp_path, name, bad, told):
    (tmp_path / "odd text" / name).write_bytes(bad)
    (tmp_path / "odd text" / "b-8.txt").write_bytes(b"later and worse \xff\n")
    with pytest.raises(UserError, match=told) as plain:
        prepare(text_source(text), tmp_path / "cache", progress=False)
    with pytest.raises(UserError) as piped:
        by_beam.prepare(text, Segmentation(), tmp_path / "cache", IN_THIS_PROCESS, shard_bytes=64)
    assert str(piped.value) == str(plain.value)
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("content", ["", "\n \n\r\n"])
def test_text_without_tokens_is_refused_in_the_same_words(tmp_path, content):
    (tmp_path / "empty.txt").write_text(content, newline="")
    globs = str(tmp_path / "*.txt")
    with pytest.raises(UserError, match="holds no tokens") as plain:
        prepare(text_source(globs), tmp_path / "cache", progress=False)
    with pytest.raises(UserError, match=re.escape(str(plain.value))):
        by_beam.prepare(globs, Segmentation(), tmp_path / "cache", IN_THIS_PROCESS)
    with pytest.raises(UserError, match=re.escape(str(plain.value))):
        by_beam.count(globs, Segmentation(), tmp_path / "vocab.txt", IN_THIS_PROCESS)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_pipeline_that_fails_or_is_stopped_leaves_nothing(text, tmp_path, monkeypatch, error):
    def fail(*args):
        raise error("a worker fails")

    monkeypatch.setattr(work, "lay_out_piece", fail)
    with pytest.raises(error):
        by_beam.prepare(text, Segmentation(), tmp_path / "cache", IN_THIS_PROCESS)
    assert not list((tmp_path / "cache").iterdir())


def test_what_is_there_is_opened(text, tmp_path, monkeypatch):
    first = by_beam.prepare(text, Segmentation(), tmp_path, IN_THIS_PROCESS)
    monkeypatch.setattr(by_beam.pipeline, "run", None)
    again = by_beam.prepare(text, Segmentation(), tmp_path, IN_THIS_PROCESS)
    assert (again.directory, again.fingerprint) == (first.directory, first.fingerprint)


class Elsewhere(beam.io.filesystem.FileSystem if beam else object):
    """A store of objects: it lists, reads and writes whole objects, and has no folders."""

    root = Path()

    @classmethod
    def scheme(cls):
        return "elsewhere"

    def _path(self, url):
        return Path(f"{self.root}/{url.removeprefix('elsewhere://')}")

    def join(self, basepath, *paths):
        return "/".join([basepath, *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        raise NotImplementedError

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path in self.root.rglob("*"):
            url = f"elsewhere://{path.relative_to(self.root)}"
            if path.is_file() and url.startswith(dir_or_prefix):
                yield self.metadata(url)

    def create(self, path, mime_type=None, compression_type=None):
        self._path(path).parent.mkdir(parents=True, exist_ok=True)
        return self._path(path).open("wb")

    def open(self, path, mime_type=None, compression_type=None):
        return self._path(path).open("rb", buffering=0)

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def exists(self, path):
        return self._path(path).is_file()

    def size(self, path):
        return self._path(path).stat().st_size

    def last_updated(self, path):
        return self._path(path).stat().st_mtime

    def checksum(self, path):
        raise NotImplementedError

    def metadata(self, path):
        return beam.io.filesystem.FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths):
        for path in paths:
            self._path(path).unlink()


def test_text_and_parts_may_lie_in_another_file_system(encoded_twice, text, tmp_path, monkeypatch):
    """Its files sort as local ones do; parts are written to the temporary location, and removed."""
    monkeypatch.setattr(Elsewhere, "root", tmp_path)
    plain = prepare(text_source(text), tmp_path / "plain", progress=False)
    globs = "elsewhere://odd text/b-*,elsewhere://odd text/b/*"
    removed, delete = [], Elsewhere.delete
    monkeypatch.setattr(Elsewhere, "delete", lambda self, paths: removed.extend(paths) or delete(self, paths))
    flags = f"{IN_THIS_PROCESS} --temp_location=elsewhere://parts/"
    piped = by_beam.prepare(globs, Segmentation(), tmp_path / "piped", flags, shard_bytes=512)
    for path in plain.directory.iterdir():
        assert (piped.directory / path.name).read_bytes() == path.read_bytes()
    assert len(removed) > 10
    assert all(location.startswith("elsewhere://parts/elmo-") for location in removed)
    assert not [path for path in (tmp_path / "parts").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("globs", "told"),
    [
        ("elsewhere://nothing/*", "no text file matches 'elsewhere://nothing/*'"),
        ("mars://text/*", "cannot list 'mars://text/*': Unable to get filesystem"),
        ("nowhere/*.txt", "no text file matches 'nowhere/*.txt'"),
        (" , ", "no text file is named by"),
    ],
)
def test_text_that_is_not_there_is_told(tmp_path, monkeypatch, globs, told):
    monkeypatch.setattr(Elsewhere, "root", tmp_path)
    with pytest.raises(UserError, match=re.escape(told)):
        by_beam.prepare(globs, Segmentation(), tmp_path, IN_THIS_PROCESS)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--direct_num_wokers=2", "Beam has no option --direct_num_wokers"),
        ("--direct_num_workers=two", "invalid int value: 'two'"),
        ("--runner=Walker", "Unexpected pipeline runner: Walker"),
        ("'", "No closing quotation"),
    ],
)
def test_wrong_options_are_told_and_leave_nothing(text, tmp_path, flags, told):
    with pytest.raises(UserError, match=re.escape(told)):
        by_beam.prepare(text, Segmentation(), tmp_path / "cache", flags)
    assert not (tmp_path / "cache").exists() or not os.listdir(tmp_path / "cache")


def test_the_output_must_be_on_this_machine(text):
    with pytest.raises(UserError, match="is on another machine"):
        by_beam.prepare(text, Segmentation(), "gs://bucket/encoded", IN_THIS_PROCESS)
