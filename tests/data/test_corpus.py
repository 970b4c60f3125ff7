import errno
import itertools
import json
import logging
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data import corpus as corpus_module
from elmo_jax.data import encoding, numbering
from elmo_jax.data.characters import character_ids, character_rows, utf8
from elmo_jax.data.corpus import Corpus, encode, open_corpus, prepare, text_or_corpus
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import Source, text_source
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from tests.filesystems import small_disk

WORDS = st.text(alphabet="abé€𝄞", min_size=1, max_size=5)
SENTENCES = st.lists(st.none() | st.lists(WORDS, max_size=6)).filter(any)


def sentences_of(corpus: Corpus) -> list[list[str]]:
    ids, starts = corpus.ids.tolist(), corpus.starts.tolist()
    return [[corpus.word(i) for i in ids[a + 1 : b]] for a, b in itertools.pairwise(starts)]


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "shard.txt"
    path.write_text("the cat sat\n\nthe dog\non the mat\n")
    return path


# The laws of an encoded corpus


@given(SENTENCES)
def test_encoding_keeps_the_text(tmp_path_factory, sentences):
    directory = tmp_path_factory.mktemp("encoded") / "corpus"
    encode(iter(sentences), directory)
    corpus = open_corpus(directory)

    real = list(filter(None, sentences))
    tokens = [token for sentence in real for token in sentence]
    documents = [list(g) for ended, g in itertools.groupby(sentences, key=lambda s: not s) if not ended]
    assert sentences_of(corpus) == real
    assert (corpus.n_tokens, corpus.n_sentences) == (len(tokens), len(real))
    assert corpus.n_predictions == len(tokens) + len(real)
    assert np.diff(corpus.documents).tolist() == list(map(len, documents))
    assert corpus.n_documents == len(documents)
    assert corpus.n_empty_lines == sentences.count([])
    assert corpus.n_types == len(set(tokens)) + 2
    assert corpus.n_token_types == len(set(tokens))
    assert corpus.longest_token_bytes == max(4, *(len(utf8(token)) for token in tokens))

    counts = Counter(tokens) + Counter({"<S>": len(real), "</S>": len(real)})
    assert dict(zip(corpus.words(), corpus.type_counts.tolist(), strict=True)) == counts


@given(SENTENCES)
def test_types_are_sorted_by_length_and_bytes(tmp_path_factory, sentences):
    directory = tmp_path_factory.mktemp("encoded") / "corpus"
    encode(iter(sentences), directory)
    words = list(open_corpus(directory).words())
    assert words[:2] == ["<S>", "</S>"]
    assert words[2:] == sorted(set(words[2:]), key=lambda word: (len(utf8(word)), utf8(word)))


def test_chunks_leave_no_trace(encoded, documents, monkeypatch):
    whole = encoded(documents)
    monkeypatch.setattr(encoding, "CHUNK", 7)
    monkeypatch.setattr(numbering, "SENTENCES_AT_ONCE", 3)
    assert encoded(documents).fingerprint == whole.fingerprint


def test_the_fingerprint_is_of_the_contents(encoded):
    texts = [[[["a", "b"]]], [[["a", "b"]]], [[["b", "a"]]], [[["a"], ["b"]]], [[["a"]], [["b"]]], [[["a", "c"]]]]
    fingerprints = [encoded(text).fingerprint for text in texts]
    assert fingerprints[0] == fingerprints[1]
    assert len(set(fingerprints)) == 5


def test_the_first_sentences_are_a_corpus(encoded, documents):
    whole = encoded(documents)
    sentences = sentences_of(whole)
    for n in range(1, len(sentences) + 1):
        n_predictions = sum(len(sentence) + 1 for sentence in sentences[:n])
        for extra in (0, 1):  # no sentence has just one prediction
            part = whole.first(n_predictions + extra)
            assert sentences_of(part) == sentences[:n]
            assert (part.n_predictions, part.n_tokens) == (n_predictions, n_predictions - n)
            assert part.documents.tolist() == [*(d for d in whole.documents.tolist() if d < n), n]
            assert part.type_counts[:2].tolist() == [n, n]
            counts = {part.word(i): int(c) for i, c in enumerate(part.type_counts) if i > 1 and c}
            assert counts == Counter(itertools.chain(*sentences[:n]))
    assert whole.first(10**9) is whole
    assert sentences_of(whole.first(1)) == sentences[:1]
    assert len({whole.first(n).fingerprint for n in (1, 30, 60, 10**9)}) == 4


def test_types_spell_every_token(encoded, documents):
    corpus = encoded([*documents, [["x" * 2**20, "€" * 40]]])
    tokens = ["<S>", *(t for d in documents for s in d for t in [*s, "<S>"]), "x" * 2**20, "€" * 40, "<S>"]
    rows = character_rows(corpus.type_bytes, corpus.type_offsets, corpus.ids, 50)
    np.testing.assert_array_equal(rows, character_ids(tokens, 50))


def test_types_find_their_word_in_any_vocabulary(encoded):
    corpus = encoded([[["b", "a", "<UNK>", "cc"]]])
    vocabulary = Vocabulary(["b", "</S>", "cc", "<UNK>", "<S>", "never"])
    ids = corpus.word_ids(vocabulary)
    assert ids.dtype == np.int32
    assert list(corpus.words()) == ["<S>", "</S>", "a", "b", "cc", "<UNK>"]
    assert ids.tolist() == [4, 1, 3, 0, 2, 3]


@pytest.mark.parametrize("sentences", [[], [[]], [[], None, []]])
def test_an_empty_text_is_refused(tmp_path, sentences):
    with pytest.raises(UserError, match=r"news holds no tokens \(\d empty lines\)"):
        encode(sentences, tmp_path / "corpus", "news")
    assert not list(tmp_path.iterdir())


def test_boundary_marks_are_refused(tmp_path):
    with pytest.raises(UserError, match="</S>"):
        encode([["a", "</S>"]], tmp_path / "corpus")


# Finding and making


def test_a_text_is_encoded_once(shard, tmp_path, monkeypatch):
    first = prepare(text_source(str(shard)), tmp_path / "cache")
    assert first.directory.name.startswith("text-")
    monkeypatch.setattr(corpus_module, "encode", None)
    assert prepare(text_source(str(shard)), tmp_path / "cache").directory == first.directory


def test_an_encoded_corpus_is_text_too(shard, tmp_path):
    corpus = prepare(text_source(str(shard)), tmp_path / "cache", progress=False)
    source = text_or_corpus(f" {corpus.directory} ", Segmentation())
    again = prepare(source, tmp_path / "unused", progress=False)
    assert (again.fingerprint, again.directory) == (corpus.fingerprint, corpus.directory)
    assert not (tmp_path / "unused").exists()
    sentences = list(source.read([].append))
    encode(sentences, tmp_path / "from its sentences")
    assert open_corpus(tmp_path / "from its sentences").ids.tolist() == corpus.ids.tolist()
    assert open_corpus(tmp_path / "from its sentences").documents.tolist() == corpus.documents.tolist()
    # Everything else is text.
    assert text_or_corpus(str(shard), Segmentation()).files == (shard,)
    with pytest.raises(UserError, match="it is a directory"):
        text_or_corpus(str(tmp_path), Segmentation())
    with pytest.raises(UserError, match="no text file is named"):
        text_or_corpus(" ", Segmentation())


def test_a_changed_text_is_encoded_again(shard, tmp_path):
    first = prepare(text_source(str(shard)), tmp_path / "cache")
    stat = shard.stat()
    shard.write_text(shard.read_text().replace("cat", "cow"))
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    second = prepare(text_source(str(shard)), tmp_path / "cache")
    assert ["the", "cow", "sat"] in sentences_of(second)
    assert second.fingerprint != first.fingerprint


def test_two_processes_may_encode_at_once(shard, tmp_path):
    """The second one finishes while the first one is still reading."""
    files = text_source(str(shard)).files

    def read(advance):
        yield from text_source(str(shard)).read(advance)
        prepare(text_source(str(shard)), tmp_path / "cache")

    late = prepare(Source("text", files, read), tmp_path / "cache")
    assert sentences_of(late)[0] == ["the", "cat", "sat"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [late.directory.name]


def test_what_a_killed_build_left_is_removed_after_a_day(shard, tmp_path):
    dead, living = (tmp_path / "cache" / f"text-0{encoding.BUILDING}{name}" for name in ("dead", "living"))
    for directory in (dead, living):
        directory.mkdir(parents=True)
        (directory / "ids.bin").touch()
    for path in (dead, dead / "ids.bin"):
        os.utime(path, (0, 0))
    prepare(text_source(str(shard)), tmp_path / "cache")
    assert not dead.exists()
    assert living.exists()


def test_what_was_encoded_is_logged(shard, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        corpus = prepare(text_source(str(shard)), tmp_path / "cache")
    assert caplog.messages == [f"text: 8 tokens, 3 sentences, 6 types, 1 empty lines ({corpus.directory})"]


# Damage


@pytest.mark.parametrize("name", [*encoding.COLUMNS])
def test_a_truncated_file_is_named(encoded, name):
    directory = encoded([[["a", "b"]]]).directory
    path = directory / f"{name}.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{name}.bin: it has .* bytes instead of .*; delete the directory {directory}"):
        open_corpus(directory)
    path.unlink()
    with pytest.raises(UserError, match=f"{name}.bin: it has 0 bytes"):
        open_corpus(directory)


@pytest.mark.parametrize("header", [b"", b"{", b"{}", b"[]", json.dumps({"format": 0}).encode()])
def test_a_wrong_header_is_named(encoded, header):
    directory = encoded([[["a"]]]).directory
    (directory / "header.json").write_bytes(header)
    with pytest.raises(UserError, match=r"header\.json: it .*; delete the directory"):
        open_corpus(directory)


def test_no_corpus_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none/header\.json"):
        open_corpus(tmp_path / "none")


def test_a_vanished_shard_is_named(shard, tmp_path):
    source = text_source(str(shard))
    shard.unlink()
    with pytest.raises(UserError, match=r"cannot read .*shard\.txt: No such file"):
        prepare(source, tmp_path / "cache")


def test_bad_text_leaves_nothing_behind(shard, tmp_path):
    shard.write_bytes(b"a\n\xff\n")
    with pytest.raises(UserError, match=r"shard\.txt:2: invalid UTF-8"):
        prepare(text_source(str(shard)), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_cache_that_cannot_be_made_is_named(shard, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write the encoded corpus .*file/cache.*: Not a directory"):
        prepare(text_source(str(shard)), tmp_path / "file" / "cache")


def test_a_limit_on_file_sizes_is_told_and_leaves_nothing_behind(shard, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    shard.write_text("some words\n" * 10_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=f"cannot write .*: {os.strerror(errno.EFBIG)}"):
            prepare(text_source(str(shard)), tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_told_and_leaves_nothing_behind(shard, tmp_path):
    disk = tmp_path / "disk"
    with small_disk(disk, "64k"):
        shard.write_text("some words\n" * 20_000)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
            prepare(text_source(str(shard)), disk)
        assert not list(disk.iterdir())


# Memory

PEAK_OF_ENCODING = """
import sys
from pathlib import Path
from elmo_jax.data.corpus import prepare
from elmo_jax.data.text import text_source
prepare(text_source(sys.argv[1]), Path(sys.argv[2]))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_follows_the_types_and_not_the_tokens(tmp_path):
    words = np.array([f"{n:x}" for n in range(100_000)])
    rng = np.random.default_rng(0)
    peaks = []
    for millions in (1, 10):
        path = tmp_path / f"{millions}.txt"
        with path.open("w") as file:
            for _ in range(millions):
                lines = words[rng.zipf(1.3, 10**6) % len(words)].reshape(-1, 25)
                file.writelines(" ".join(line) + "\n" for line in lines)
        command = [sys.executable, "-c", PEAK_OF_ENCODING, str(path), str(tmp_path / "cache")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024)
    assert peaks[1] - peaks[0] < 100  # MiB
