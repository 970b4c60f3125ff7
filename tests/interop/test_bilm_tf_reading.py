"""Models in files of bilm-tf: what is read is what was written, whatever the files are called, or one clear error."""

import dataclasses
import gzip
import json
import shutil
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from elmo_jax.config import CharCNN
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf, bilm_tf_reading
from elmo_jax.train import trained
from tests.interop.bilm_tf_models import change, put, rename, write
from tests.interop.test_bilm_tf import (
    ARCHITECTURES,
    SENTENCES,
    VOCABULARY,
    architectures,
    assert_same_tree,
    make,
    parameter_tree,
    without_softmax,
)
from tests.reference.numpy_bilm import NumpyBiLM, load_hdf5
from tests.shared import shared

WEIGHTS, OPTIONS, SOFTMAX, WORDS = "weights.hdf5", "options.json", "softmax_weights.hdf5", "vocab.txt"


def said(path: Path, **files: Path) -> str:
    with pytest.raises(UserError) as caught:
        bilm_tf_reading.load(path, **files)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is read is what was written


@architectures
def test_import_and_export_change_no_byte(config, tmp_path):
    write(tmp_path / "first", config)
    model = trained.load(tmp_path / "first")
    bilm_tf.export(tmp_path / "second", model.params, model.config, model.vocabulary)
    names = {file.name for file in (tmp_path / "first").iterdir()}
    assert names == {file.name for file in (tmp_path / "second").iterdir()}
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@architectures
def test_the_configuration_is_that_of_the_export(config, tmp_path):
    read = bilm_tf_reading.load(write(tmp_path / "m", config)).config
    wanted = config.model
    if wanted.input == "words":  # says nothing of characters
        wanted = dataclasses.replace(wanted, char_cnn=CharCNN())
    assert read.model == wanted
    assert (read.train, read.optimizer) == (config.train, config.optimizer)


@pytest.mark.parametrize("name", ["two layers", "N == P == C", "tanh", "words, forward only, P == C"])
def test_an_imported_model_computes_what_the_reference_does(name, tmp_path):
    folder, config = tmp_path / "m", ARCHITECTURES[name]
    # Of the size of real weights: larger ones make more of the rounding of float32 than the tolerance allows.
    params = jax.tree.map(lambda leaf: 0.3 * leaf, parameter_tree(config))
    bilm_tf.export(folder, params, config, VOCABULARY)
    options = json.loads((folder / OPTIONS).read_text(encoding="utf-8"))
    wanted = [NumpyBiLM(options, load_hdf5(folder / WEIGHTS), VOCABULARY.words)([s])[0][0] for s in SENTENCES]
    for ours, theirs in zip(Embedder.from_pretrained(folder).embed(SENTENCES), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs[:, 1:-1], rtol=1e-5, atol=1e-6)


def test_the_recorded_model_gives_the_recorded_vectors():
    """The top layer of the first batch, which the recording began without a state."""
    folder = shared("fixtures/bilm_tf/model")
    batches = json.loads((folder / "lm_embeddings_sentences.json").read_text(encoding="utf-8"))
    embedder = Embedder.from_pretrained(folder)
    for number, sentences in enumerate(batches):
        first = sentences[0].split()
        recorded = load_hdf5(folder / f"lm_embeddings_{number}.hdf5")["0"]
        [layers] = embedder.embed([first])
        np.testing.assert_allclose(layers[-1], np.concatenate(recorded, axis=-1), rtol=1e-5, atol=1e-6)


def test_the_recorded_model_is_exported_as_it_was_read(tmp_path):
    folder = shared("fixtures/bilm_tf/model")
    model = trained.load(folder)
    assert model.vocabulary is None
    bilm_tf.export(tmp_path / "export", model.params, model.config, None)
    assert {file.name for file in (tmp_path / "export").iterdir()} == {WEIGHTS, OPTIONS}
    recorded, written = load_hdf5(folder / "lm_weights.hdf5"), load_hdf5(tmp_path / "export" / WEIGHTS)
    assert recorded.keys() == written.keys()
    assert all(recorded[name].tobytes() == written[name].tobytes() for name in recorded)
    options = json.loads((tmp_path / "export" / OPTIONS).read_text(encoding="utf-8"))
    theirs = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    assert {part: options[part] for part in theirs} == theirs


# --- which files


def test_published_names_and_the_weights_file_itself(tmp_path):
    """Two models in one folder are told apart by their names."""
    for seed, name in enumerate(("elmo_small", "elmo_large")):
        folder = write(tmp_path / name, make(lstm={"n_layers": 1 + seed}), seed=seed)
        for file in (WEIGHTS, OPTIONS, SOFTMAX, WORDS):
            shutil.copy(folder / file, tmp_path / f"{name}_{file}" if file != WORDS else tmp_path / "vocab-2016.txt")
    for seed, name in enumerate(("elmo_small", "elmo_large")):
        read = bilm_tf_reading.load(tmp_path / f"{name}_{WEIGHTS}")
        assert_same_tree(read.params, parameter_tree(make(lstm={"n_layers": 1 + seed}), seed))
    assert "has the weights of several models (elmo_large_weights.hdf5, elmo_small_weights.hdf5): name one" in said(
        tmp_path
    )


def test_other_hdf5_and_json_files_lie_beside(tmp_path):
    """Vectors that were dumped there, and the table of tokens."""
    folder = write(tmp_path / "m", make())
    put(folder / "vectors.hdf5", **{"0": np.zeros((3, 2, 12)), "1": np.zeros((3, 4, 12))})
    put(folder / "tokens.hdf5", embedding=np.zeros((6, 6)))
    (folder / "notes.json").write_text("[]")
    (folder / "vocab.counts.txt").write_text("1\n" * 6)
    (folder / WORDS).rename(folder / "vocabulary.txt")
    assert_same_tree(bilm_tf_reading.load(folder).params, parameter_tree(make()))


def test_files_that_lie_elsewhere_are_named(tmp_path):
    folder = write(tmp_path / "m", make())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files = {"options": OPTIONS, "softmax": SOFTMAX, "vocabulary": WORDS}
    for name in files.values():
        (folder / name).rename(elsewhere / name)
    assert "has no options.json beside it; put it there, or use elmo import with --options" in said(folder)
    read = bilm_tf_reading.load(folder, **{kind: elsewhere / name for kind, name in files.items()})
    assert_same_tree(read.params, parameter_tree(make()))
    assert read.vocabulary is not None


def test_a_file_that_is_named_must_be_of_use(tmp_path):
    folder = write(tmp_path / "m", make(), softmax=False)
    missing = tmp_path / "missing"
    assert said(folder, vocabulary=missing).startswith(f"cannot read {missing}: No such file")
    assert said(folder, softmax=missing).startswith(f"cannot read {missing} as HDF5: No such file")
    assert said(folder, options=missing).startswith(f"cannot read {missing}: No such file")
    assert said(folder, softmax=folder / WEIGHTS).startswith(f"{folder / WEIGHTS} has no softmax/W and softmax/b")


def test_an_archive_of_the_nlpl_repository(tmp_path):
    folder = write(tmp_path / "m", make(), softmax=False)
    with zipfile.ZipFile(tmp_path / "213.zip", "w") as archive:
        for name, inside in ((WEIGHTS, "model.hdf5"), (OPTIONS, OPTIONS), (WORDS, WORDS)):
            archive.write(folder / name, inside)
        archive.writestr("meta.json", "{}")
        archive.writestr("README", "text")
    read = bilm_tf_reading.load(tmp_path / "213.zip")
    assert_same_tree(read.params, without_softmax(parameter_tree(make())))
    assert read.origin == str(tmp_path / "213.zip")
    assert read.words().words == VOCABULARY.words


@pytest.mark.parametrize("damage", ["truncated", "bomb", "no model", "bad options"])
def test_an_archive_that_is_none(damage, tmp_path):
    file = tmp_path / "213.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.hdf5", bytes(1 << 26) if damage == "bomb" else b"x")
        archive.writestr("options.json", "[" if damage == "bad options" else "{}")
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:-9])
    expected = {
        "truncated": f"cannot unpack {file}: File is not a zip file; fetch it again",
        "bomb": f"{file} would grow to 67,108,866 bytes: that is no model",
        "no model": f"cannot read {file}/model.hdf5 as HDF5: ",
        "bad options": f"{file}/options.json is not valid JSON",
    }
    assert said(file).startswith(expected[damage])


def test_a_compressed_vocabulary(tmp_path):
    folder = write(tmp_path / "m", make())
    (folder / f"{WORDS}.gz").write_bytes(gzip.compress((folder / WORDS).read_bytes()))
    (folder / WORDS).unlink()
    assert bilm_tf_reading.load(folder).words().words == VOCABULARY.words


# --- dialects


def test_what_is_missing_in_the_options_is_as_bilm_tf_takes_it(tmp_path):
    config = make(cnn={"n_highway": 0}, lstm={"n_layers": 1, "cell_clip": None, "proj_clip": None})
    folder = write(tmp_path / "m", config)
    keys = ["lstm.n_layers", "lstm.use_skip_connections", "char_cnn.n_highway", "bidirectional", "dropout"]
    change(folder / OPTIONS, dict.fromkeys(keys, ...))
    read = bilm_tf_reading.load(folder).config.model
    assert read == dataclasses.replace(
        config.model, lstm=dataclasses.replace(config.model.lstm, use_skip_connections=False)
    )


@pytest.mark.parametrize("number", [261, 262])
def test_both_numbers_of_characters_mean_the_same(number, tmp_path):
    folder = write(tmp_path / "m", make())
    change(folder / OPTIONS, {"char_cnn.n_characters": number, "reverse": True, "char_cnn.projection_after_highway": 1})
    assert_same_tree(bilm_tf_reading.load(folder).params, parameter_tree(make()))


def test_training_keys_come_back(tmp_path):
    folder = write(tmp_path / "m", make(softmax="sampled"))
    values = {"dropout": 0.3, "all_clip_norm_val": 7.0, "n_epochs": 3.0, "batch_size": 5, "unroll_steps": 6}
    change(folder / OPTIONS, values | {"n_negative_samples_batch": 4, "n_train_tokens": 768648884})
    read = bilm_tf_reading.load(folder)
    change(folder / OPTIONS, {"n_train_tokens": ...})
    assert bilm_tf.options(read.config, len(VOCABULARY)) == json.loads((folder / OPTIONS).read_text(encoding="utf-8"))
    assert read.about == {"tokens": 768648884}


def test_the_names_of_one_layer_and_of_one_direction(tmp_path):
    """ELMO_SPEC T6: what bilm-tf's own exporter calls them, and its loader cannot find."""
    config = make(lstm={"n_layers": 1}, bidirectional=False)
    folder = write(tmp_path / "m", config)
    cell = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell"
    dialects = [
        ("RNN_0/RNN/LSTMCell", ("W_0", "B", "W_P_0")),
        ("rnn/LSTMCell", ("kernel", "bias", "projection/kernel")),
        ("rnn/MultiRNNCell/Cell0/LSTMCell", ("kernel", "bias", "projection/kernel")),
    ]
    for where, parts in dialects:
        copy = tmp_path / where.replace("/", "_")
        shutil.copytree(folder, copy)
        rename(
            copy / WEIGHTS, {f"{cell}/{a}": f"{where}/{b}" for a, b in zip(("W_0", "B", "W_P_0"), parts, strict=True)}
        )
        assert_same_tree(bilm_tf_reading.load(copy).params, parameter_tree(config))


def test_two_names_of_one_array(tmp_path):
    folder = write(tmp_path / "m", make())
    put(folder / WEIGHTS, RNN_0__RNN__LSTMCell__B=np.zeros(28, np.float32))
    assert "two names of one array" in said(folder)


def test_the_softmax_in_the_file_of_the_weights(tmp_path):
    """As DeepPavlov writes it."""
    folder = write(tmp_path / "m", make())
    softmax = load_hdf5(folder / SOFTMAX)
    put(folder / WEIGHTS, **{name.replace("/", "__"): array for name, array in softmax.items()})
    (folder / SOFTMAX).unlink()
    assert_same_tree(bilm_tf_reading.load(folder).params, parameter_tree(make()))


def test_a_shared_softmax_may_lack_its_table_but_not_differ_from_it(tmp_path):
    config = make(input="words", share_embedding_softmax=True)
    folder = write(tmp_path / "m", config)
    put(folder / SOFTMAX, softmax__W=None)
    assert_same_tree(bilm_tf_reading.load(folder).params, parameter_tree(config))
    put(folder / SOFTMAX, softmax__W=np.zeros((6, 6), np.float32))
    assert "softmax/W differs from dataset embedding, and share_embedding_softmax says that they are one" in said(
        folder
    )


# --- vocabularies


def test_characters_without_a_softmax_need_no_vocabulary(tmp_path, caplog):
    """One without <S> and </S> would have its last word spelt as a boundary elsewhere (ELMO_SPEC T1)."""
    folder = write(tmp_path / "m", make(), softmax=False)
    whole = Embedder.from_pretrained(folder).embed(SENTENCES)
    (folder / WORDS).write_text("the\nMāris\n表\n", encoding="utf-8")
    for vocabulary in (WORDS, None):
        if vocabulary is None:
            (folder / WORDS).unlink()
        read = trained.load(folder)
        assert read.vocabulary is None
        for ours, theirs in zip(Embedder(read).embed(SENTENCES), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        f"{folder}: read without its vocabulary, which its vectors do not need"
    ]


def test_the_line_that_bilm_tf_skips(tmp_path):
    folder = write(tmp_path / "m", make())
    (folder / WORDS).write_text("!!!MAXTERMID\n" + (folder / WORDS).read_text(encoding="utf-8"), encoding="utf-8")
    assert bilm_tf_reading.load(folder).words().words == VOCABULARY.words


@pytest.mark.parametrize("config", [make(), make(input="words")], ids=["softmax", "words"])
def test_rows_without_their_words_are_refused(config, tmp_path):
    folder = write(tmp_path / "m", config, softmax=config.model.input == "characters")
    what = "the softmax" if config.model.input == "characters" else "the table of words"
    Vocabulary([*VOCABULARY.words, "more"]).save(folder / WORDS)
    assert said(folder).startswith(f"{folder / WORDS} has 7 words and {what} of {folder} 6 rows; give the vocabulary")
    (folder / WORDS).write_text("the\nMāris\n表\n<S>\n</S>\na\n", encoding="utf-8")
    assert "has no line <UNK> among its 6" in said(folder)


def test_words_without_a_vocabulary(tmp_path, caplog):
    folder = write(tmp_path / "words", make(input="words"))
    (folder / WORDS).unlink()
    assert said(folder) == f"{folder} reads words and has no vocabulary beside it; put its vocab.txt there"
    folder = write(tmp_path / "characters", make())
    (folder / WORDS).unlink()
    assert "softmax" not in bilm_tf_reading.load(folder).params
    assert "its softmax is left out, for there is no vocabulary" in caplog.text
