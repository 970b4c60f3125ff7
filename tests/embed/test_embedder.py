"""Vectors: those of independent NumPy code, whatever the company a sentence is in."""

import json

import numpy as np
import pytest

from elmo_jax.config import Config
from elmo_jax.embed import engine as module
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train.pretrain import pretrain
from tests.reference.numpy_bilm import NumpyBiLM, load_hdf5, random_weights
from tests.train.small import MODEL, config

SENTENCES = [
    ["A", "first", "sentence", "of", "quite", "extraordinary", "length", ",", "over", "a", "bucket"],
    ["Māris", "?"],
    [],
    ["again", "and", "again", "and", "again"],
    ["x"] * 40,
    ["\u4e2d\u6587", "a-token-longer-than-the-limit", "<S>", ""],
]


@pytest.fixture(scope="module")
def made():
    """An embedder with random weights, and the independent implementation of the same."""
    options = bilm_tf.options(Config(model=MODEL), 30)
    weights = {name: 0.5 * value for name, value in random_weights(options, np.random.default_rng(3)).items()}
    params = bilm_tf.parameters(weights, Config(model=MODEL))
    return Embedder(Pretrained(Config(model=MODEL), params, None, "random weights")), NumpyBiLM(options, weights)


def assert_equal(found, wanted):
    assert len(found) == len(wanted)
    for got, expected in zip(found, wanted, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=2e-5, rtol=1e-5)


def test_equals_independent_numpy_code(made):
    embedder, reference = made
    wanted = [reference([sentence])[0][0][:, 1:-1] for sentence in SENTENCES]
    assert_equal(embedder.embed(SENTENCES), wanted)
    assert embedder.embed([[]])[0].shape == (3, 0, 12)
    assert embedder.embed([]) == []


def test_a_sentence_has_the_same_vectors_in_any_company(made, monkeypatch):
    embedder, _ = made
    alone = [embedder.embed([sentence])[0] for sentence in SENTENCES]
    order = np.random.default_rng(0).permutation(len(SENTENCES) * 3)
    many = [SENTENCES[i % len(SENTENCES)] for i in order]
    assert_equal(embedder.embed(many), [alone[i % len(SENTENCES)] for i in order])
    monkeypatch.setattr(module, "BLOCK_WINDOWS", 1)
    assert_equal(embedder.embed(many), [alone[i % len(SENTENCES)] for i in order])


def test_text_is_cut_as_the_training_text_was(made):
    embedder, _ = made
    found = list(embedder.text(["A first line .\n", "\n", "Māris ?"]))
    sentences = [[token.text for token in passage.tokens] for passage in found]
    assert sentences == [["A", "first", "line", "."], ["Māris", "?"]]
    assert_equal([passage.vectors for passage in found], embedder.embed(sentences))


def test_text_instead_of_tokens_is_refused(made):
    with pytest.raises(UserError, match=r"not the text 'A sentence': use its \.split\(\)"):
        made[0].embed(["A sentence"])


def test_a_run_gives_the_vectors_of_its_exported_weights(tmp_path):
    """The best weights, read back from the HDF5 file by independent code."""
    run = config(tmp_path, train={"n_steps": 6})
    assert pretrain(run) == 0
    export = tmp_path / "run" / "export"
    options = json.loads((export / "options.json").read_text(encoding="utf-8"))
    reference = NumpyBiLM(options, load_hdf5(export / "weights.hdf5"))
    wanted = [reference([sentence])[0][0][:, 1:-1] for sentence in SENTENCES]
    assert_equal(Embedder.from_pretrained(tmp_path / "run").embed(SENTENCES), wanted)
