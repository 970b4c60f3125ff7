"""StableHLO programs: they are the Flax model, for any batch, in a process that has neither Flax nor this program."""

import dataclasses
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax import export as jax_export
from safetensors.numpy import load_file

from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf, safetensors_files, stablehlo
from tests.filesystems import contents
from tests.interop.models import KINDS, VOCABULARY, leaves, make
from tests.reference.numpy_bilm import NumpyBiLM

SENTENCES = [
    ["w1", "Māris", "a-token-longer-than-nine-bytes", "w1", "?"],
    ["表"],
    [],
    ["w2", "w3", "", "w19", "w2", "w2", "unheard-of"],
]


def inputs(model, sentences, room=0):
    """Ids of the batch, of characters or words, and ids of words: as bilm-tf numbers them, with boundaries."""
    length = max(map(len, sentences)) + 2 + room
    width = model.config.model.token_width
    words = np.zeros((len(sentences), length), np.int32)
    ids = np.zeros(words.shape if width is None else (*words.shape, width), np.int32)
    for row, sentence in enumerate(sentences):
        tokens = ["<S>", *sentence, "</S>"]
        words[row, : len(tokens)] = [VOCABULARY.id(token) + 1 for token in tokens]
        ids[row, : len(tokens)] = model.spelling(tokens).astype(np.int32) + 1
    return ids, words


def reference(model, sentence):
    """Layers ``[L + 1, t, D P]`` and log-probabilities ``[D, t]`` of one sentence, from independent NumPy code."""
    options = bilm_tf.options(model.config, len(VOCABULARY))
    weights = bilm_tf.datasets(model.params, model.config)
    [layers], _ = NumpyBiLM(options, weights, VOCABULARY.words)([sentence])
    words = np.array([VOCABULARY.id(token) for token in ["<S>", *sentence, "</S>"]])
    p = model.config.model.lstm.projection_dim
    forward = log_probs(model, layers[-1, :-1, :p], words[1:])
    directions = [np.append(0, forward)]
    if model.config.model.bidirectional:
        directions.append(np.append(log_probs(model, layers[-1, 1:, p:], words[:-1]), 0))
    return layers.astype(np.float32), np.stack(directions).astype(np.float32)


def log_probs(model, hidden, words):
    """Log-probability of each word: full, or head and tails (Grave et al. 2017)."""
    softmax = model.params["softmax"]
    if "bias" in softmax:
        kernel = softmax.get("kernel", model.params["encoder"].get("embedding"))
        return log_softmax(hidden @ kernel.T + softmax["bias"])[np.arange(len(words)), words]
    ends = [*model.config.model.softmax.cutoffs, len(VOCABULARY)]
    head = log_softmax(hidden @ softmax["head_kernel"].T + softmax["head_bias"])
    every = [head[:, : ends[0]]]
    for k in range(len(ends) - 1):
        inner = hidden @ softmax[f"tail_{k}_projection"]
        tail = log_softmax(inner @ softmax[f"tail_{k}_kernel"].T + softmax[f"tail_{k}_bias"])
        every.append(head[:, ends[0] + k, None] + tail)
    return np.concatenate(every, axis=1)[np.arange(len(words)), words]


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def programs(folder):
    return {file.stem: jax.jit(jax_export.deserialize(file.read_bytes()).call) for file in folder.glob("*.stablehlo")}


def assert_close(found, wanted):
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_programs_equal_independent_numpy_code(kind, tmp_path):
    model = make(kind)
    stablehlo.export(tmp_path / "elmo", model, log_probs=True)
    weights = load_file(tmp_path / "elmo" / "model.safetensors")
    found = programs(tmp_path / "elmo")
    ids, words = inputs(model, SENTENCES, room=2)
    layers, scores = found["layers"](weights, ids), found["log_probs"](weights, ids, words)
    assert layers.shape[:3] == (len(SENTENCES), model.config.model.lstm.n_layers + 1, ids.shape[1])
    assert scores.shape == (len(SENTENCES), len(model.config.model.directions), ids.shape[1])
    for row, sentence in enumerate(SENTENCES):
        n = len(sentence) + 2
        wanted_layers, wanted_scores = reference(model, sentence)
        assert_close(np.asarray(layers[row, :, :n]), wanted_layers)
        assert_close(np.asarray(scores[row, :, :n]), wanted_scores)
        assert not np.any(layers[row, :, n:])
        assert not np.any(scores[row, :, n:])


def test_a_program_is_the_flax_model_for_any_batch(tmp_path):
    model = make()
    stablehlo.export(tmp_path / "elmo", model)
    weights, layers = load_file(tmp_path / "elmo" / "model.safetensors"), programs(tmp_path / "elmo")["layers"]
    wanted = Embedder(model).embed(SENTENCES)
    for rows in ([0, 1, 2, 3], [2], [3, 1], [1] * 300):
        ids, _ = inputs(model, [SENTENCES[row] for row in rows])
        for found, row in zip(layers(weights, ids), rows, strict=True):
            assert_close(np.asarray(found[:, 1 : len(SENTENCES[row]) + 1]), wanted[row])


def test_the_probabilities_of_all_words_sum_to_one(tmp_path):
    model = make()
    stablehlo.export(tmp_path / "elmo", model, log_probs=True)
    n = len(VOCABULARY)
    ids, words = inputs(model, [["w1", "w2", "w3"]] * n)
    words[:, 2] = np.arange(1, n + 1)
    weights = load_file(tmp_path / "elmo" / "model.safetensors")
    found = programs(tmp_path / "elmo")["log_probs"](weights, ids, words)
    np.testing.assert_allclose(np.exp(found[:, :, 2]).sum(axis=0), 1, rtol=1e-5)


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"flax", "optax", "orbax", "elmo_jax", "h5py"}:
            raise ImportError(f"{name} is not here")

sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize("kind", ["adaptive", "words, shared, forward only"])
def test_the_code_of_the_readme_runs_with_jax_and_numpy_alone(kind, tmp_path):
    model = make(kind)
    stablehlo.export(tmp_path / "elmo", model, log_probs=True)
    page = (tmp_path / "elmo" / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    report = """
np.savez("found.npz", vectors=vectors, log_probs=found, first=first, perplexity=perplexity)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKED + code + report], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as file:
        found = dict(file)
    sentences = [["Every", "word", "has", "a", "vector", "."], ["Really", "?"]]
    wanted = [reference(model, sentence) for sentence in sentences]
    for row, (vectors, scores) in enumerate(wanted):
        n = len(sentences[row]) + 2
        assert_close(found["vectors"][row, :, :n], vectors)
        assert_close(found["log_probs"][row, :, :n], scores)
    assert_close(found["first"], wanted[0][0][:, 1:-1])
    np.testing.assert_allclose(found["perplexity"], np.exp(-wanted[0][1].sum(axis=1) / 7), rtol=1e-4)


def test_what_lies_in_the_folder(tmp_path):
    model = make()
    stablehlo.export(tmp_path / "vectors", model)
    assert contents(tmp_path / "vectors").keys() == {"layers.stablehlo", "model.safetensors", "README.md"}
    assert load_file(tmp_path / "vectors" / "model.safetensors").keys() == {
        path for path in leaves(model) if not path.startswith("softmax/")
    }
    stablehlo.export(tmp_path / "both", model, log_probs=True)
    assert contents(tmp_path / "both").keys() - contents(tmp_path / "vectors").keys() == {
        "log_probs.stablehlo",
        "vocab.txt",
    }
    assert load_file(tmp_path / "both" / "model.safetensors").keys() == leaves(model).keys()
    words = (tmp_path / "both" / "vocab.txt").read_text(encoding="utf-8")
    assert words == "".join(f"{word}\n" for word in VOCABULARY.words)


def test_a_program_is_small_and_for_every_platform(tmp_path):
    model = make()
    stablehlo.export(tmp_path / "elmo", model)
    file = tmp_path / "elmo" / "layers.stablehlo"
    assert file.stat().st_size < 60_000
    assert jax_export.deserialize(file.read_bytes()).platforms == ("cpu", "cuda", "tpu")


def test_weights_in_shards_serve_as_well(tmp_path, monkeypatch):
    model = make()
    monkeypatch.setattr(safetensors_files, "MAX_FILE_BYTES", 3000)
    stablehlo.export(tmp_path / "elmo", model)
    weights = {n: a for file in (tmp_path / "elmo").glob("*.safetensors") for n, a in load_file(file).items()}
    ids, _ = inputs(model, SENTENCES)
    found = programs(tmp_path / "elmo")["layers"](weights, ids)
    assert_close(np.asarray(found[0, :, :7]), reference(model, SENTENCES[0])[0])


def test_ids_of_another_width_are_refused_by_jax_in_words(tmp_path):
    model = make()
    stablehlo.export(tmp_path / "elmo", model)
    weights = load_file(tmp_path / "elmo" / "model.safetensors")
    ids, words = inputs(model, SENTENCES)
    call = jax_export.deserialize((tmp_path / "elmo" / "layers.stablehlo").read_bytes()).call
    for wrong in (ids[..., :-1], words, ids.astype(np.float32)):
        with pytest.raises(ValueError, match=r"(?s)args\[1\]|in_avals|args"):
            call(weights, wrong)


@pytest.mark.parametrize(
    ("model", "log_probs", "message"),
    [
        (make(vocabulary=None), True, "has no softmax"),
        (dataclasses.replace(make(), vocabulary=None), True, "has no vocabulary"),
        (dataclasses.replace(make("words"), vocabulary=None), False, "has no vocabulary"),
    ],
)
def test_what_cannot_be_written_is_refused(model, log_probs, message, tmp_path):
    with pytest.raises(UserError, match=message):
        stablehlo.export(tmp_path / "elmo", model, log_probs=log_probs)
    assert not any(tmp_path.iterdir())


def test_other_files_are_not_replaced(tmp_path):
    model = make()
    stablehlo.export(tmp_path / "elmo", model)
    (tmp_path / "elmo" / "run.py").write_text("mine")
    before = contents(tmp_path / "elmo")
    with pytest.raises(UserError, match=r"holds run\.py"):
        stablehlo.export(tmp_path / "elmo", model)
    assert contents(tmp_path / "elmo") == before
