"""AllenNLP's models: the mapping of ELMO_SPEC 2.9 against its inverse and independent code, and what is refused."""

import io
import json
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from elmo_jax.config import Config
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import allennlp_archive, bilm_tf
from elmo_jax.interop.pretrained import Mix
from tests.interop import state_dicts
from tests.reference.numpy_bilm import NumpyBiLM, random_weights

pytestmark = pytest.mark.usefixtures("without_torch")

Arrays = dict[str, np.ndarray]

OPTIONS = {
    "lstm": {
        "use_skip_connections": True,
        "projection_dim": 6,
        "cell_clip": 3,
        "proj_clip": 3,
        "dim": 7,
        "n_layers": 2,
    },
    "char_cnn": {
        "activation": "relu",
        "filters": [[1, 4], [2, 5], [4, 2]],
        "n_highway": 2,
        "embedding": {"dim": 3},
        "n_characters": 262,
        "max_characters_per_token": 50,
    },
}
SENTENCES = [["The", "first", "Māris", "?"], ["表", "x" * 70], []]
TAGGER = "text_field_embedder.token_embedder_elmo._elmo."


def datasets(seed: int = 0, options: dict = OPTIONS) -> Arrays:
    return random_weights(options, np.random.default_rng(seed))


def allennlp(weights: Arrays, prefix: str = "", mixes: tuple[tuple[float, ...], ...] = ()) -> Arrays:
    """What a state dict of AllenNLP holds for these datasets of bilm-tf: ELMO_SPEC 2.9 in that direction."""
    state = {"_token_embedder._char_embedding_weights": np.pad(weights["char_embed"], ((1, 0), (0, 0)))}
    for name, array in weights.items():
        parts = name.split("/")
        if parts[0] == "CNN":
            kind, number = ("weight", array[0].T) if array.ndim == 4 else ("bias", array)
            state[f"_token_embedder.char_conv_{name[-1]}.{kind}"] = number
        elif parts[0] == "CNN_proj":
            state[f"_token_embedder._projection.{'weight' if array.ndim == 2 else 'bias'}"] = array.T
        elif name.endswith("_carry"):
            kind = {"W": "weight", "b": "bias"}[parts[1][0]]
            transform = weights[f"{parts[0]}/{parts[1][0]}_transform"]
            stacked = np.concatenate([transform.T, -array.T])
            state[f"_token_embedder._highways._layers.{parts[0][-1]}.{kind}"] = stacked
        elif parts[0].startswith("RNN"):
            direction, layer = ("forward", "backward")[int(parts[0][-1])], parts[3][-1]
            cell = f"_elmo_lstm.{direction}_layer_{layer}"
            if parts[-1] == "W_P_0":
                state[f"{cell}.state_projection.weight"] = array.T
                continue
            i, j, f, o = np.split(array, 4, axis=-1)
            if parts[-1] == "B":
                state[f"{cell}.state_linearity.bias"] = np.concatenate([i, f + 1, j, o])
            else:
                rows = np.concatenate([i, f, j, o], axis=-1).T
                state[f"{cell}.input_linearity.weight"] = rows[:, : rows.shape[1] // 2]
                state[f"{cell}.state_linearity.weight"] = rows[:, rows.shape[1] // 2 :]
    named = {f"{prefix}_elmo_lstm.{name}": np.ascontiguousarray(array, np.float32) for name, array in state.items()}
    for r, (*layers, gamma) in enumerate(mixes):
        named |= {f"{prefix}scalar_mix_{r}.scalar_parameters.{j}": np.float32([w]) for j, w in enumerate(layers)}
        named[f"{prefix}scalar_mix_{r}.gamma"] = np.float32([gamma])
    return named


def configuration(**embedder) -> dict:
    elmo = {"type": "elmo_token_embedder", "options_file": "https://somewhere/elmo_options.json", **embedder}
    return {"model": {"type": "tagger", "text_field_embedder": {"token_embedders": {"elmo": elmo}}}}


def directory(path: Path, state: Arrays, config: dict | None = None, write=state_dicts.write, **files: dict) -> Path:
    """An unpacked archive; ``files`` are JSON files besides, by their names without the ending."""
    path.mkdir()
    write(path / "weights.th", state)
    (path / "config.json").write_text(json.dumps(configuration() if config is None else config))
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


def packed(folder: Path, archive: Path, names: dict[str, str] | None = None) -> Path:
    """The files of a folder as an archive; ``names`` are those that they have in it."""
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, (names or {}).get(file.name, file.name))
    return archive


def assert_gives(model, weights: Arrays, options: dict = OPTIONS) -> None:
    reference = NumpyBiLM(options, weights)
    for tokens, found in zip(SENTENCES, Embedder(model).embed(SENTENCES), strict=True):
        [expected], _ = reference([tokens])
        np.testing.assert_allclose(found, expected[:, 1:-1], atol=2e-5, rtol=1e-5)


# --- the mapping


@pytest.mark.parametrize("prefix", ["", f"_{TAGGER}", TAGGER, "_elmo."])
def test_every_number_comes_back_whatever_the_elmo_is_part_of(prefix, tmp_path):
    weights = datasets()
    state = allennlp(weights, prefix) | {"tag_projection.weight": np.zeros((3, 12), np.float32)}
    model = allennlp_archive.load(directory(tmp_path / "model", state, elmo_options=OPTIONS))
    found = bilm_tf.datasets(model.params, model.config)
    assert found.keys() == weights.keys()
    for name, array in weights.items():
        # One is added to and taken from the forget biases.
        np.testing.assert_allclose(found[name], array, atol=1e-6 if name.endswith("/B") else 0, rtol=0)


def test_a_bare_bilm(tmp_path):
    state = {name.removeprefix("_elmo_lstm."): array for name, array in allennlp(datasets()).items()}
    model = allennlp_archive.load(directory(tmp_path / "model", state, elmo_options=OPTIONS))
    assert model.mixes == ()
    assert bilm_tf.options(model.config, 0)["lstm"] == OPTIONS["lstm"]


def test_the_vectors_are_those_of_independent_code(tmp_path):
    weights = datasets()
    state = allennlp(weights, f"_{TAGGER}", mixes=((0.1, 0.2, 0.3, 1.0),))
    folder = directory(tmp_path / "model", state, elmo_options=OPTIONS)
    assert allennlp_archive.recognises(folder)
    assert_gives(allennlp_archive.load(folder), weights)


@pytest.mark.parametrize("legacy", [False, True], ids=["of today", "of AllenNLP before 1.2"])
def test_an_archive_of_pytorch(legacy, tmp_path, with_torch):
    def write(file, arrays):
        state_dicts.write_with_torch(file, arrays, legacy=legacy)

    weights = datasets()
    folder = directory(tmp_path / "model", allennlp(weights, f"_{TAGGER}"), write=write, elmo_options=OPTIONS)
    archive = packed(folder, tmp_path / "model.tar.gz")
    assert allennlp_archive.recognises(archive)
    model = allennlp_archive.load(archive)
    np.testing.assert_array_equal(model.params["encoder"]["char_embed"], weights["char_embed"])
    assert "notes" not in model.about


# --- what belongs to the weights


@pytest.mark.parametrize("norm", [False, True])
def test_all_mixtures_with_the_layer_norm_of_the_configuration(norm, tmp_path):
    state = allennlp(datasets(), f"_{TAGGER}", mixes=((0.5, -1.0, 2.0, 0.75), (0.0, 1.0, 0.25, 3.0)))
    config = configuration(do_layer_norm=norm)
    model = allennlp_archive.load(directory(tmp_path / "model", state, config, elmo_options=OPTIONS))
    dialect = "tokens+boundaries" if norm else "none"
    assert model.mixes == (Mix((0.5, -1.0, 2.0), 0.75, dialect), Mix((0.0, 1.0, 0.25), 3.0, dialect))


TANH = {
    "lstm": {**OPTIONS["lstm"], "cell_clip": 2, "proj_clip": None, "an": "unknown key"},
    "char_cnn": {**OPTIONS["char_cnn"], "activation": "tanh", "n_characters": 261},
}


def in_archive(path: Path, state: Arrays) -> Path:
    return packed(directory(path / "model", state, elmo_options=TANH), path / "model.tar.gz")


def kept_by_an_old_version(path: Path, state: Arrays) -> Path:
    place = "fta/model.text_field_embedder.token_embedders.elmo.options_file"
    folder = directory(path / "model", state, elmo_options=TANH)
    return packed(folder, path / "model.tar.gz", {"elmo_options.json": place})


def beside_the_archive(path: Path, state: Arrays) -> Path:
    (path / "elmo_options.json").write_text(json.dumps(TANH))
    return packed(directory(path / "model", state), path / "model.tar.gz")


def beside_bare_weights(path: Path, state: Arrays) -> Path:
    (path / "options.json").write_text(json.dumps(TANH))
    state_dicts.write(path / "weights.th", state)
    return path / "weights.th"


@pytest.mark.parametrize("place", [in_archive, kept_by_an_old_version, beside_the_archive, beside_bare_weights])
def test_the_options_file_says_what_shapes_do_not(place, tmp_path):
    model = allennlp_archive.load(place(tmp_path, allennlp(datasets(), f"_{TAGGER}")))
    lstm, cnn = model.config.model.lstm, model.config.model.char_cnn
    assert (cnn.activation, lstm.cell_clip, lstm.proj_clip) == ("tanh", 2.0, None)
    assert "taken as relu" not in model.about.get("notes", "")


def test_without_an_options_file_a_note_says_what_is_taken(tmp_path):
    model = allennlp_archive.load(directory(tmp_path / "model", allennlp(datasets(), f"_{TAGGER}")))
    assert model.config.model.lstm.cell_clip == 3.0
    assert "There is no elmo_options.json with it: taken as relu, clips at 3" in model.about["notes"]


# --- several


def test_several_elmos_that_are_one_keep_the_mixtures_of_all(tmp_path):
    state = allennlp(datasets(), "a._elmo.", ((1, 2, 3, 4),)) | allennlp(datasets(), "b._elmo.", ((5, 6, 7, 8),))
    model = allennlp_archive.load(directory(tmp_path / "model", state, elmo_options=OPTIONS))
    assert [mix.gamma for mix in model.mixes] == [4, 8]
    assert "Its 2 ELMos have the same weights" in model.about["notes"]


def test_several_elmos_that_differ_are_named_and_one_can_be_chosen(tmp_path):
    first, second = datasets(0), datasets(1)
    state = allennlp(first, "token_embedder_elmo._elmo.") | allennlp(second, "token_embedder_pubmed._elmo.")
    path = directory(tmp_path / "model", state, elmo_options=OPTIONS, options=OPTIONS)
    with pytest.raises(UserError, match="several ELMos with different weights: choose one with --elmo") as error:
        allennlp_archive.load(path)
    assert "token_embedder_elmo._elmo._elmo_lstm, token_embedder_pubmed._elmo._elmo_lstm" in str(error.value)
    model = allennlp_archive.load(path, elmo="pubmed")
    np.testing.assert_array_equal(model.params["encoder"]["char_embed"], second["char_embed"])
    with pytest.raises(UserError, match="has no ELMo 'german'; it has token_embedder_elmo"):
        allennlp_archive.load(path, elmo="german")


# --- what is refused


def test_a_model_without_an_elmo(tmp_path):
    path = directory(tmp_path / "model", {"tag_projection.weight": np.zeros((3, 12), np.float32)})
    with pytest.raises(UserError, match="holds no ELMo"):
        allennlp_archive.load(path)


CELL = f"_{TAGGER}_elmo_lstm._elmo_lstm.backward_layer_0"
MUTATIONS = {
    "missing": (lambda a: a.pop(f"{CELL}.input_linearity.weight"), r"has no _text.*backward_layer_0.input_linearity"),
    "mis-shaped": (
        lambda a: a.update({f"{CELL}.state_linearity.bias": np.zeros(27, np.float32)}),
        r"backward_layer_0.state_linearity.bias is \(27,\), the rest of the model needs \(28,\)",
    ),
    "NaN": (lambda a: a[f"{CELL}.state_linearity.bias"].fill(np.nan), "values that are not finite"),
    "other characters": (
        lambda a: a.update({f"_{TAGGER}_elmo_lstm._token_embedder._char_embedding_weights": np.zeros((300, 3))}),
        r"needs \(262, any\)",
    ),
}


@pytest.mark.parametrize(("mutate", "message"), MUTATIONS.values(), ids=MUTATIONS.keys())
def test_weights_that_do_not_fit_are_named(mutate, message, tmp_path):
    state = allennlp(datasets(), f"_{TAGGER}")
    mutate(state)
    with pytest.raises(UserError, match=message):
        allennlp_archive.load(directory(tmp_path / "model", state, elmo_options=OPTIONS))


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("lstm", "dim", 8, "has lstm.dim 8, the weights 7"),
        ("lstm", "use_skip_connections", False, "has lstm.use_skip_connections False"),
        ("char_cnn", "filters", [[1, 4]], r"has char_cnn.filters \[\[1, 4\]\]"),
        ("char_cnn", "embedding", {"dim": 4}, "has char_cnn.embedding.dim 4, the weights 3"),
        ("char_cnn", "activation", "gelu", "it must be 'relu' or 'tanh'"),
        ("lstm", "cell_clip", "3", "lstm.cell_clip '3': it must be a number"),
        ("lstm", "cell_clip", -3, "config.model.lstm.cell_clip"),
    ],
)
def test_options_that_contradict_the_weights(section, key, value, message, tmp_path):
    options = {**OPTIONS, section: {**OPTIONS[section], key: value}}
    path = directory(tmp_path / "model", allennlp(datasets(), f"_{TAGGER}"), elmo_options=options)
    with pytest.raises(UserError, match=message):
        allennlp_archive.load(path)


def test_damaged_archives(tmp_path):
    state = allennlp(datasets(), f"_{TAGGER}")
    archive = packed(directory(tmp_path / "model", state), tmp_path / "whole.tar.gz")
    content = archive.read_bytes()
    damaged = {"truncated": content[:-500], "flipped": content[:2000] + b"\xff" * 9 + content[2009:], "none": b"text"}
    for name, altered in damaged.items():
        (tmp_path / f"{name}.tar.gz").write_bytes(altered)
        with pytest.raises(UserError, match=f"{name}.tar.gz is no archive or is damaged"):
            allennlp_archive.load(tmp_path / f"{name}.tar.gz")
    with pytest.raises(UserError, match=r"has no weights.th"):
        allennlp_archive.load(packed(tmp_path / "model", tmp_path / "other.tar.gz", {"weights.th": "w.th"}))


def test_an_archive_writes_nothing_and_leads_nowhere(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    state = allennlp(datasets(), f"_{TAGGER}")
    folder = directory(tmp_path / "model", state, elmo_options=OPTIONS)
    archive = inside / "model.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("../evil.json", "/evil.json", "../weights.th"):
            member = tarfile.TarInfo(name)
            member.size = 2
            tar.addfile(member, io.BytesIO(b"{}"))
        link = tarfile.TarInfo("config.json")
        link.type, link.linkname = tarfile.SYMTYPE, "../../etc/passwd"
        tar.addfile(link)
        for file in folder.iterdir():
            tar.add(file, file.name)
    before = sorted(tmp_path.rglob("*"))
    assert allennlp_archive.load(archive).config.model.lstm.dim == 7
    assert sorted(tmp_path.rglob("*")) == before


def grown(name: str, n_bytes: int, n: int = 1, **header) -> bytes:
    """An archive of a few kilobytes, whose members have so many bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for number in range(n):
            member = tarfile.TarInfo(name.format(number))
            member.size, member.pax_headers = n_bytes, header
            tar.addfile(member, io.BytesIO(bytes(n_bytes)))
    return content.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (grown("weights.th", 1 << 26), "has no weights.th"),
        (grown("{}.json", 1 << 23, 8), "has no weights.th"),
        (grown("config.json", 1, comment="x" * (1 << 26)), "a header declares 6[0-9,]* bytes"),
    ],
    ids=["weights", "small files", "header"],
)
def test_a_small_archive_takes_little_memory_and_disk(tmp_path, archive, message):
    path = tmp_path / "small.tar.gz"
    path.write_bytes(archive)
    assert len(archive) < 1 << 18
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message):
            allennlp_archive.load(path)
        assert tracemalloc.get_traced_memory()[1] < 3 << 24
    finally:
        tracemalloc.stop()


def test_the_rest_of_a_configuration_is_not_trusted(tmp_path):
    state = allennlp(datasets(), f"_{TAGGER}")
    for number, config in enumerate([[], 3, {"model": [{"options_file": 7}]}, {"options_file": "../../etc/passwd"}]):
        model = allennlp_archive.load(directory(tmp_path / f"model{number}", state, config))
        assert model.config.model == Config(model=model.config.model).model
    path = directory(tmp_path / "damaged", state)
    (path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config.json is not valid JSON"):
        allennlp_archive.load(path)
