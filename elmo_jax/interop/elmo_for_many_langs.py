"""Models of ELMoForManyLangs: a folder of PyTorch weights, two dictionaries and two configurations (ELMO_SPEC 2.14).

::

    token_embedder.pkl, encoder.pkl     weights; classifier.pkl, the softmax, where it was saved
    char.dic, word.dic                  ids of characters and of words, each where the model reads them
    config.json                         how it was trained, and the name of the file with its architecture

The weights are read without running code.
"""

import dataclasses
import json
from pathlib import Path, PurePosixPath
from typing import Any

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Dictionaries, Model, Softmax
from elmo_jax.data import dictionaries
from elmo_jax.errors import UserError
from elmo_jax.interop import torch_weights
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.interop.torch_weights import ANY, Weights

CONFIG_FILE = "config.json"
EMBEDDER_FILE, ENCODER_FILE, CLASSIFIER_FILE = "token_embedder.pkl", "encoder.pkl", "classifier.pkl"
# What shapes do not tell, as it is in all published models; they name a file that says so, and most of them lack it.
PUBLISHED_FILE = "cnn_50_100_512_4096_sample.json"
_PUBLISHED = {"activation": "relu", "max_characters_per_token": 50, "cell_clip": 3.0, "proj_clip": 3.0}
_RULES = (
    ("activation", (str,), "'relu' or 'tanh'"),
    ("max_characters_per_token", (int,), "a whole number"),
    ("cell_clip", (int, float, type(None)), "a number"),
    ("proj_clip", (int, float, type(None)), "a number"),
)


def recognises(path: Path) -> bool:
    """Whether there is a folder of ELMoForManyLangs at ``path``."""
    return (path / EMBEDDER_FILE).is_file() and (path / ENCODER_FILE).is_file()


def load(path: Path) -> Pretrained:
    """The model of the folder at ``path``.

    A full softmax is kept. Sampled ones were saved without the order of their words, and those computed from characters
    have no table of words: they are left out, and a note says so.

    Raises:
        UserError: when a file is missing or damaged or could run code, PyTorch is missing, the files contradict each
            other, or the model has an encoder that is not the one of the published models.
    """
    told, notes = _told(path)
    embedder, encoder = (_weights(path / name) for name in (EMBEDDER_FILE, ENCODER_FILE))
    model = _model(embedder, encoder, told)
    params = {"encoder": _token_encoder(embedder, model), **torch_weights.lstm_layers(encoder, model.lstm)}
    dics = dictionaries.Dictionaries.load(path, model.dictionaries)
    vocabulary = dics.vocabulary()
    if (path / CLASSIFIER_FILE).is_file():
        softmax = _weights(path / CLASSIFIER_FILE)
        if "hidden2tag.weight" in softmax and vocabulary is not None:
            linear = softmax.linear("hidden2tag", model.lstm.projection_dim, len(vocabulary))
            params["softmax"] = {"kernel": linear["kernel"].T.copy(), "bias": linear["bias"]}
        else:
            notes.append(
                f"The softmax of {CLASSIFIER_FILE} is left out: its file does not tell which row is which word."
            )
    config = Config(model=model).validate(recorded=True)
    about = {"imported from": "ELMoForManyLangs", **({"notes": " ".join(notes)} if notes else {})}
    return Pretrained(config, params, vocabulary, str(path), about=about, dictionaries=dics)


def _model(embedder: Weights, encoder: Weights, told: dict[str, Any]) -> Model:
    """The architecture: sizes as the shapes have them, the rest as told."""
    # Where there are no characters nothing reads it.
    cnn = CharCNN(filters=((1, 1),), n_highway=0)
    dims = {"n_words": 0, "word_dim": 0, "n_characters": 0}
    if "word_emb_layer.embedding.weight" in embedder:
        dims["n_words"], dims["word_dim"] = embedder.take("word_emb_layer.embedding.weight", ANY, ANY).shape
    if "char_emb_layer.embedding.weight" in embedder:
        dims["n_characters"], dim = embedder.take("char_emb_layer.embedding.weight", ANY, ANY).shape
        if "char_lstm.weight_ih_l0" in embedder:
            raise UserError(
                f"{embedder.origin} encodes characters by an LSTM ('lstm'): only 'cnn', as published, is read"
            )
        n_filters = max(1, embedder.count("convolutions.{}.weight"))
        kernels = [embedder.take(f"convolutions.{i}.weight", ANY, dim, ANY) for i in range(n_filters)]
        cnn = CharCNN(
            activation=told["activation"],
            embedding=CharEmbedding(dim),
            filters=tuple((kernel.shape[2], kernel.shape[0]) for kernel in kernels),
            n_highway=embedder.count("highways._layers.{}.weight"),
        )
    cnn = dataclasses.replace(cnn, max_characters_per_token=told["max_characters_per_token"])
    lstm: LSTM = dataclasses.replace(
        torch_weights.lstm_shapes(encoder), cell_clip=told["cell_clip"], proj_clip=told["proj_clip"]
    )
    sizes, softmax = Dictionaries(**dims), Softmax(kind="full")
    return Model(input="words+characters", dictionaries=sizes, char_cnn=cnn, lstm=lstm, softmax=softmax)


def _token_encoder(weights: Weights, model: Model) -> dict[str, Any]:
    """The leaves of ``encoder`` in the parameter tree."""
    sizes, cnn = model.dictionaries, model.char_cnn
    tree: dict[str, Any] = {}
    width = sizes.word_dim
    if sizes.n_words:
        tree["word_embed"] = weights.take("word_emb_layer.embedding.weight", sizes.n_words, sizes.word_dim)
    if sizes.n_characters:
        dim, width = cnn.embedding.dim, width + cnn.n_filters
        tree["char_embed"] = weights.take("char_emb_layer.embedding.weight", sizes.n_characters, dim)
        tree |= {f"cnn_{i}": weights.convolution(f"convolutions.{i}", dim) for i in range(len(cnn.filters))}
        tree |= {f"highway_{k}": weights.highway(f"highways._layers.{k}", cnn.n_filters) for k in range(cnn.n_highway)}
    return {**tree, "projection": weights.linear("projection", width, model.lstm.projection_dim)}


def _told(path: Path) -> tuple[dict[str, Any], list[str]]:
    """What shapes do not tell, from the architecture file of a folder, and notes about where it is from."""
    named = _json(path / CONFIG_FILE).get("config_path") if (path / CONFIG_FILE).is_file() else None
    file = path / PurePosixPath(str(named or PUBLISHED_FILE).replace("\\", "/")).name
    if not file.is_file():
        taken = "relu, clips at 3 and 50 characters, as in all published models"
        return dict(_PUBLISHED), [f"There is no {file.name} with it: taken as {taken}. If that is wrong put it there."]
    tree = _json(file)
    sections: dict[str, Any] = {}
    for name, wanted in (("encoder", "elmo"), ("token_embedder", "cnn")):
        section = tree.get(name)
        if not isinstance(section, dict):
            raise UserError(f"{file} has no section {name!r}: it is no architecture of ELMoForManyLangs")
        kind = str(section.get("name")).lower()
        if kind != wanted:
            raise UserError(f"{file} has {name}.name {kind!r}: only {wanted!r}, as in published models, can be read")
        sections |= section
    for key, kinds, rule in _RULES:
        if type(sections.get(key)) not in kinds:
            raise UserError(f"{file} has {key} {sections.get(key)!r}: it must be {rule}")
    if sections["activation"] not in ("relu", "tanh"):
        raise UserError(f"{file} has activation {sections['activation']!r}: it must be 'relu' or 'tanh'")
    clips = {key: float(sections[key]) if sections[key] else None for key in ("cell_clip", "proj_clip")}
    return {**{key: sections[key] for key in _PUBLISHED}, **clips}, []


def _json(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {file}: {error}; restore it") from error
    if not isinstance(tree, dict):
        raise UserError(f"{file} holds no object; restore it")
    return tree


def _weights(file: Path) -> Weights:
    return Weights(torch_weights.read(file, str(file)), "", str(file))
