"""bilm-tf files: the table of ELMO_SPEC 2.9, the law that nothing changes there and back, and what is refused."""

import dataclasses
import errno
import json
import math
import os
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Model, Optimizer, Softmax, Train
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from tests.filesystems import small_disk
from tests.reference.numpy_bilm import NumpyBiLM, load_hdf5
from tests.shared import shared

VOCABULARY = Vocabulary(["<S>", "</S>", "<UNK>", "the", "Māris", "表"])
SENTENCES = [["the", "Māris"], ["表"]]


def make(cnn: dict | None = None, lstm: dict | None = None, softmax: str = "full", **model) -> Config:
    """A small model whose values all differ, with other values where given."""
    char_cnn = CharCNN(embedding=CharEmbedding(dim=3), filters=((1, 4), (2, 5), (4, 2)), n_highway=2)
    return Config(
        model=Model(
            char_cnn=dataclasses.replace(char_cnn, **cnn or {}),
            lstm=dataclasses.replace(LSTM(dim=7, projection_dim=6), **lstm or {}),
            softmax=Softmax(kind=softmax),
            **model,
        )
    )


ARCHITECTURES = {
    "two layers": make(),
    "one layer": make(lstm={"n_layers": 1}),
    "three layers": make(lstm={"n_layers": 3}),
    "no highway": make(cnn={"n_highway": 0}),
    "P == C": make(lstm={"dim": 6}),
    "N == P": make(lstm={"dim": 20, "projection_dim": 11}),
    "N == P == C": make(lstm={"dim": 11, "projection_dim": 11}),
    "tanh": make(cnn={"activation": "tanh"}),
    "no clips": make(lstm={"cell_clip": None, "proj_clip": None}),
    "no skip connections": make(lstm={"use_skip_connections": False}),
    "short tokens": make(cnn={"max_characters_per_token": 9}),
    "forward only": make(bidirectional=False),
    "words": make(input="words"),
    "words, shared, one layer": make(input="words", share_embedding_softmax=True, lstm={"n_layers": 1}),
    "words, forward only, P == C": make(input="words", bidirectional=False, lstm={"dim": 6}),
}
architectures = pytest.mark.parametrize("config", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())


def parameter_tree(config: Config, seed: int = 0) -> dict:
    """Random parameters in the tree of docs/design.md."""
    rng = np.random.default_rng(seed)
    cnn, lstm = config.model.char_cnn, config.model.lstm
    E, N, P, C, V = cnn.embedding.dim, cnn.n_filters, lstm.projection_dim, lstm.dim, len(VOCABULARY.words)
    D = 2 if config.model.bidirectional else 1

    def random(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    encoder: dict = {"char_embed": random(261, E)}
    for i, (width, number) in enumerate(cnn.filters):
        encoder[f"cnn_{i}"] = {"kernel": random(width, E, number), "bias": random(number)}
    for k in range(cnn.n_highway):
        encoder[f"highway_{k}"] = {
            "carry_kernel": random(N, N),
            "carry_bias": random(N),
            "transform_kernel": random(N, N),
            "transform_bias": random(N),
        }
    if N != P:
        encoder["projection"] = {"kernel": random(N, P), "bias": random(P)}
    if config.model.input == "words":
        encoder = {"embedding": random(V, P)}
    tree: dict = {"encoder": encoder}
    for layer in range(lstm.n_layers):
        tree[f"lstm_{layer}"] = {
            "input_kernel": random(D, P, 4 * C),
            "recurrent_kernel": random(D, P, 4 * C),
            "bias": random(D, 4 * C),
        }
        if P < C:
            tree[f"lstm_{layer}"]["projection"] = random(D, C, P)
    if config.model.softmax.kind == "adaptive":
        tree["softmax"] = {"head": {"kernel": random(4, P), "bias": random(4)}, "tail_0": {"kernel": random(3, P)}}
    else:
        tree["softmax"] = {"kernel": random(V, P), "bias": random(V)}
    if config.model.share_embedding_softmax:
        del tree["softmax"]["kernel"]
    return tree


def assert_same_tree(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        if isinstance(a[name], dict):
            assert_same_tree(a[name], b[name])
        else:
            assert a[name].dtype == b[name].dtype == np.float32
            assert a[name].shape == b[name].shape
            assert a[name].tobytes() == b[name].tobytes()


def without_softmax(tree: dict) -> dict:
    return {name: part for name, part in tree.items() if name != "softmax"}


def files(directory: Path) -> set[str]:
    return {item.name for item in directory.iterdir()}


# --- the table of ELMO_SPEC 2.9


def published(dim: int, projection_dim: int, n_highway: int) -> Config:
    return Config(model=Model(char_cnn=CharCNN(n_highway=n_highway), lstm=LSTM(dim=dim, projection_dim=projection_dim)))


def test_names_and_shapes_of_the_published_model():
    expected: dict = {"char_embed": (261, 16), "CNN_proj/W_proj": (2048, 512), "CNN_proj/b_proj": (512,)}
    for i, number in enumerate([32, 32, 64, 128, 256, 512, 1024]):
        expected |= {f"CNN/W_cnn_{i}": (1, i + 1, 16, number), f"CNN/b_cnn_{i}": (number,)}
    for k in range(2):
        expected |= {f"CNN_high_{k}/W_carry": (2048, 2048), f"CNN_high_{k}/b_carry": (2048,)}
        expected |= {f"CNN_high_{k}/W_transform": (2048, 2048), f"CNN_high_{k}/b_transform": (2048,)}
    for direction in range(2):
        for layer in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            expected |= {f"{cell}/W_0": (1024, 16384), f"{cell}/B": (16384,), f"{cell}/W_P_0": (4096, 512)}
    assert bilm_tf.shapes(published(4096, 512, 2)) == expected


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (published(1024, 128, 1), 13_593_296),
        (published(2048, 256, 1), 28_027_728),
        (published(4096, 512, 2), 93_600_848),
    ],
    ids=["Small", "Medium", "Original"],
)
def test_published_models_have_the_published_sizes(config, parameters):
    assert sum(map(math.prod, bilm_tf.shapes(config).values())) == parameters


@architectures
def test_the_datasets_have_the_shapes_of_the_table(config):
    datasets = bilm_tf.datasets(parameter_tree(config), config)
    # -1 stands for the words of a vocabulary, which no configuration knows.
    expected = {name: tuple(6 if n == -1 else n for n in shape) for name, shape in bilm_tf.shapes(config).items()}
    assert {name: array.shape for name, array in datasets.items()} == expected


def test_words_take_the_place_of_characters_and_one_direction_has_the_name_of_the_first():
    names = bilm_tf.shapes(make(input="words", bidirectional=False, lstm={"n_layers": 1}))
    cell = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell"
    assert names == {"embedding": (-1, 6), f"{cell}/W_0": (12, 28), f"{cell}/B": (28,), f"{cell}/W_P_0": (7, 6)}


def test_the_rows_of_a_cell_are_those_of_the_input_and_then_those_of_the_hidden_state():
    config = make()
    params = parameter_tree(config)
    datasets = bilm_tf.datasets(params, config)
    for direction in range(2):
        for layer in range(2):
            cell, lstm = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell", params[f"lstm_{layer}"]
            np.testing.assert_array_equal(datasets[f"{cell}/W_0"][:6], lstm["input_kernel"][direction])
            np.testing.assert_array_equal(datasets[f"{cell}/W_0"][6:], lstm["recurrent_kernel"][direction])
            np.testing.assert_array_equal(datasets[f"{cell}/B"], lstm["bias"][direction])
            np.testing.assert_array_equal(datasets[f"{cell}/W_P_0"], lstm["projection"][direction])


def test_one_layer_has_the_name_that_loaders_look_for():
    names = bilm_tf.shapes(make(lstm={"n_layers": 1}))
    assert {n.split("/")[2:4] == ["MultiRNNCell", "Cell0"] for n in names if n.startswith("RNN")} == {True}


# --- there and back


@architectures
def test_a_round_trip_through_the_file_changes_no_bit(config, tmp_path):
    params = parameter_tree(config)
    bilm_tf.export(tmp_path / "export", params, config, VOCABULARY)
    assert_same_tree(
        bilm_tf.parameters(load_hdf5(tmp_path / "export" / "weights.hdf5"), config), without_softmax(params)
    )


@architectures
def test_the_reference_computes_the_same_from_the_files_as_from_the_datasets(config, tmp_path):
    params = parameter_tree(config)
    bilm_tf.export(tmp_path / "export", params, config, VOCABULARY)
    options = json.loads((tmp_path / "export" / "options.json").read_text(encoding="utf-8"))
    words = (tmp_path / "export" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    from_files, _ = NumpyBiLM(options, load_hdf5(tmp_path / "export" / "weights.hdf5"), words)(SENTENCES)
    direct, _ = NumpyBiLM(bilm_tf.options(config, 6), bilm_tf.datasets(params, config), VOCABULARY.words)(SENTENCES)
    for a, b in zip(from_files, direct, strict=True):
        assert a.shape[0] == config.model.lstm.n_layers + 1
        np.testing.assert_array_equal(a, b)


def test_the_recorded_bilm_tf_model_survives_import_and_export():
    folder = shared("fixtures/bilm_tf/model")
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    recorded = load_hdf5(folder / "lm_weights.hdf5")
    config = make(
        cnn={"embedding": CharEmbedding(4), "filters": tuple(map(tuple, options["char_cnn"]["filters"]))},
        lstm=options["lstm"],
    )
    datasets = bilm_tf.datasets(bilm_tf.parameters(recorded, config), config)
    assert datasets.keys() == recorded.keys()
    for name, array in recorded.items():
        np.testing.assert_array_equal(datasets[name], array)
    written = bilm_tf.options(config, 458)
    assert {part: written[part] for part in ("lstm", "char_cnn")} == options


def test_jax_arrays_and_float32_without_attributes(tmp_path):
    config = make()
    params = parameter_tree(config)
    params["encoder"]["char_embed"] = jnp.asarray(params["encoder"]["char_embed"])
    params["softmax"]["kernel"] = jnp.asarray(params["softmax"]["kernel"])
    bilm_tf.export(tmp_path / "export", params, config, VOCABULARY)
    for file in ("weights.hdf5", "softmax_weights.hdf5"):
        with h5py.File(tmp_path / "export" / file) as opened:
            items: list = [opened]
            opened.visititems(lambda _, item, items=items: items.append(item))
            assert not any(len(item.attrs) for item in items)
            assert {item.dtype for item in items if isinstance(item, h5py.Dataset)} == {np.dtype("<f4")}


def test_names_outside_of_the_model_are_left_alone_on_the_way_back():
    config = make()
    params = parameter_tree(config)
    datasets = {**bilm_tf.datasets(params, config), "softmax/W": np.zeros((6, 6)), "softmax/b": np.zeros(6)}
    assert_same_tree(bilm_tf.parameters(datasets, config), without_softmax(params))


# --- the other files


def test_options_of_a_published_model():
    config = dataclasses.replace(
        Config(),
        model=Model(softmax=Softmax(kind="sampled", n_negative_samples_batch=99)),
        train=Train(batch_size=48, unroll_steps=17, n_epochs=3.0),
        optimizer=Optimizer(all_clip_norm_val=5.0),
    )
    assert bilm_tf.options(config, 1234) == {
        "lstm": {
            "use_skip_connections": True,
            "projection_dim": 512,
            "cell_clip": 3,
            "proj_clip": 3,
            "dim": 4096,
            "n_layers": 2,
        },
        "char_cnn": {
            "activation": "relu",
            "filters": [[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]],
            "n_highway": 2,
            "embedding": {"dim": 16},
            "n_characters": 262,
            "max_characters_per_token": 50,
        },
        "bidirectional": True,
        "dropout": 0.1,
        "all_clip_norm_val": 5.0,
        "n_epochs": 3.0,
        "batch_size": 48,
        "n_tokens_vocab": 1234,
        "unroll_steps": 17,
        "n_negative_samples_batch": 99,
    }


def test_options_have_no_key_for_what_is_not_done():
    options = bilm_tf.options(make(lstm={"cell_clip": None, "proj_clip": None}), 6)
    assert not {"cell_clip", "proj_clip"} & options["lstm"].keys()
    assert "n_negative_samples_batch" not in options


@pytest.mark.parametrize("shared", [False, True])
def test_options_of_word_input_are_those_by_which_bilm_tf_tells_it(shared):
    options = bilm_tf.options(make(input="words", bidirectional=False, share_embedding_softmax=shared), 6)
    assert "char_cnn" not in options
    assert (options["bidirectional"], options["share_embedding_softmax"]) == (False, shared)
    assert options["n_tokens_vocab"] == 6


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_a_shared_softmax_is_the_table_of_the_input_in_its_own_file(kind, tmp_path):
    config = make(input="words", share_embedding_softmax=True, softmax=kind)
    params = parameter_tree(config)
    bilm_tf.export(tmp_path / "export", params, config, VOCABULARY)
    weights, softmax = (load_hdf5(tmp_path / "export" / f"{name}weights.hdf5") for name in ("", "softmax_"))
    np.testing.assert_array_equal(weights["embedding"], params["encoder"]["embedding"])
    np.testing.assert_array_equal(softmax["softmax/W"], params["encoder"]["embedding"])
    np.testing.assert_array_equal(softmax["softmax/b"], params["softmax"]["bias"])


@pytest.mark.parametrize("kind", ["full", "sampled"])
def test_the_softmax_has_its_own_file(kind, tmp_path):
    config = make(softmax=kind)
    params = parameter_tree(config)
    bilm_tf.export(tmp_path / "export", params, config, VOCABULARY)
    assert files(tmp_path / "export") == {"weights.hdf5", "options.json", "vocab.txt", "softmax_weights.hdf5"}
    softmax = load_hdf5(tmp_path / "export" / "softmax_weights.hdf5")
    assert softmax.keys() == {"softmax/W", "softmax/b"}
    np.testing.assert_array_equal(softmax["softmax/W"], params["softmax"]["kernel"])
    np.testing.assert_array_equal(softmax["softmax/b"], params["softmax"]["bias"])


def test_an_adaptive_softmax_is_not_exported_and_a_note_says_so(tmp_path):
    config = make(softmax="adaptive")
    notes = bilm_tf.export(tmp_path / "export", parameter_tree(config), config, VOCABULARY)
    assert files(tmp_path / "export") == {"weights.hdf5", "options.json", "vocab.txt"}
    assert "adaptive softmax" in notes[-1]
    assert "goes along in the other formats" in notes[-1]


def test_the_vocabulary_is_one_word_a_line(tmp_path):
    bilm_tf.export(tmp_path / "export", parameter_tree(make()), make(), VOCABULARY)
    text = (tmp_path / "export" / "vocab.txt").read_bytes().decode("utf-8")
    assert text == "<S>\n</S>\n<UNK>\nthe\nMāris\n表\n"


# --- who can read it


@pytest.mark.parametrize(
    ("config", "bilm", "allennlp"),
    [
        (make(), [], []),
        (make(lstm={"n_layers": 1}, cnn={"n_highway": 0, "activation": "tanh"}), [], []),
        (make(lstm={"use_skip_connections": False}), [], ["use_skip_connections is false"]),
        (make(lstm={"dim": 20, "projection_dim": 11}), [], ["projection_dim equals the number of filters (11)"]),
        (make(lstm={"dim": 6}), [], ["projection_dim equals model.lstm.dim (6)"]),
        (make(lstm={"cell_clip": None, "proj_clip": None}), [], ["cell_clip is none", "proj_clip is none"]),
        (make(cnn={"max_characters_per_token": 9}), [], ["max_characters_per_token is 9, not 50"]),
        (make(lstm={"dim": 20, "projection_dim": 12}), ["the 11 filters"], []),
        (make(lstm={"n_layers": 9}), ["n_layers is 9"], []),
        (make(bidirectional=False), ["bidirectional is false"], ["bidirectional is false"]),
        # What is said of characters does not matter to words.
        (make(input="words", lstm={"dim": 20, "projection_dim": 12}), [], ["input is words"]),
    ],
)
def test_readers(config, bilm, allennlp):
    readers = bilm_tf.readers(config)
    for reasons, expected in ((readers["bilm-tf"], bilm), (readers["AllenNLP 2.10"], allennlp)):
        assert len(reasons) == len(expected)
        assert all(part in reason for part, reason in zip(expected, reasons, strict=True))


def test_a_note_says_how_bilm_tf_reads_words(tmp_path):
    config = make(input="words")
    assert bilm_tf.export(tmp_path / "export", parameter_tree(config), config, VOCABULARY) == [
        "bilm-tf can read this model.",
        "AllenNLP 2.10 cannot read this model: model.input is words, and it reads characters only.",
        "bilm-tf reads word input with use_character_inputs=False and weights.hdf5 as embedding_weight_file too.",
    ]


def test_the_notes_name_every_reader(tmp_path):
    config = make(lstm={"use_skip_connections": False, "cell_clip": None})
    assert bilm_tf.export(tmp_path / "export", parameter_tree(config), config, VOCABULARY) == [
        "bilm-tf can read this model.",
        "AllenNLP 2.10 cannot read this model: model.lstm.use_skip_connections is false; model.lstm.cell_clip is none.",
    ]


# --- what is refused


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make(lstm={"n_layers": 3}), r"Cell2/LSTMCell/W_0 is missing, .* needs \(12, 28\)"),
        (make(lstm={"n_layers": 1}), r"Cell1/LSTMCell/B has no place"),
        (make(cnn={"n_highway": 1}), r"CNN_high_1/W_carry has no place"),
        (make(lstm={"dim": 8}), r"Cell0/LSTMCell/W_0 is \(12, 28\), .* needs \(12, 32\)"),
        (make(cnn={"filters": ((1, 4), (2, 5), (3, 2))}), r"W_cnn_2 is \(1, 4, 3, 2\), .* needs \(1, 3, 3, 2\)"),
        (make(bidirectional=False), r"RNN_1/.* has no place"),
        (make(input="words"), r"CNN/W_cnn_0 has no place"),
    ],
)
def test_datasets_of_another_architecture_are_refused(other, message):
    datasets = bilm_tf.datasets(parameter_tree(make()), make())
    with pytest.raises(UserError, match=message):
        bilm_tf.parameters(datasets, other)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make(lstm={"n_layers": 3}), r"lstm_2/input_kernel is missing, .* has \(2, 6, 28\)"),
        (make(lstm={"n_layers": 1}), r"lstm_1/bias has no place"),
        (make(lstm={"dim": 8}), r"lstm_0/input_kernel is \(2, 6, 28\), .* has \(2, 6, 32\)"),
    ],
)
def test_parameters_of_another_architecture_are_refused(other, message, tmp_path):
    with pytest.raises(UserError, match=message):
        bilm_tf.export(tmp_path / "export", parameter_tree(make()), other, VOCABULARY)
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make(), "dataset embedding has no place"),
        (make(input="words", bidirectional=True), r"RNN_1/.*/W_0 is missing, .* needs \(12, 28\)"),
        (make(input="words", bidirectional=False, lstm={"projection_dim": 5}), r"is \(6, 6\), .* needs \(words, 5\)"),
    ],
)
def test_a_file_of_words_in_one_direction_is_no_other_model(other, message):
    config = make(input="words", bidirectional=False)
    datasets = bilm_tf.datasets(parameter_tree(config), config)
    with pytest.raises(UserError, match=message):
        bilm_tf.parameters(datasets, other)


def test_a_vocabulary_of_another_size_than_the_table_of_words_is_refused(tmp_path):
    config = make(input="words", softmax="adaptive")
    with pytest.raises(UserError, match="vocabulary has 7 words and the input 6"):
        bilm_tf.export(tmp_path / "export", parameter_tree(config), config, Vocabulary([*VOCABULARY.words, "more"]))
    assert not files(tmp_path)


def test_a_vocabulary_of_another_size_is_refused(tmp_path):
    with pytest.raises(UserError, match="vocabulary has 7 words and the softmax 6"):
        bilm_tf.export(tmp_path / "export", parameter_tree(make()), make(), Vocabulary([*VOCABULARY.words, "more"]))
    assert not files(tmp_path)


# --- the directory: all or nothing


def test_an_earlier_export_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "deep" / "export"
    bilm_tf.export(target, parameter_tree(make()), make(), VOCABULARY)
    later = make(softmax="adaptive")
    bilm_tf.export(target, parameter_tree(later, seed=1), later, VOCABULARY)
    assert files(target) == {"weights.hdf5", "options.json", "vocab.txt"}
    assert files(target.parent) == {"export"}
    np.testing.assert_array_equal(
        load_hdf5(target / "weights.hdf5")["char_embed"], parameter_tree(later, seed=1)["encoder"]["char_embed"]
    )


def test_an_empty_directory_is_used(tmp_path):
    (tmp_path / "export").mkdir()
    bilm_tf.export(tmp_path / "export", parameter_tree(make()), make(), VOCABULARY)
    assert "weights.hdf5" in files(tmp_path / "export")


@pytest.mark.parametrize("foreign", ["thesis.tex", "vocab.txt/thesis.tex"])
def test_a_directory_with_anything_else_is_refused(foreign, tmp_path):
    file = tmp_path / "export" / foreign
    file.parent.mkdir(parents=True)
    file.write_text("years of work")
    with pytest.raises(UserError, match=foreign.split("/")[0]):
        bilm_tf.export(tmp_path / "export", parameter_tree(make()), make(), VOCABULARY)
    assert file.read_text() == "years of work"
    assert files(tmp_path) == {"export"}


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("kept")
    for target in (tmp_path / "file", tmp_path / "file" / "export"):
        with pytest.raises(UserError, match="cannot write the export"):
            bilm_tf.export(target, parameter_tree(make()), make(), VOCABULARY)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("failing", ["write_text", "write_bytes", "rename"])
def test_after_a_failed_write_the_earlier_export_stays_and_nothing_else(failing, tmp_path, monkeypatch):
    target = tmp_path / "export"
    bilm_tf.export(target, parameter_tree(make()), make(), VOCABULARY)
    before = {name: (target / name).read_bytes() for name in files(target)}
    original = getattr(Path, failing)

    def fail(self, *args, **kwargs):
        if self.name in ("vocab.txt", "softmax_weights.hdf5", "fresh"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, failing, fail)
        with pytest.raises(UserError, match=r"export: Read-only file system"):
            bilm_tf.export(target, parameter_tree(make(), seed=1), make(), VOCABULARY)
    assert {name: (target / name).read_bytes() for name in files(target)} == before
    assert files(tmp_path) == {"export"}


def test_a_full_disk_is_a_user_error_and_leaves_nothing(tmp_path):
    config = make(lstm={"dim": 200})
    with small_disk(tmp_path / "disk", "64k"):
        with pytest.raises(UserError, match=r"export: No space left on device"):
            bilm_tf.export(tmp_path / "disk" / "export", parameter_tree(config), config, VOCABULARY)
        assert not files(tmp_path / "disk")
