"""TensorFlow checkpoints of bilm-tf: which names are weights, which files are a checkpoint, and real ones read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf, tf_checkpoint
from elmo_jax.interop.bilm_tf_names import by_dataset_name
from elmo_jax.train import trained
from tests.interop.test_bilm_tf import VOCABULARY, assert_same_tree, make, parameter_tree

MODELS = {
    "two layers": make(softmax="sampled"),
    "one layer": make(softmax="sampled", lstm={"n_layers": 1}),
    "one direction": make(softmax="sampled", bidirectional=False),
    "words, one layer": make(softmax="sampled", input="words", lstm={"n_layers": 1}),
}
models = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS.keys())


def variables(config) -> dict[str, np.ndarray]:
    """The weights by their names in a checkpoint (ELMO_SPEC 2.9); one direction has no scope of its own (T6)."""
    params = parameter_tree(config)
    arrays = bilm_tf.datasets(params, config) | (bilm_tf.softmax_datasets(params) or {})
    found = {}
    for name, array in arrays.items():
        words = name.split("/")
        if words[0].startswith("RNN"):
            direction, _, _, cell, _, part = words
            scope = [direction] if config.model.bidirectional else []
            layers = ["multi_rnn_cell", cell.replace("Cell", "cell_")] if config.model.lstm.n_layers > 1 else []
            words = [*scope, "rnn", *layers, "lstm_cell", {"W_0": "kernel", "B": "bias"}.get(part, "projection/kernel")]
        found["/".join(["lm", *words])] = array
    return found


@models
def test_the_weights_are_found_among_the_variables(config):
    arrays = variables(config)
    others = {f"{name}/Adagrad": array for name, array in arrays.items()} | {"global_step": 7, "train_perplexity": 1.5}
    names = tf_checkpoint.of_model(arrays | others)
    assert set(names) == set(arrays)
    params = parameter_tree(config)
    expected = bilm_tf.datasets(params, config) | (bilm_tf.softmax_datasets(params) or {})
    found = by_dataset_name({name: arrays[name] for name in names}, "checkpoint")
    assert found.keys() == expected.keys()
    assert all(found[name] is not None and found[name].tobytes() == expected[name].tobytes() for name in found)


def test_a_model_of_two_layers_has_the_known_number_of_variables():
    """64 with the slots, the step and the perplexity, for five filters and one highway (ELMO_SPEC 2.9)."""
    config = make(cnn={"filters": tuple((width, 4) for width in range(1, 6)), "n_highway": 1})
    assert 2 * len(variables(config)) + 2 == 64


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["model.ckpt-5.index", "model.ckpt-10.index", "model.ckpt-10.data-00000-of-00001"], "model.ckpt-10"),
        (["model.ckpt-5", "model.ckpt-5.meta", "model.ckpt-30.meta"], "model.ckpt-5"),
        (["model.ckpt-5-00000-of-00002", "model.ckpt-5-00001-of-00002", "model.ckpt-5.meta"], "model.ckpt-5"),
        (["weights.hdf5", "options.json"], None),
    ],
)
def test_the_newest_checkpoint_of_a_folder(files, wanted, tmp_path):
    for name in files:
        (tmp_path / name).touch()
    assert tf_checkpoint.recognises(tmp_path) == (wanted is not None)
    for name in files if wanted else []:
        if name.startswith(f"{wanted}."):
            assert tf_checkpoint.recognises(tmp_path / name)
    if wanted:
        assert tf_checkpoint.recognises(tmp_path / wanted)
        assert tf_checkpoint._prefix(tmp_path) == tmp_path / wanted


def test_the_list_of_tensorflow_decides_wherever_the_folder_was(tmp_path):
    for step in (5, 10):
        (tmp_path / f"model.ckpt-{step}.index").touch()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/model.ckpt-5"\n')
    assert tf_checkpoint._prefix(tmp_path) == tmp_path / "model.ckpt-5"
    (tmp_path / "model.ckpt-5.index").unlink()
    assert tf_checkpoint._prefix(tmp_path) == tmp_path / "model.ckpt-10"


def test_elsewhere_a_checkpoint_is_to_be_imported_first(tmp_path):
    (tmp_path / "model.ckpt-5.index").touch()
    with pytest.raises(UserError, match=r"is a TensorFlow checkpoint of bilm-tf: make .*: elmo import .* DIRECTORY"):
        trained.load(tmp_path)


def options(config) -> dict[str, Any]:
    tree = bilm_tf.options(config, len(VOCABULARY)) | {"n_train_tokens": 1234}
    if "char_cnn" in tree:
        tree["char_cnn"]["n_characters"] = 261
    return tree


def test_without_tensorflow_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    (tmp_path / "model.ckpt-5.index").touch()
    (tmp_path / "options.json").write_text(json.dumps(options(make())))
    with pytest.raises(UserError, match=r"pip install 'elmo-jax\[tensorflow\]'"):
        tf_checkpoint.load(tmp_path)


@models
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_a_checkpoint_that_tensorflow_wrote(config, version, tmp_path):
    tensorflow = pytest.importorskip("tensorflow", reason="only TensorFlow writes its checkpoints")
    write(tensorflow.compat.v1, tmp_path, variables(config), version)
    (tmp_path / "options.json").write_text(json.dumps(options(config)))
    VOCABULARY.save(tmp_path / "vocab.txt")
    read = tf_checkpoint.load(tmp_path)
    assert_same_tree(read.params, parameter_tree(config))
    assert bilm_tf.options(read.config, len(VOCABULARY)) == bilm_tf.options(config, len(VOCABULARY))
    assert read.about == {"tokens": 1234}


def write(tf1: Any, folder: Path, arrays: dict[str, np.ndarray], version: str) -> None:
    """A checkpoint with the slots of Adagrad."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        for name, array in arrays.items():
            tf1.get_variable(name, initializer=array)
            tf1.get_variable(f"{name}/Adagrad", initializer=np.ones_like(array))
        tf1.get_variable("global_step", initializer=1250)
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=getattr(tf1.train.SaverDef, version))
        saver.save(session, str(folder / "model.ckpt"), global_step=1250)
