"""Dumps of whole texts, read back with h5py alone, hold what independent NumPy code computes."""

import json

import h5py
import numpy as np
import pytest

from elmo_jax.config import Config
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.embed import dump as module
from elmo_jax.embed.dump import DumpOptions, dump
from elmo_jax.embed.dump_array import DumpedVectors
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.interop.pretrained import Mix, Pretrained
from tests.filesystems import contents
from tests.reference.numpy_bilm import NumpyBiLM, random_weights
from tests.train.small import MODEL

LINES = ["A first  line", "", " again and again ", "Māris ?", "again and again", *["x y z"] * 12, ""]
TOLERANCE = {"atol": 2e-5, "rtol": 1e-5}


def make(seed=3):
    """An embedder with random weights, and the independent implementation of the same."""
    options = bilm_tf.options(Config(model=MODEL), 30)
    weights = {name: 0.5 * value for name, value in random_weights(options, np.random.default_rng(seed)).items()}
    params = bilm_tf.parameters(weights, Config(model=MODEL))
    return Embedder(Pretrained(Config(model=MODEL), params, None, "random weights")), NumpyBiLM(options, weights)


@pytest.fixture(scope="module")
def made():
    return make()


@pytest.fixture(scope="module")
def wanted(made):
    """All layers of every line, each by itself, boundaries left out."""
    return [made[1]([line.split()])[0][0][:, 1:-1] for line in LINES]


def read(path):
    """All datasets of a file."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_a_dataset_for_every_line_under_its_number(made, wanted, tmp_path):
    done = dump(made[0], LINES, tmp_path / "out.hdf5")
    assert (done.lines, done.sentences, done.tokens, done.complete) == (18, 18, 47, True)
    found = read(tmp_path / "out.hdf5")
    assert sorted(found, key=int) == [str(i) for i in range(18)]
    for i, vectors in enumerate(wanted):
        assert found[str(i)].dtype == np.float32
        assert found[str(i)].shape == vectors.shape
        np.testing.assert_allclose(found[str(i)], vectors, **TOLERANCE)
    assert found["1"].shape == (3, 0, 12)


def test_stateful_is_bilm_tf_sentence_after_sentence(made, tmp_path, monkeypatch):
    embedder, reference = made
    options = DumpOptions(stateful=True)
    # With a stop and another process in the middle: the state is carried through the file.
    calls = iter([False] * 3 + [True])
    assert not dump(embedder, LINES, tmp_path / "out.hdf5", options, stop=lambda: next(calls)).complete
    done = dump(make()[0], LINES, tmp_path / "out.hdf5", options)
    assert done.complete
    assert done.resumed == 4
    found, state = read(tmp_path / "out.hdf5"), None
    for i, line in enumerate(LINES):
        [layers], state = reference([line.split()], state)
        np.testing.assert_allclose(found[str(i)], layers[:, 1:-1], **TOLERANCE)


def softmax(weights):
    """Of a list."""
    return np.exp(weights) / np.exp(weights).sum()


@pytest.mark.parametrize(
    ("options", "of_layers"),
    [
        (DumpOptions(layers="top"), lambda h: h[2]),
        (DumpOptions(layers="average"), lambda h: h.mean(axis=0)),
        (DumpOptions(layers=1), lambda h: h[1]),
        (DumpOptions(layers=Mix((0.1, 0.7, -0.3), 1.5)), lambda h: 1.5 * np.tensordot(softmax([0.1, 0.7, -0.3]), h, 1)),
        (DumpOptions(pooling="mean"), lambda h: h.mean(axis=1) if h.shape[1] else np.zeros((3, 12))),
        (DumpOptions(layers="top", pooling="max"), lambda h: h[2].max(axis=0) if h.shape[1] else np.zeros(12)),
        (DumpOptions(compression="gzip"), lambda h: h),
    ],
    ids=["top", "average", "number", "mix", "mean", "max of top", "compressed"],
)
def test_layers_mixes_and_pooling_in_both_layouts(made, wanted, tmp_path, options, of_layers):
    dump(made[0], LINES, tmp_path / "lines.hdf5", options)
    found = read(tmp_path / "lines.hdf5")
    dump(made[0], LINES, tmp_path / "array.hdf5", module.dataclasses.replace(options, layout="array"))
    loaded = DumpedVectors(tmp_path / "array.hdf5")
    assert len(found) == len(loaded) == len(LINES)
    for i, layers in enumerate(wanted):
        np.testing.assert_allclose(found[str(i)], of_layers(layers), **TOLERANCE)
        np.testing.assert_array_equal(loaded[i], found[str(i)])
    np.testing.assert_array_equal(loaded[-2], found["16"])
    assert [len(v) for v in loaded[2:4]] == [len(found[str(i)]) for i in (2, 3)]


def test_float16(made, wanted, tmp_path):
    dump(made[0], LINES, tmp_path / "out.hdf5", DumpOptions(dtype="float16"))
    found = read(tmp_path / "out.hdf5")
    assert found["3"].dtype == np.float16
    np.testing.assert_allclose(found["3"], wanted[3], rtol=1e-3, atol=1e-6)


def test_one_array_as_the_documentation_reads_it(made, wanted, tmp_path):
    dump(made[0], LINES, tmp_path / "out.hdf5", DumpOptions(layout="array"))
    with h5py.File(tmp_path / "out.hdf5") as file:
        vectors, offsets = file["vectors"][...], file["offsets"][...]
    assert vectors.shape == (47, 3, 12)
    assert offsets.dtype == np.int64
    for i, layers in enumerate(wanted):
        np.testing.assert_allclose(vectors[offsets[i] : offsets[i + 1]].swapaxes(0, 1), layers, **TOLERANCE)
    assert DumpedVectors(tmp_path / "out.hdf5").lines.tolist() == list(range(18))


def test_an_array_of_many_chunks_and_commits(made, wanted, tmp_path, monkeypatch):
    """Sentences lie across the seams of chunks, and chunks are not all side by side in the file."""
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr("elmo_jax.embed.dump_array.CHUNK_BYTES", 3 * 3 * 12 * 4)
    dump(made[0], LINES * 8, tmp_path / "out.hdf5", DumpOptions(layout="array"))
    loaded = DumpedVectors(tmp_path / "out.hdf5")
    assert len(loaded) == 8 * 18
    for i, vectors in enumerate(loaded):
        np.testing.assert_allclose(vectors, wanted[i % 18], **TOLERANCE)


def test_sentence_to_index_has_the_last_of_equal_sentences(made, tmp_path):
    dump(made[0], LINES, tmp_path / "out.hdf5", DumpOptions(index=True))
    with h5py.File(tmp_path / "out.hdf5") as file:
        index = file["sentence_to_index"]
        assert index.shape == (1,)
        assert h5py.check_string_dtype(index.dtype).length is None
        table = json.loads(index[0])
    assert table == {
        "A first  line": "0",
        "again and again": "4",
        "Māris ?": "3",
        "x y z": "16",
        "": "17",
    }


def test_sentences_as_keys(made, wanted, tmp_path):
    options = DumpOptions(keys="sentences")
    dump(made[0], [LINES[0], LINES[3]], tmp_path / "out.hdf5", options)
    found = read(tmp_path / "out.hdf5")
    assert list(found) == ["A first  line", "Māris ?"]
    np.testing.assert_allclose(found["Māris ?"], wanted[3], **TOLERANCE)
    for lines, message in (
        (["a b", "c", "a b"], "line 3: the sentence 'a b' is in the file already"),
        (["a", "a/b"], "line 2: the sentence 'a/b' is in the file already"),
        (["a/b", "a "], "line 2: the sentence 'a' is in the file already"),
        (["a", ""], "line 2: the sentence '' cannot be the name"),
        (["."], r"line 1: the sentence '\.' cannot be the name"),
    ):
        with pytest.raises(UserError, match=message):
            dump(made[0], lines, tmp_path / "other.hdf5", options)
    assert list(contents(tmp_path)) == ["out.hdf5"]


def test_sentences_found_within_lines(made, tmp_path):
    """They are numbered within their line, and a line without one keeps its place."""
    lines = ["One two. Three!", "", "Four five."]
    cut = Segmentation("unicode", "unicode")
    dump(made[0], lines, tmp_path / "lines.hdf5", segmentation=cut)
    found = read(tmp_path / "lines.hdf5")
    tokens = {"0/0": ["One", "two", "."], "0/1": ["Three", "!"], "2/0": ["Four", "five", "."]}
    assert list(found) == list(tokens)
    for name, sentence in tokens.items():
        np.testing.assert_allclose(found[name], made[1]([sentence])[0][0][:, 1:-1], **TOLERANCE)
    with h5py.File(tmp_path / "lines.hdf5") as file:
        assert list(file) == ["0", "1", "2"]
    dump(made[0], lines, tmp_path / "array.hdf5", DumpOptions(layout="array"), segmentation=cut)
    loaded = DumpedVectors(tmp_path / "array.hdf5")
    assert loaded.lines.tolist() == [0, 0, 2]
    for vectors, name in zip(loaded, tokens, strict=True):
        np.testing.assert_array_equal(vectors, found[name])


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_a_text_without_lines(made, tmp_path, layout):
    dump(made[0], [], tmp_path / "out.hdf5", DumpOptions(layout=layout))
    found = read(tmp_path / "out.hdf5")
    assert all(len(found[name]) == n for name, n in ({"vectors": 0, "offsets": 1} if layout == "array" else {}).items())
    assert layout == "array" or found == {}


@pytest.mark.parametrize("layout", ["lines", "array"])
def test_what_was_begun_is_gone_on_with(made, wanted, tmp_path, monkeypatch, layout):
    """Interrupted after every line, it is the same as in one go; only what is missing is computed."""
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.0)
    options = DumpOptions(layout=layout, index=layout == "lines")
    path, times = tmp_path / "out.hdf5", 0
    while not dump(made[0], LINES, path, options, stop=lambda: True).complete:
        times += 1
        assert not path.exists()
    assert times == 18
    dump(made[0], LINES, tmp_path / "whole.hdf5", options)
    found, whole = read(path), read(tmp_path / "whole.hdf5")
    assert list(found) == list(whole)
    for name, values in whole.items():
        if values.dtype == object:
            assert values == found[name]
        else:
            np.testing.assert_allclose(found[name], values, **TOLERANCE)


def test_another_text_model_or_wish_is_refused(made, tmp_path):
    path = tmp_path / "out.hdf5"
    dump(made[0], LINES, path, stop=lambda: True)
    before = contents(tmp_path)
    for embedder, lines, options, message in (
        (made[0], ["Another first line", *LINES[1:]], DumpOptions(), "was begun with another text: its first 1 lines"),
        (made[0], [], DumpOptions(), "was begun with another text"),
        (make(4)[0], LINES, DumpOptions(), "was begun with model "),
        (made[0], LINES, DumpOptions(layers="top"), 'was begun with layers "all", and now it is "top"'),
    ):
        with pytest.raises(UserError, match=message):
            dump(embedder, lines, path, options)
        assert contents(tmp_path) == before
    assert dump(made[0], LINES, path).resumed == 1


def test_wishes_that_make_no_sense_are_refused(made, tmp_path):
    path = tmp_path / "out.hdf5"
    for options, message in (
        (DumpOptions(layers=3), "layers is 3"),
        (DumpOptions(layers="mix"), "has no learnt mixture"),
        (DumpOptions(layers=Mix((1.0, 2.0))), "the mixture has 2 weights: the model has 3 layers"),
        (DumpOptions(layout="array", index=True), "no names in one array"),
        (DumpOptions(keys="sentences", index=True), "a sentence is its own name"),
    ):
        with pytest.raises(UserError, match=message):
            dump(made[0], LINES, path, options)
    path.write_bytes(b"no HDF5")
    with pytest.raises(UserError, match=r"cannot read .* as HDF5"):
        DumpedVectors(path)
    dump(made[0], LINES, path, overwrite=True)
    with pytest.raises(UserError, match="has no array of all vectors"):
        DumpedVectors(path)
