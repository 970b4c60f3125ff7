"""Files that are not what they say: one line that names the thing, whatever is wrong, and nothing is written."""

import json
import random
import resource
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from elmo_jax import cli
from tests.interop.bilm_tf_models import change, put, write
from tests.interop.test_bilm_tf import make
from tests.shared import shared

WEIGHTS, OPTIONS = "weights.hdf5", "options.json"
CELL = "RNN_0/RNN/MultiRNNCell/Cell0/LSTMCell"


@pytest.fixture
def refusal(tmp_path, capsys):
    """What the command line says to a model that it refuses."""

    def run(source: Path) -> str:
        status, error = import_model(source, tmp_path / "imported", capsys)
        assert status == 2
        assert not (tmp_path / "imported").exists()
        return error.removeprefix("elmo: ").removesuffix("\n")

    return run


def import_model(source: Path, output: Path, capsys) -> tuple[object, str]:
    """The exit status of ``elmo import``, and what it wrote to stderr: one line when it failed."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(["import", str(source), str(output)])
    error = capsys.readouterr().err
    if exit_.value.code:
        assert error.startswith("elmo: ")
        assert error.count("\n") == 1
        assert len(error) < 1000
    return exit_.value.code, error


@pytest.fixture
def model(tmp_path) -> Path:
    return write(tmp_path / "model", make(lstm={"dim": 8}))


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


# --- weights


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({f"{CELL}/B": None}, f"dataset {CELL}/B is missing, the configured model needs (32,)"),
        ({f"{CELL}/B": zeros(31)}, f"dataset {CELL}/B is (31,), the configured model needs (32,)"),
        ({"char_embed": zeros(262, 3)}, "dataset char_embed is (262, 3), the configured model needs (261, 3)"),
        ({"CNN/W_cnn_3": zeros(1, 5, 3, 4)}, "dataset CNN/W_cnn_3 has no place in the configured model"),
        ({"extra": zeros(3)}, "dataset extra is no part of a model"),
        ({f"{CELL}/B": np.full(32, np.nan, np.float32)}, f"dataset {CELL}/B has numbers that are not finite"),
        ({f"{CELL}/B": np.full(32, 1e300)}, f"dataset {CELL}/B has numbers that are not finite"),
        ({f"{CELL}/B": np.arange(32)}, "holds int64, not floating-point numbers"),
        ({f"{CELL}/B": np.array(["x"] * 32, "S1")}, "holds |S1, not floating-point numbers"),
    ],
)
def test_a_dataset_that_is_wrong(refusal, model, arrays, message):
    put(model / WEIGHTS, **{name.replace("/", "__"): array for name, array in arrays.items()})
    said = refusal(model)
    assert message in said
    assert str(model / WEIGHTS) in said


@pytest.mark.parametrize("kind", ["compressed", "unwritten", "elsewhere"])
def test_numbers_that_are_not_in_the_file(refusal, model, kind, tmp_path):
    """A header that declares what takes no room on disk must not make room in memory."""
    with h5py.File(model / WEIGHTS, "a") as file:
        del file["char_embed"]
        more = {
            "compressed": {"compression": "gzip", "data": zeros(261, 3)},
            "unwritten": {"chunks": (100_000, 10_000), "maxshape": (None, None), "shape": (261, 3), "dtype": "f4"},
            "elsewhere": {"external": [(str(tmp_path / "passwords"), 0, 10_000)], "shape": (261, 3), "dtype": "f4"},
        }
        file.create_dataset("char_embed", **more[kind])
    expected = {
        "compressed": "is compressed; unpack the file first: h5repack -f NONE",
        "unwritten": "declares 3,132 bytes that are not in the file",
        "elsewhere": "declares 3,132 bytes that are not in the file",
    }
    assert expected[kind] in refusal(model)


@pytest.mark.parametrize("name", ["char_embed", "CNN"])
def test_links_to_other_files_are_not_followed(refusal, model, tmp_path, name):
    """Not even to one that has just what is missing."""
    whole = tmp_path / "whole.hdf5"
    whole.write_bytes((model / WEIGHTS).read_bytes())
    with h5py.File(model / WEIGHTS, "a") as file:
        del file[name]
        file[name] = h5py.ExternalLink(str(whole), f"/{name}")
    said = refusal(model)
    assert f"dataset {name}" in said
    assert "is missing" in said


def test_a_model_that_declares_terabytes(refusal, model):
    """The options and the header agree, and the file has a few kilobytes."""
    change(model / OPTIONS, {"lstm.dim": 10**9, "lstm.projection_dim": 10**6})
    with h5py.File(model / WEIGHTS, "a") as file:
        del file[f"{CELL}/W_0"]
        file.create_dataset(f"{CELL}/W_0", (2 * 10**6, 4 * 10**9), "f4")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(model)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


# --- options


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lstm", ..., "lstm is missing"),
        ("lstm", [1], "lstm is no object"),
        ("lstm.dim", ..., "lstm.dim is missing"),
        ("lstm.dim", "large", "lstm.dim is 'large': it must be a whole number"),
        ("lstm.dim", True, "lstm.dim is True: it must be a whole number"),
        ("lstm.dim", -8, "lstm.dim is -8: must be at least 1"),
        ("lstm.dim", 10**400, "lstm.dim is a number of 401 digits: it must be below 2^31"),
        ("lstm.dim", {"a": [1]}, "lstm.dim is an object, and must be one value"),
        (
            "lstm.dim",
            9,
            "is (12, 32), the configured model needs (12, 36); the options.json must be that of the weights",
        ),
        ("lstm.n_layers", 3, "Cell2/LSTMCell/W_0 is missing"),
        ("lstm.n_layers", 2 * 10**9, "Cell2/LSTMCell/W_0 is missing"),
        ("lstm.n_layers", 1, "Cell1/LSTMCell/B has no place in the configured model"),
        ("lstm.cell_clip", -3, "lstm.cell_clip is -3.0: must be above 0"),
        ("lstm.cell_clip", float("inf"), "lstm.cell_clip is inf: must be a finite number"),
        ("bidirectional", False, "RNN_1/RNN/MultiRNNCell/Cell0/LSTMCell/B has no place"),
        ("char_cnn.n_characters", 300, "char_cnn.n_characters is 300: it must be 261 or 262"),
        ("char_cnn.filters", [], "char_cnn.filters is (): needs at least one"),
        ("char_cnn.filters", [[1, [2]]], "char_cnn.filters is a list, and must be one value"),
        ("char_cnn.filters", [[1, 2, 3]], "char_cnn.filters is no list of (width, number) pairs"),
        ("char_cnn.activation", "x" * 5000, "char_cnn.activation is text of 5,000 characters"),
        ("char_cnn", ..., "dataset CNN/W_cnn_0 has no place"),
    ],
)
def test_an_option_that_is_wrong(refusal, model, key, value, message):
    change(model / OPTIONS, {key: value})
    assert message in refusal(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ('{"lstm": ' * 5000 + "1" + "}" * 5000, "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "lstm is missing"),
        ('{"lstm": {"dim": ' + "9" * 5000 + "}}", "is not valid JSON"),
        (" " * (1 << 20) + "{}", "has more than 1,048,576 bytes: that is no options.json"),
    ],
)
def test_options_that_are_none(refusal, model, text, message):
    (model / OPTIONS).write_text(text)
    said = refusal(model)
    assert said.startswith(str(model / OPTIONS))
    assert message in said


# --- no model at all


def test_a_path_that_is_no_model(refusal, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    looked_for = "a run (config.json, checkpoints/), a pretrained directory (model.safetensors) or files of bilm-tf"
    assert refusal(tmp_path / "nowhere").startswith(f"there is no {tmp_path}/nowhere: give {looked_for}")
    for path in (tmp_path / "thesis", tmp_path / "thesis" / "thesis.tex"):
        assert refusal(path).startswith(f"{path} is no model: it is not {looked_for}")
        assert "elmo import reads TensorFlow checkpoints, AllenNLP archives" in refusal(path)


def test_programs_are_no_model(refusal, tmp_path):
    folder = tmp_path / "program"
    folder.mkdir()
    for name in ("layers.stablehlo", "model.safetensors"):
        (folder / name).write_bytes(b"")
    assert refusal(folder).startswith(f"{folder} holds programs, which its README.md says how to run")


def test_an_output_that_exists_is_kept(model, tmp_path, capsys):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine").touch()
    assert import_model(model, tmp_path / "kept", capsys)[1].startswith(f"elmo: {tmp_path}/kept exists already")


# --- a hundred mutations of the recorded model


def mutate_weights(data: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data))]
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 8, 64])):
        # The first kilobytes are headers; some others stand between the arrays.
        place = rng.randrange(len(data) if rng.random() < 0.3 else 8192)
        changed[place] = rng.choice([0, 255, rng.randrange(256), changed[place] ^ 1 << rng.randrange(8)])
    return bytes(changed)


def mutate_options(text: str, rng: random.Random) -> str:
    if rng.random() < 0.2:
        return text[: rng.randrange(len(text))]
    options = json.loads(text)
    node = rng.choice([options, options["lstm"], options["char_cnn"], options["char_cnn"]["embedding"]])
    key = rng.choice(sorted(node))
    value = node.pop(key)
    if rng.random() < 0.7:
        wrong = [
            "1",
            "",
            None,
            True,
            -1,
            0,
            0.5,
            10**12,
            10**300,
            1e308,
            [],
            {},
            [[value]],
            {"dim": value},
            [value] * 3,
        ]
        node[key] = rng.choice(wrong)
    elif rng.random() < 0.5:
        node[rng.choice(["", "dim", f"{key}_", "lstm"])] = value
    return json.dumps(options)


def test_a_hundred_mutations_of_the_recorded_model(tmp_path, capsys):
    source = shared("fixtures/bilm_tf/model")
    weights, options = (source / "lm_weights.hdf5").read_bytes(), (source / "options.json").read_text(encoding="utf-8")
    before, began, statuses = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), []
    for seed in range(100):
        rng, folder, output = random.Random(seed), tmp_path / "model", tmp_path / "imported"
        folder.mkdir()
        of_weights = rng.random() < 0.5
        (folder / WEIGHTS).write_bytes(mutate_weights(weights, rng) if of_weights else weights)
        (folder / OPTIONS).write_text(options if of_weights else mutate_options(options, rng), encoding="utf-8")
        status, _ = import_model(folder, output, capsys)
        assert status in (0, 2)
        assert output.exists() == (status == 0)
        assert {path.name for path in tmp_path.iterdir()} <= {"model", "imported"}
        statuses.append(status)
        shutil.rmtree(folder)
        shutil.rmtree(output, ignore_errors=True)
    assert set(statuses) == {0, 2}
    assert time.monotonic() - began < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
