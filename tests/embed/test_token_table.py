"""Token tables, read back by h5py and by hand, hold what independent NumPy code computes for each word."""

import gzip

import h5py
import numpy as np
import pytest

from elmo_jax.config import Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.embed import token_table
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.interop.pretrained import Pretrained
from tests.filesystems import contents, small_disk
from tests.reference.numpy_bilm import NumpyBiLM, random_weights
from tests.train.small import MODEL, changed

WORDS = ["<S>", "</S>", "<UNK>", "the", "Māris", "a-word-longer-than-the-limit", "\u4e2d", "last"]
TOLERANCE = {"atol": 1e-6, "rtol": 1e-5}


def make(**changes):
    """An embedder with random weights over WORDS, and the independent implementation."""
    config = Config(model=changed(MODEL, **changes))
    options = bilm_tf.options(config, len(WORDS))
    weights = random_weights(options, np.random.default_rng(0))
    params = bilm_tf.parameters(weights, config)
    pretrained = Pretrained(config, params, Vocabulary(WORDS), "random weights")
    return Embedder(pretrained), NumpyBiLM(options, weights, WORDS)


@pytest.mark.parametrize("changes", [{}, {"input": "words"}, {"bidirectional": False}], ids=str)
def test_a_row_for_every_word(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(token_table, "BLOCK_WORDS", 3)
    embedder, reference = make(**changes)
    done = []
    token_table.write_hdf5(embedder, WORDS, tmp_path / "out.hdf5", advance=done.append)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert list(file) == ["embedding"]
        table = file["embedding"][...]
    assert table.dtype == np.float32
    np.testing.assert_allclose(table, [reference.token_encoding(word) for word in WORDS], **TOLERANCE)
    # The last word is itself, whatever bilm-tf makes of it (T1).
    assert np.abs(table[-1] - table[0]).max() > 0.1
    assert done == [3, 6, 8]


@pytest.mark.parametrize("name", ["out.txt", "out.txt.gz"])
def test_text_has_every_digit_of_the_numbers(tmp_path, name):
    embedder, _ = make()
    token_table.write_text(embedder, WORDS, tmp_path / name)
    token_table.write_hdf5(embedder, WORDS, tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        table = file["embedding"][...]
    opener = gzip.open if name.endswith(".gz") else open
    with opener(tmp_path / name, "rt", encoding="utf-8") as file:
        lines = [line.rstrip("\n").split(" ") for line in file]
    assert [word for word, *_ in lines] == WORDS
    np.testing.assert_array_equal(np.array([values for _, *values in lines], np.float32), table)


def test_nothing_is_half_written(tmp_path):
    embedder, _ = make()
    (tmp_path / "out").write_text("mine")
    for write in (token_table.write_hdf5, token_table.write_text):
        with pytest.raises(UserError, match="exists already"):
            write(embedder, WORDS, tmp_path / "out")
    with pytest.raises(UserError, match="word 2 is 'two words': white space"):
        token_table.write_text(embedder, ["one", "two words"], tmp_path / "text")
    assert contents(tmp_path) == {"out": b"mine"}
    with small_disk(tmp_path / "disk", "64k"):
        for write in (token_table.write_hdf5, token_table.write_text):
            with pytest.raises(UserError, match="No space left on device"):
                write(embedder, [f"w{i}" for i in range(20_000)], tmp_path / "disk" / "out")
            assert contents(tmp_path / "disk") == {}
