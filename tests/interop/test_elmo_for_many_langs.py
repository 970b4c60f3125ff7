"""ELMoForManyLangs: the vectors of independent NumPy code (ELMO_SPEC 2.14), from the folder and after a round trip."""

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from elmo_jax.config import Data
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf, elmo_for_many_langs, pretrained_directory
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.parallel import DataParallel
from elmo_jax.train.evaluate import Evaluator
from tests.interop import state_dicts
from tests.reference.numpy_efml import NumpyEFML, random_state_dicts

pytestmark = pytest.mark.usefixtures("without_torch")

ARCHITECTURE = {
    "encoder": {"name": "elmo", "projection_dim": 6, "cell_clip": 3, "proj_clip": 3, "dim": 8, "n_layers": 2},
    "token_embedder": {
        "name": "cnn",
        "activation": "relu",
        "filters": [[1, 4], [2, 3], [3, 5]],
        "n_highway": 2,
        "word_dim": 5,
        "char_dim": 4,
        "max_characters_per_token": 12,
    },
    "classifier": {"name": "sampled_softmax", "n_samples": 8192},
    "dropout": 0.1,
}
# The marks stand where ELMoForManyLangs puts them: behind the characters and, in the words, where they were counted.
CHARACTERS = [*"abcdeèä表", "\u3000", "<bos>", "<eos>", "<oov>", "<pad>", "<bow>", "<eow>"]
WORDS = ["<oov>", "<bos>", "abc", "表", "\u3000", "<eos>", "abcdabcdab", "<pad>"]
SENTENCES = [
    ["abc", "表", "unknown", "ä"],
    ["\u3000", "a\u3000b", "\U0001f600"],
    # Cut to ten code points, the first of these is a word of the dictionary; the second is as long as fits.
    ["abcdabcdabcd", "è" * 10, "è" * 40],
    ["<bos>", "a", "<eos>", ""],
    [],
]


def changed(**sections: dict) -> dict:
    architecture = copy.deepcopy(ARCHITECTURE)
    for name, values in sections.items():
        architecture[name] |= values
    return architecture


def folder(path: Path, architecture: dict = ARCHITECTURE, *, write=state_dicts.write, seed: int = 0) -> NumpyEFML:
    """A folder as ELMoForManyLangs writes one, and what must come of it."""
    options = architecture["token_embedder"]
    characters = dict(zip(CHARACTERS, range(99), strict=False)) if options["char_dim"] else None
    words = dict(zip(WORDS, range(99), strict=False)) if options["word_dim"] else None
    sizes = len(characters or ()), len(words or ())
    embedder, encoder = random_state_dicts(architecture, *sizes, np.random.default_rng(seed))
    path.mkdir()
    write(path / "token_embedder.pkl", embedder)
    write(path / "encoder.pkl", encoder)
    for name, dictionary in (("char.dic", characters), ("word.dic", words)):
        if dictionary is not None:
            lines = (f"{entry}\t{number}\n" for entry, number in dictionary.items())
            (path / name).write_text("".join(lines), encoding="utf-8")
    (path / "config.json").write_text(json.dumps({"config_path": "/where/it/was/trained/cnn.json", "gpu": 0}))
    (path / "cnn.json").write_text(json.dumps(architecture))
    return NumpyEFML(architecture, embedder, encoder, characters, words)


def assert_gives(model: Pretrained, reference: NumpyEFML) -> None:
    for tokens, found in zip(SENTENCES, Embedder(model).embed(SENTENCES), strict=True):
        np.testing.assert_allclose(found, reference(tokens), atol=2e-5, rtol=1e-5)


# --- vectors

ARCHITECTURES = {
    "words and characters": ARCHITECTURE,
    "characters alone": changed(token_embedder={"word_dim": 0}),
    "words alone": changed(token_embedder={"char_dim": 0}),
    "tanh, one layer, no clips, no highway": changed(
        token_embedder={"activation": "tanh", "n_highway": 0},
        encoder={"n_layers": 1, "cell_clip": None, "proj_clip": None},
    ),
}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_the_vectors_are_those_of_independent_code_and_stay_the_same_when_saved(architecture, tmp_path):
    reference = folder(tmp_path / "zh.model", architecture)
    assert elmo_for_many_langs.recognises(tmp_path / "zh.model")
    model = elmo_for_many_langs.load(tmp_path / "zh.model")
    assert_gives(model, reference)
    pretrained_directory.save(tmp_path / "saved", model)
    assert_gives(pretrained_directory.load(tmp_path / "saved"), reference)
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert ("code points of `char.dic`" in card, "words of `word.dic`" in card) == (
        (tmp_path / "saved" / "char.dic").exists(),
        (tmp_path / "saved" / "word.dic").exists(),
    )
    assert "UTF-8" not in card
    assert "--format bilm-tf" not in card


def test_clips_matter_in_the_reference(tmp_path):
    """Or equality with it would say nothing about them."""
    reference = folder(tmp_path / "zh.model")
    clipped = reference(["abc", "表"])
    reference.encoder_options = {**reference.encoder_options, "proj_clip": None}
    assert np.abs(reference(["abc", "表"]) - clipped).max() > 0.1


@pytest.mark.parametrize("legacy", [False, True], ids=["of today", "of PyTorch 0.4"])
def test_files_of_pytorch(legacy, tmp_path, with_torch):
    def write(file, arrays):
        state_dicts.write_with_torch(file, arrays, legacy=legacy)

    reference = folder(tmp_path / "zh.model", write=write)
    assert_gives(elmo_for_many_langs.load(tmp_path / "zh.model"), reference)


def test_a_published_folder_without_its_architecture_file(tmp_path):
    architecture = changed(token_embedder={"max_characters_per_token": 50})
    reference = folder(tmp_path / "zh.model", architecture)
    (tmp_path / "zh.model" / "cnn.json").unlink()
    model = elmo_for_many_langs.load(tmp_path / "zh.model")
    assert_gives(model, reference)
    assert "There is no cnn.json with it: taken as relu, clips at 3 and 50 characters" in model.about["notes"]


# --- dictionaries


def test_a_blank_entry_means_the_ideographic_space(tmp_path):
    folder(tmp_path / "zh.model")
    model = elmo_for_many_langs.load(tmp_path / "zh.model")
    assert model.dictionaries.words["\u3000"] == WORDS.index("\u3000")
    assert model.dictionaries.characters["\u3000"] == CHARACTERS.index("\u3000")


def test_what_is_read_of_tokens(tmp_path):
    """Word, then the marks the wrong way round, as published models have learnt them."""
    folder(tmp_path / "zh.model")
    rows = elmo_for_many_langs.load(tmp_path / "zh.model").spelling(["abc", "<S>", "</S>", "b?", "d" * 20])
    a, b, c, d, bos, eos, oov, pad, bow, eow = map(
        CHARACTERS.index, [*"abcd", "<bos>", "<eos>", "<oov>", "<pad>", "<bow>", "<eow>"]
    )
    assert rows.tolist() == [
        [2, eow, a, b, c, bow, *[pad] * 7],
        [1, eow, bos, bow, *[pad] * 9],
        [5, eow, eos, bow, *[pad] * 9],
        [0, eow, b, oov, bow, *[pad] * 8],
        [0, eow, *[d] * 10, bow],
    ]


# --- softmax


def test_a_full_softmax_is_kept_with_the_words_of_its_rows(tmp_path):
    folder(tmp_path / "zh.model")
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(len(WORDS), 6)).astype(np.float32), rng.normal(size=len(WORDS)).astype(np.float32)
    state_dicts.write(tmp_path / "zh.model" / "classifier.pkl", {"hidden2tag.weight": kernel, "hidden2tag.bias": bias})
    pretrained_directory.save(tmp_path / "saved", elmo_for_many_langs.load(tmp_path / "zh.model"))
    model = pretrained_directory.load(tmp_path / "saved")
    model.require_softmax()
    assert model.words().words == ["<UNK>", "<S>", "abc", "表", "\u3000", "</S>", "abcdabcdab", "<pad>"]
    top = rng.normal(size=(3, 6)).astype(np.float32)
    logits = top @ kernel.T + bias
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    found = model.model.apply({"params": model.params}, top, method="log_probs")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_sampled_softmax_is_left_out_with_a_note(tmp_path):
    folder(tmp_path / "zh.model")
    state_dicts.write(
        tmp_path / "zh.model" / "classifier.pkl",
        {"column_emb.weight": np.zeros((8, 6), np.float32), "column_bias.weight": np.zeros((8, 1), np.float32)},
    )
    model = elmo_for_many_langs.load(tmp_path / "zh.model")
    assert "softmax" not in model.params
    assert "classifier.pkl is left out" in model.about["notes"]


# --- what is refused


def edit_architecture(section: str, **values):
    def edit(path: Path) -> None:
        (path / "cnn.json").write_text(json.dumps(changed(**{section: values})))

    return edit


def edit_arrays(file: str, change):
    def edit(path: Path) -> None:
        with np.load(path / file) as arrays:
            edited = dict(arrays)
        change(edited)
        state_dicts.write(path / file, edited)

    return edit


def appended(file: str, line: str):
    def edit(path: Path) -> None:
        with (path / file).open("a", encoding="utf-8") as stream:
            stream.write(line)

    return edit


def removed(file: str):
    return lambda path: (path / file).unlink()


def without(name: str):
    return lambda arrays: arrays.pop(name)


REFUSED = {
    "another encoder": (edit_architecture("encoder", name="lstm"), "encoder.name 'lstm': only 'elmo'"),
    "LSTM over characters": (
        edit_architecture("token_embedder", name="lstm"),
        "token_embedder.name 'lstm': only 'cnn'",
    ),
    "unknown activation": (edit_architecture("token_embedder", activation="gelu"), "must be 'relu' or 'tanh'"),
    "clip of text": (edit_architecture("encoder", cell_clip="3"), "cell_clip '3': it must be a number"),
    "no architecture": (lambda path: (path / "cnn.json").write_text("[]"), "cnn.json holds no object"),
    "damaged configuration": (lambda path: (path / "config.json").write_text("{"), "cannot read .*config.json"),
    "no words": (removed("word.dic"), "cannot read .*word.dic"),
    "no mark": (lambda path: (path / "char.dic").write_text("a\t0\n"), "char.dic has no <oov>"),
    "no id": (appended("word.dic", "word\n"), r"word.dic:9: 'word' is no entry, a tab and an id"),
    "id of another model": (appended("word.dic", "word\t8\n"), "id 8 is beyond the 8 rows of the model"),
    "missing array": (
        edit_arrays("encoder.pkl", without("backward_layer_1.state_projection.weight")),
        r"encoder.pkl has no backward_layer_1.state_projection.weight \(6, 8\)",
    ),
    "mis-shaped array": (
        edit_arrays("token_embedder.pkl", lambda a: a.update({"projection.bias": np.zeros(7, np.float32)})),
        r"projection.bias is \(7,\), the rest of the model needs \(6,\)",
    ),
    "NaN": (
        edit_arrays("encoder.pkl", lambda a: a["forward_layer_0.state_linearity.bias"].fill(np.nan)),
        "forward_layer_0.state_linearity.bias holds values that are not finite",
    ),
}


@pytest.mark.parametrize(("edit", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_fit_is_named(edit, message, tmp_path):
    folder(tmp_path / "zh.model")
    edit(tmp_path / "zh.model")
    with pytest.raises(UserError, match=message) as error:
        elmo_for_many_langs.load(tmp_path / "zh.model")
    assert "\n" not in str(error.value)


def test_it_is_for_vectors(tmp_path):
    folder(tmp_path / "zh.model")
    model = elmo_for_many_langs.load(tmp_path / "zh.model")
    with pytest.raises(UserError, match=r"config.model.input is 'words\+characters': .* ELMoForManyLangs"):
        dataclasses.replace(model.config, data=Data(train="corpus.txt")).validate()
    with pytest.raises(UserError, match="ELMoForManyLangs"):
        bilm_tf.datasets(model.params, model.config)
    with pytest.raises(UserError, match="ELMoForManyLangs"):
        Evaluator(model.model, model.config, model.words(), DataParallel())
