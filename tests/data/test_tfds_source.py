import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from elmo_jax.data import tfds_source as module
from elmo_jax.data.corpus import prepare
from elmo_jax.data.text import read_sentences, text_source
from elmo_jax.data.tfds_builder import data_directory
from elmo_jax.data.tfds_source import shared_records, tfds_source
from elmo_jax.errors import UserError
from tests.builders import prepare_builder
from tests.filesystems import contents

ROOT = Path(__file__).resolve().parents[2]
LINES = [f"line {n} of some" for n in range(25)]
ARTICLES = ["", "one line", "another\n", "an article\nof two lines", "one  line \r\n\n and two", "", "the last"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A directory with a few builders."""
    folder = tmp_path_factory.mktemp("builders")
    prepare_builder(folder, {"train": LINES, "valid": ["a b", "c"]})
    prepare_builder(folder, {"train": ARTICLES}, name="articles", config="long", version="2.1.0")
    story = {"story": {"title": "a title", "body": "a body"}, "n": 3, "source": "web"}
    prepare_builder(
        folder,
        {"train": [story]},
        lambda tfds: {
            "story": {"title": tfds.features.Text(), "body": tfds.features.Tensor(shape=(), dtype=np.str_)},
            "n": tfds.features.Scalar(np.int64),
            "source": tfds.features.ClassLabel(names=["web", "book"]),
        },
        name="stories",
    )
    numbers = {"n": 3, "words": ["a", "b"]}
    prepare_builder(
        folder,
        {"train": [numbers]},
        lambda tfds: {"n": tfds.features.Scalar(np.int64), "words": tfds.features.Sequence(tfds.features.Text())},
        name="numbers",
    )
    return str(folder)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing may be asked from the network."""

    def refuse(*arguments):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def sentences(*arguments, **options):
    return list(tfds_source(*arguments, **options).read(lambda n_bytes: None))


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        sentences(*arguments, **options)
    return str(caught.value)


# What is read


def test_records_of_one_line_are_a_shard_of_lines(tmp_path, data_dir):
    (tmp_path / "shard").write_text("\n".join(LINES))
    assert sentences("small", "train", data_dir=data_dir) == list(read_sentences([tmp_path / "shard"]))


def test_the_encoded_corpus_is_that_of_the_same_lines_as_text(tmp_path, data_dir):
    (tmp_path / "shard").write_text("\n".join(LINES))
    ours = prepare(tfds_source("small", "train", data_dir=data_dir), tmp_path / "encoded", progress=False)
    theirs = prepare(text_source(str(tmp_path / "shard")), tmp_path / "encoded", progress=False)
    assert contents(ours.directory) == contents(theirs.directory)
    assert ours.directory.name.startswith("small-train-")


def test_a_record_of_several_lines_is_a_document_of_its_own(data_dir):
    assert sentences("articles/long:2.1.0", "train", data_dir=data_dir) == [
        *([], ["one", "line"], ["another"]),
        *(None, ["an", "article"], ["of", "two", "lines"], None),
        *(None, ["one", "line"], [], ["and", "two"], None),
        *([], ["the", "last"], None),
    ]


@pytest.mark.parametrize("block", [1, 3, 8192])
@pytest.mark.parametrize("split", ["train[:3]", "train[20%:60%]", "valid+train[-1:]", "train[5:7]+train[2:4]"])
def test_splits_are_those_of_tfds_however_much_is_read_at_once(data_dir, monkeypatch, split, block):
    import tensorflow_datasets as tfds

    monkeypatch.setattr(module, "BLOCK_RECORDS", block)
    records = tfds.data_source("small:1.0.0", split=split, data_dir=data_dir, download=False)
    texts = [record["text"].decode().split() for record in records]
    assert [tokens for tokens in sentences("small", split, data_dir=data_dir) if tokens is not None] == texts


def test_each_part_of_a_split_ends_a_document(data_dir):
    assert sentences("small", "train[:1]+train[1:2]", data_dir=data_dir).count(None) == 2


def test_large_records_are_read_few_at_once(data_dir, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * os.path.getsize(f"{data_dir}/small/1.0.0/{FILE}") // len(LINES))
    import tensorflow_datasets as tfds

    source, asked = tfds_source("small", "train", data_dir=data_dir), []
    plain = tfds.core.data_sources.array_record.ArrayRecordDataSource.__getitems__
    monkeypatch.setattr(
        tfds.core.data_sources.array_record.ArrayRecordDataSource,
        "__getitems__",
        lambda self, keys: asked.append(len(keys)) or plain(self, keys),
    )
    assert len(list(source.read(lambda n_bytes: None))) == len(LINES) + 1
    assert asked == [3] * 8 + [1]


FILE = "small-train.array_record-00000-of-00001"


@pytest.mark.parametrize("split", ["train", "train[:10]", "train[3:9]+valid"])
def test_progress_adds_up_to_the_size_of_the_files(data_dir, monkeypatch, split):
    monkeypatch.setattr(module, "BLOCK_RECORDS", 4)
    told = []
    source = tfds_source("small", split, data_dir=data_dir)
    list(source.read(told.append))
    assert len(told) > 1
    assert sum(told) == sum(path.stat().st_size for path in source.files)


def test_a_file_is_closed_before_the_next_one_is_opened(tmp_path):
    folder = prepare_builder(tmp_path, {"train": LINES, "valid": ["a b", "c"]})
    opened = []
    for _ in tfds_source("small", "valid+train", data_dir=str(tmp_path)).read(lambda n_bytes: None):
        files = (Path(f"/proc/self/fd/{fd}").resolve() for fd in os.listdir("/proc/self/fd"))
        opened.append([file.name for file in files if file.parent == folder])
    valid = FILE.replace("train", "valid")
    assert opened == [[valid], [valid], [], *([FILE] for _ in LINES), []]


def test_the_directory_is_that_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data_directory() == tmp_path
    assert data_directory("here") == Path("here")
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert data_directory() == Path.home() / "tensorflow_datasets"


# Features


@pytest.mark.parametrize(("feature", "text"), [("story/title", "title"), ("story/body", "body")])
def test_a_feature_is_named_by_its_path(data_dir, feature, text):
    assert sentences("stories", "train", feature=feature, data_dir=data_dir) == [["a", text], None]


@pytest.mark.parametrize(
    ("name", "feature", "message"),
    [
        ("stories", "", "stories/1.0.0 has 2 texts, story/body, story/title: name one by --config.data.tfds.feature"),
        ("stories", "n", "stories/1.0.0: the feature 'n' is no text: choose story/body or story/title"),
        ("stories", "title", "stories/1.0.0: the feature 'title' does not exist: choose story/body or story/title"),
        ("numbers", "", "numbers/1.0.0 has no text among its features (n, words): choose another builder"),
        ("numbers", "words", "numbers/1.0.0 has no text among its features (n, words): choose another builder"),
    ],
)
def test_a_feature_that_is_no_text_is_refused(data_dir, name, feature, message):
    assert refusal(name, "train", feature=feature, data_dir=data_dir).startswith(message)


# Text that is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"caf\xe9 au lait", "invalid UTF-8 at byte 3 of its text (invalid continuation byte)"),
        (b"a b\nc \0 d", "NUL byte at byte 6 of its text; text must be UTF-8 without NUL bytes"),
        (b"a b\nc </S> d", "the token </S> is the mark of a sentence boundary and may not occur in text"),
    ],
)
def test_text_that_cannot_be_used_is_located(tmp_path, text, message):
    import tensorflow_datasets as tfds

    prepare_builder(tmp_path, {"train": [b"good", b"x<S> is text", b"good", text]})
    said = refusal("small", "train[1:]", data_dir=str(tmp_path))
    assert said.startswith(f"small/1.0.0 train[1:], record 2 (in {FILE}): {message}")
    found = tfds.data_source("small:1.0.0", split="train[1:]", data_dir=tmp_path, download=False)[2]
    assert found["text"] == text


# Builders that cannot be read


def test_lm1b_that_is_not_prepared_tells_what_to_download_and_run(tmp_path):
    assert refusal("lm1b", "train", data_dir=str(tmp_path)) == (
        f"lm1b is not prepared in {tmp_path}: download http://www.statmt.org/lm-benchmark/"
        "1-billion-word-language-modeling-benchmark-r13output.tar.gz (1.8 GB), then run: elmo prepare-lm1b "
        f"1-billion-word-language-modeling-benchmark-r13output.tar.gz --data-dir {tmp_path}"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "wiki40b/de",
            "wiki40b/de is not prepared in {} (this may need TensorFlow and a network, once, on any machine",
        ),
        ("wiki40b/de", "tfds.builder('wiki40b/de', data_dir='{}').download_and_prepare(file_format='array_record')"),
        (
            "articles/short",
            "articles/short is not prepared in {}, where there is articles/long:2.1.0: give such a name",
        ),
        ("small:2.0.0", "small:2.0.0 is not prepared in {}, where there is small:1.0.0: give such a name"),
        ("smal", "there is no builder 'smal': it is not in {}, and TFDS does not know it; did you mean small"),
        ("lm2b", "there is no builder 'lm2b': it is not in {}, and TFDS does not know it; did you mean lm1b"),
        ("qqqqq", "TFDS does not know it; a builder of your own must be prepared there first"),
        ("a b", "'a b' cannot name a builder on disk: give NAME, NAME/CONFIG or NAME/CONFIG:1.0.0, such as lm1b"),
        ("../small", "'../small' cannot name a builder on disk"),
        ("huggingface:ag_news", "'huggingface:ag_news' cannot name a builder on disk"),
        ("", "'' cannot name a builder on disk"),
    ],
)
def test_a_builder_that_is_not_there_is_explained(data_dir, name, message):
    assert message.format(data_dir) in refusal(name, "train", data_dir=data_dir)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("trian", "small/1.0.0 has no split 'trian': Unknown split 'trian'. Should be one of ['train', 'valid']."),
        ("train[:26]", "small/1.0.0 has no split 'train[:26]': Requested slice [:26] incompatible with 25 examples."),
        ("train[4:4]", "small/1.0.0 has no split 'train[4:4]': It has no records. There is train, valid, and parts"),
        ("train+", "small/1.0.0 has no split 'train+': Error parsing split 'train+'."),
    ],
)
def test_a_split_that_is_not_there_is_explained(data_dir, split, message):
    assert refusal("small", split, data_dir=data_dir).startswith(message)


def test_a_builder_in_another_format_is_refused(tmp_path):
    info = prepare_builder(tmp_path, {"train": LINES}) / "dataset_info.json"
    info.write_text(json.dumps({**json.loads(info.read_text()), "fileFormat": "tfrecord"}))
    said = refusal("small", "train", data_dir=str(tmp_path))
    assert said.startswith(f"small/1.0.0 in {info.parent} is prepared as tfrecord, but only array_record can be read")
    assert "prepare it in another directory" in said


@pytest.mark.parametrize("size", [0, 1000, 70_000])
def test_a_damaged_file_is_named(tmp_path, size):
    file = prepare_builder(tmp_path, {"train": LINES * 100}) / FILE
    os.truncate(file, size)
    assert refusal("small", "train", data_dir=str(tmp_path)).startswith(f"{file} is damaged (")


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_metadata_are_told(tmp_path, file):
    os.truncate(prepare_builder(tmp_path, {"train": LINES}) / file, 50)
    assert refusal("small", "train", data_dir=str(tmp_path)).startswith(f"small in {tmp_path} is damaged (")


def test_a_missing_file_is_named(tmp_path):
    file = prepare_builder(tmp_path, {"train": LINES}) / FILE
    file.unlink()
    assert refusal("small", "train", data_dir=str(tmp_path)) == (
        f"small/1.0.0: {file} is missing: prepare the builder again"
    )


# Splits and the cache of encoded corpora


@pytest.mark.parametrize(
    ("first", "second", "n"),
    [("train", "valid", 0), ("train[:60%]", "train[50%:]", 3), ("train", "valid+train[4:6]", 2)],
)
def test_records_in_two_splits_are_counted(data_dir, first, second, n):
    assert shared_records("small", first, second, data_dir) == n


def test_what_was_encoded_is_found_again_until_it_is_prepared_anew(tmp_path):
    prepared = prepare_builder(tmp_path, {"train": LINES, "valid": LINES})

    def encoded(split, **options):
        source = tfds_source("small", split, data_dir=str(tmp_path), **options)
        return prepare(source, tmp_path / "encoded", progress=False).directory

    assert encoded("train") == encoded("train") == encoded("train", feature="text")
    assert len({encoded(split) for split in ("train", "valid", "train[:5]", "train[5:]", "train[:5]+train[7:]")}) == 5
    first = encoded("train")
    for file in prepared.iterdir():
        file.unlink()
    prepared.rmdir()
    prepare_builder(tmp_path, {"train": LINES, "valid": LINES})
    assert encoded("train") != first


# What is imported


def test_neither_tensorflow_nor_jax_is_imported_and_tfds_only_to_read(data_dir):
    program = (
        "import sys\n"
        "from elmo_jax.data.tfds_source import tfds_source\n"
        "from elmo_jax.commands import COMMANDS\n"
        "assert 'tensorflow_datasets' not in sys.modules\n"
        "print(len(list(tfds_source('small', 'train', data_dir=sys.argv[1]).read(lambda n: None))))\n"
        "print({'tensorflow', 'jax'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, data_dir], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == (f"{len(LINES) + 1}\nset()\n", "")


@pytest.mark.parametrize("package", ["tensorflow_datasets", "importlib_resources"])
def test_without_the_package_it_says_how_to_install_it(monkeypatch, data_dir, package):
    monkeypatch.setitem(sys.modules, package, None)
    assert refusal("small", "train", data_dir=data_dir) == (
        f"reading TensorFlow Datasets needs the package {package}: pip install tensorflow-datasets importlib_resources"
    )
