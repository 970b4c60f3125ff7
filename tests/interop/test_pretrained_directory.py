"""Pretrained directories: nothing changes there and back, and whatever is wrong with one is named."""

import dataclasses
import json
import shutil
import stat
import struct
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import elmo_jax
from elmo_jax.config import Config, Data, Optimizer, Train
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.interop import checksums, pretrained_directory, safetensors_files
from elmo_jax.interop.pretrained import Mix
from tests.filesystems import contents, fill, small_disk
from tests.interop.models import FULL, KINDS, VOCABULARY, leaves, make

FILES = {
    "config.json",
    "model.safetensors",
    "vocab.txt",
    "vocab.counts.txt",
    "vocab.tokenizer.txt",
    "README.md",
    "SHA256SUMS",
}


@pytest.fixture
def saved(tmp_path):
    """A directory of a model, and the model."""
    model = make()
    model.save_pretrained(tmp_path / "elmo")
    return tmp_path / "elmo", model


def rewrite(directory, change):
    """Change the dictionary of tensors of a directory, and have no checksums that would tell."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors", {"format": "np"})
    (directory / "SHA256SUMS").unlink()


def edit(directory, **changes):
    """Change keys of config.json, and have no checksums that would tell."""
    file = directory / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    (directory / "SHA256SUMS").unlink()


# --- there and back


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_there_and_back(kind, tmp_path):
    model = make(
        kind,
        step=12,
        mixes=(
            Mix((0.5,) * (KINDS[kind].lstm.n_layers + 1), 2.0, "tokens"),
            Mix((1.0,) + (0.25,) * KINDS[kind].lstm.n_layers),
            Mix(),
        ),
        about={"license": "apache-2.0", "heldout": [{"perplexity": 3.5, "streams": 0}]},
    )
    data = Data(tokenizer="moses", sentences="unicode", language="de")
    config = dataclasses.replace(
        model.config, data=data, train=Train(batch_size=7, n_steps=3), optimizer=Optimizer(name="lion", ema_decay=0.5)
    )
    model = dataclasses.replace(model, config=config)
    model.save_pretrained(tmp_path / "elmo")
    found = elmo_jax.from_pretrained(tmp_path / "elmo")
    wanted = leaves(model)
    assert leaves(found).keys() == wanted.keys()
    for path, leaf in leaves(found).items():
        assert leaf.dtype == np.float32
        assert (leaf.shape, leaf.tobytes()) == (wanted[path].shape, wanted[path].tobytes())
    assert found.config == config
    assert (found.step, found.mixes, found.about) == (model.step, model.mixes, model.about)
    assert found.words().words == VOCABULARY.words
    np.testing.assert_array_equal(found.words().counts, VOCABULARY.counts)
    assert found.words().tokenizer == "unicode"
    assert found.origin == str(tmp_path / "elmo")


def test_saved_again_it_is_the_same_to_the_byte(saved, tmp_path):
    elmo_jax.from_pretrained(saved[0]).save_pretrained(tmp_path / "again" / "elmo")
    assert contents(tmp_path / "again" / "elmo") == contents(saved[0])
    assert contents(saved[0]).keys() == FILES


def test_what_nobody_knows_of_a_foreign_model_is_not_written_as_known(saved):
    found = json.loads((saved[0] / "config.json").read_text())
    assert (found["train"], found["optimizer"], found["step"]) == ({}, {}, None)


def test_a_model_without_softmax_and_vocabulary(tmp_path):
    model = make(vocabulary=None)
    model.save_pretrained(tmp_path / "elmo")
    found = elmo_jax.from_pretrained(tmp_path / "elmo")
    assert found.vocabulary is None
    assert leaves(found).keys() == leaves(model).keys()
    with pytest.raises(UserError, match="has no softmax"):
        found.require_softmax()


@pytest.mark.parametrize("kind", ["adaptive", "words, shared, forward only"])
def test_a_softmax_says_how_many_words_there_are_when_the_words_are_not_known(kind, tmp_path):
    model = dataclasses.replace(make(kind), vocabulary=None)
    model.save_pretrained(tmp_path / "elmo")
    assert json.loads((tmp_path / "elmo" / "config.json").read_text())["vocab_size"] == len(VOCABULARY)
    found = elmo_jax.from_pretrained(tmp_path / "elmo")
    assert leaves(found).keys() == leaves(model).keys()
    VOCABULARY.save(tmp_path / "elmo" / "vocab.txt")
    assert elmo_jax.from_pretrained(tmp_path / "elmo").words().words == VOCABULARY.words


@pytest.mark.parametrize(("dtype", "bits"), [("bfloat16", 7), ("float16", 10)])
def test_half_the_bytes_are_the_nearest_numbers_and_are_read_as_float32(dtype, bits, tmp_path):
    model = make()
    model.save_pretrained(tmp_path / "elmo", dtype=dtype)
    found = elmo_jax.from_pretrained(tmp_path / "elmo")
    for path, leaf in leaves(found).items():
        wanted = leaves(model)[path]
        assert leaf.dtype == np.float32
        # Halfway between two numbers of so many bits is the farthest; float16's small ones are farther apart.
        assert np.all(np.abs(leaf - wanted) <= np.maximum(np.abs(wanted) * 2.0 ** -(bits + 1), 2.0**-25))
    assert f"| stored numbers | {dtype}, rounded from float32 |" in (tmp_path / "elmo" / "README.md").read_text()
    full = sum(leaf.nbytes for leaf in leaves(model).values())
    assert (tmp_path / "elmo" / "model.safetensors").stat().st_size < full / 2 + 4000


def test_large_models_are_written_in_shards_as_the_hub_has_them(tmp_path, monkeypatch):
    model = make()
    monkeypatch.setattr(safetensors_files, "MAX_FILE_BYTES", 3000)
    model.save_pretrained(tmp_path / "elmo")
    index = json.loads((tmp_path / "elmo" / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in (tmp_path / "elmo").glob("model-*.safetensors"))
    assert shards == [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    assert len(shards) > 2
    tensors = {name: load_file(tmp_path / "elmo" / name) for name in shards}
    assert index["weight_map"] == {path: name for name in shards for path in tensors[name]}
    assert index["metadata"]["total_size"] == sum(leaf.nbytes for leaf in leaves(model).values())
    for shard in tensors.values():
        assert len(shard) == 1 or sum(leaf.nbytes for leaf in shard.values()) <= 3000
    found = leaves(elmo_jax.from_pretrained(tmp_path / "elmo"))
    assert {path: leaf.tobytes() for path, leaf in found.items()} == {
        path: leaf.tobytes() for path, leaf in leaves(model).items()
    }
    # One file takes the place of the shards, all of them.
    monkeypatch.undo()
    model.save_pretrained(tmp_path / "elmo", overwrite=True)
    assert contents(tmp_path / "elmo").keys() == FILES


def test_the_files_can_be_read_by_whom_the_others_can(saved):
    assert len({stat.S_IMODE(path.stat().st_mode) for path in saved[0].iterdir()}) == 1


# --- one file


def test_one_file_is_a_model_with_its_configuration(tmp_path):
    model = make(step=3, about={"license": "mit"})
    file = tmp_path / "deep" / "elmo.safetensors"
    pretrained_directory.save_file(file, model)
    found = elmo_jax.from_pretrained(file)
    assert (found.config, found.step, found.about, found.vocabulary) == (model.config, 3, {"license": "mit"}, None)
    assert {p: leaf.tobytes() for p, leaf in leaves(found).items()} == {
        p: leaf.tobytes() for p, leaf in leaves(model).items()
    }
    assert [path.name for path in file.parent.iterdir()] == ["elmo.safetensors"]
    # Beside it may lie its words, or others that have nothing to do with it.
    Vocabulary(["<S>", "</S>", "<UNK>", "else"]).save(tmp_path / "deep" / "vocab.txt")
    assert elmo_jax.from_pretrained(file).vocabulary is None
    VOCABULARY.save(tmp_path / "deep" / "vocab.txt")
    assert elmo_jax.from_pretrained(file).words().words == VOCABULARY.words


def test_a_file_of_others_is_refused(tmp_path):
    save_file({"a": np.zeros(3)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"tensor a in .* is F64: it must be BF16, F16, F32"):
        elmo_jax.from_pretrained(tmp_path / "a.safetensors")
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="no config in its header"):
        elmo_jax.from_pretrained(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"name must end in \.safetensors"):
        pretrained_directory.save_file(tmp_path / "a.bin", make())


# --- damage


def flip(file, position):
    data = bytearray(file.read_bytes())
    data[position] ^= 0x10
    file.write_bytes(data)


def truncate(file, size):
    file.write_bytes(file.read_bytes()[:size])


DAMAGE = {
    "weights cut off": (lambda d: truncate(d / "model.safetensors", 4000), "cannot read .*model.safetensors: "),
    "weights empty": (lambda d: truncate(d / "model.safetensors", 0), "cannot read .*model.safetensors: "),
    "length of the header": (lambda d: flip(d / "model.safetensors", 7), "cannot read .*model.safetensors: "),
    "header": (lambda d: flip(d / "model.safetensors", 8), "cannot read .*model.safetensors: "),
    "a number": (lambda d: flip(d / "model.safetensors", -5), "model.safetensors is not what SHA256SUMS says"),
    "a word": (lambda d: flip(d / "vocab.txt", 15), "vocab.txt has 25 words and is not the vocabulary of"),
    "counts": (lambda d: flip(d / "vocab.tokenizer.txt", 0), "tokenizer.txt is not what SHA256SUMS says"),
    "no vocabulary": (lambda d: (d / "vocab.txt").unlink(), "vocab.txt is missing, and SHA256SUMS has it"),
    "list": (lambda d: (d / "SHA256SUMS").write_text("../x\n"), r"SHA256SUMS:1 is no SHA-256 and file name: '\.\./x'"),
    "no configuration": (lambda d: (d / "config.json").unlink(), "cannot read .*config.json: .*No such file"),
    "configuration cut off": (lambda d: truncate(d / "config.json", 500), "cannot read .*config.json: "),
    "not JSON": (lambda d: (d / "config.json").write_bytes(b"\xff{}"), "cannot read .*config.json: "),
    "too deep": (lambda d: (d / "config.json").write_text("[" * 100_000), "cannot read .*config.json: "),
    "a list": (lambda d: (d / "config.json").write_text("[]"), "config.json holds no object"),
    "another program's": (lambda d: edit(d, model_type="bert"), "describes no elmo_jax model .*'bert'"),
    "missing tensor": (
        lambda d: rewrite(d, lambda t: t.pop("lstm_1/bias")),
        r"lstm_1/bias \(2, 28\) is missing; fetch or export it again",
    ),
    "tensor more": (
        lambda d: rewrite(d, lambda t: t.update({"lstm_2/bias": np.zeros((2, 28), np.float32)})),
        r"lstm_2/bias \(2, 28\) has no place in the configured model",
    ),
    "tensor of another shape": (
        lambda d: rewrite(d, lambda t: t.update({"lstm_1/bias": np.zeros((2, 27), np.float32)})),
        r"lstm_1/bias is \(2, 27\), the configured model has \(2, 28\)",
    ),
    "tensor of another dtype": (
        lambda d: rewrite(d, lambda t: t.update({"lstm_1/bias": np.zeros((2, 28), np.int32)})),
        "lstm_1/bias in .* is I32: it must be BF16, F16, F32",
    ),
    "not a number": (
        lambda d: rewrite(d, lambda t: t["lstm_1/bias"].__setitem__((1, 3), np.nan)),
        "lstm_1/bias in .* has numbers that are not finite",
    ),
    "a softmax less": (
        lambda d: rewrite(d, lambda t: [t.pop(name) for name in list(t) if name.startswith("softmax/")]),
        "says that there is a softmax, and the weights differ",
    ),
    "another architecture": (
        lambda d: edit(d, model={**dataclasses.asdict(KINDS["adaptive"]), "softmax": dataclasses.asdict(FULL)}),
        "softmax/bias .* is missing",
    ),
    "a million layers": (
        lambda d: edit(d, model={**dataclasses.asdict(KINDS["adaptive"]), "lstm": {"n_layers": 1_000_000}}),
        "too few for the configured model",
    ),
    "clusters beyond the words": (
        lambda d: (edit(d, vocab_size=16, vocab_digest=None), (d / "vocab.txt").unlink()),
        "cutoffs is .* must be below the 16 words",
    ),
    "unknown field": (lambda d: edit(d, model={"imput": "words"}), "has no field 'imput'; did you mean 'input'"),
    "impossible value": (lambda d: edit(d, model={"dropout": 2.0}), "config.model.dropout is 2.0: "),
    "no such key": (lambda d: edit(d, data={"tokenizer": 3}), "data.tokenizer is 3: it must be one of"),
    "another vocabulary": (
        lambda d: (Vocabulary([*VOCABULARY.words, "more"]).save(d / "vocab.txt"), (d / "SHA256SUMS").unlink()),
        r"vocab.txt has 26 words and is not the vocabulary of .*vocab_size 25",
    ),
    "a mixture of other layers": (
        lambda d: edit(d, mixes=[{"weights": [1.0, 2.0]}]),
        r"mixes\[0\] has 2 weights, and the model 3 layers",
    ),
    "a mixture of no number": (
        lambda d: edit(d, mixes=[{"weights": [1.0, float("nan"), 0.0]}]),
        r"mixes\[0\]: a mix has the weights .* they must be finite numbers",
    ),
    "what is known": (lambda d: edit(d, about=[1]), r"about is \[1\]: it must be an object"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(damage, saved):
    directory, _ = saved
    change, message = DAMAGE[damage]
    change(directory)
    with pytest.raises(UserError, match=message) as refused:
        elmo_jax.from_pretrained(directory)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600


def places(tree, path=()):
    """Paths of everything in a tree of JSON."""
    for name, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (*path, name)
        yield from places(value, (*path, name))


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_changed_it_is_read_or_refused_in_one_line(seed, saved):
    directory, _ = saved
    (directory / "SHA256SUMS").unlink()
    rng = np.random.default_rng(seed)
    file = directory / rng.choice(["config.json", "model.safetensors", "vocab.txt", "vocab.counts.txt"])
    if seed % 3 == 0:
        truncate(file, rng.integers(file.stat().st_size))
    elif seed % 3 == 1:
        flip(file, rng.integers(min(file.stat().st_size, 3000)))
    else:
        tree = json.loads((directory / "config.json").read_text())
        every = list(places(tree))
        *path, name = every[rng.integers(len(every))]
        node = tree
        for part in path:
            node = node[part]
        values = [None, -1, 0, 10**6, 10**18, 10**30, 1e300, float("nan"), "x", [], {}, [[1, 2]], True]
        node[name] = values[rng.integers(len(values))]
        (directory / "config.json").write_text(json.dumps(tree))
    said = ""
    try:
        elmo_jax.from_pretrained(directory)
    except UserError as error:
        said = str(error)
    assert "\n" not in said


def test_keys_and_files_of_others_are_let_be(saved):
    directory, model = saved
    edit(directory, transformers_version="5.0", architectures=["Elmo"])
    (directory / "thoughts.txt").write_text("mine")
    (directory / "README.md").write_text("a better card")
    assert elmo_jax.from_pretrained(directory).config == model.config


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", 3, None])
def test_an_index_names_only_files_beside_it(name, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"lstm_0/bias": name}}))
    with pytest.raises(UserError, match="weights must be files beside it"):
        elmo_jax.from_pretrained(tmp_path)


def test_a_header_that_promises_more_than_there_is_allocates_nothing(saved):
    directory, _ = saved
    huge = {"lstm_0/bias": {"dtype": "F32", "shape": [2**40, 2**10], "data_offsets": [0, 2**52]}}
    header = json.dumps(huge).encode()
    (directory / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(UserError, match="cannot read"):
        elmo_jax.from_pretrained(directory)


def test_the_checksums_are_those_of_sha256sum(saved):
    directory, _ = saved
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=directory, capture_output=True, text=True)
    assert checked.returncode == 0
    assert checked.stdout.count(": OK") == len(FILES) - 2
    checksums.verify(directory)


# --- what is not written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": Vocabulary([*VOCABULARY.words, "more"])}, r"softmax/tail_1_bias is \(9,\), .* has \(10,\)"),
        ({"config": Config(model=KINDS["forward only"])}, r"lstm_0/bias is \(2, 28\), .* has \(1, 28\)"),
    ],
)
def test_parts_that_do_not_fit_are_not_written(change, message, tmp_path):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(make(), **change).save_pretrained(tmp_path / "elmo")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "dtype"), [(np.nan, "float32"), (np.inf, "bfloat16"), (1e5, "float16")])
def test_numbers_that_are_not_finite_are_not_written(number, dtype, tmp_path):
    model = make()
    model.params["lstm_0"]["bias"][0, 3] = number
    with pytest.raises(UserError, match=f"lstm_0/bias has numbers that are not finite in {dtype}"):
        model.save_pretrained(tmp_path / "elmo", dtype=dtype)
    with pytest.raises(UserError, match="dtype is 'int8': it must be one of float32, "):
        make().save_pretrained(tmp_path / "elmo", dtype="int8")
    assert not any(tmp_path.iterdir())


def test_nothing_is_replaced_without_being_told(saved):
    directory, _ = saved
    before = contents(directory)
    with pytest.raises(UserError, match=r"exists already; .* --overwrite"):
        make(seed=1).save_pretrained(directory)
    assert contents(directory) == before
    (directory / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match=r"holds thesis\.tex"):
        make(seed=1).save_pretrained(directory, overwrite=True)
    (directory / "thesis.tex").unlink()
    assert contents(directory) == before
    make(seed=1).save_pretrained(directory, overwrite=True)
    assert contents(directory).keys() == before.keys()
    assert contents(directory)["model.safetensors"] != before["model.safetensors"]


def test_a_full_disk_leaves_the_earlier_one(tmp_path):
    with small_disk(tmp_path / "disk"):
        directory, file = tmp_path / "disk" / "elmo", tmp_path / "disk" / "elmo.safetensors"
        make().save_pretrained(directory)
        pretrained_directory.save_file(file, make())
        before = contents(tmp_path / "disk")
        fill(tmp_path / "disk")
        with pytest.raises(UserError, match=r"cannot write the export .*No space left on device"):
            make(seed=1).save_pretrained(directory, overwrite=True)
        with pytest.raises(UserError, match=r"cannot write .*elmo\.safetensors: .*No space left on device"):
            pretrained_directory.save_file(file, make(seed=1))
        (tmp_path / "disk" / "filler").unlink()
        assert contents(tmp_path / "disk") == before
        assert leaves(elmo_jax.from_pretrained(directory)).keys() == leaves(make()).keys()
