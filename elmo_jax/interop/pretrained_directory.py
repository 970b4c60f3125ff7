"""A pretrained directory, as Hugging Face's models are: one folder with all that using a model takes, and no more.

::

    config.json         architecture, tokeniser, how it was trained, learnt mixtures, what else is known
    model.safetensors   the parameter tree of docs/design.md, a tensor a leaf by its path (large models: in shards)
    vocab.txt           the words, where they are known; counts and tokeniser beside it, as in a run
    char.dic, word.dic  in place of vocab.txt, the dictionaries of a model of ELMoForManyLangs
    README.md           the model card
    SHA256SUMS          what all files but the card were when it was made

A model is one file too: ``NAME.safetensors``, with ``config.json`` in its header.
"""

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import elmo_jax
from elmo_jax import config_io
from elmo_jax.config import Config
from elmo_jax.data import dictionaries
from elmo_jax.data.dictionaries import Dictionaries
from elmo_jax.data.vocab import Vocabulary, counts_path, tokenizer_path
from elmo_jax.errors import UserError
from elmo_jax.interop import checksums, leaf_shapes, model_card, safetensors_files
from elmo_jax.interop.outputs import complete_directory
from elmo_jax.interop.pretrained import Mix, Pretrained
from elmo_jax.interop.safetensors_files import Weights

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
VOCABULARY_FILE = "vocab.txt"
_WORDS = {file(Path(VOCABULARY_FILE)).name for file in (Path, counts_path, tokenizer_path)}
FILES = safetensors_files.FILES | dictionaries.FILES | _WORDS | {CONFIG_FILE, CARD_FILE, checksums.FILE}

MODEL_TYPE = "elmo_jax"
# Of a configuration; what it leaves out, such as paths, is of no use elsewhere.
_SECTIONS = ("model", "train", "optimizer")
_DATA_FIELDS = ("tokenizer", "sentences", "language")

_AGAIN = "fetch or export it again"


def recognises(path: Path) -> bool:
    """Whether there is a pretrained directory, or a model in one file, at ``path``."""
    if path.is_file():
        return path.suffix == ".safetensors"
    # Programs have the weights of a model beside them and not its configuration.
    return not any(path.glob("*.stablehlo")) and any(
        (path / name).is_file() for name in (safetensors_files.WEIGHTS_FILE, safetensors_files.INDEX_FILE)
    )


def save(directory: Path, model: Pretrained, dtype: str = "float32") -> None:
    """Write ``model`` into ``directory``: all files or, after an error, none. An earlier one in it is replaced.

    Args:
        directory: is made, with its parents.
        model: with or without softmax and vocabulary.
        dtype: of the stored numbers, "float32", "bfloat16" or "float16"; they are read back as float32.

    Raises:
        UserError: when the parts of the model do not fit each other, when ``directory`` holds anything but a pretrained
            directory, or cannot be written.
    """
    leaves = safetensors_files.stored(model.params, model.config, _n_words(model), dtype)
    with complete_directory(directory, FILES) as folder:
        text = json.dumps(_description(model, leaves, dtype), indent=2) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        # Other programs refuse files whose header does not say that the tensors are plain arrays in row-major order.
        safetensors_files.write(folder, leaves, {"format": "np"})
        if model.dictionaries is not None:
            model.dictionaries.save(folder)
        elif model.vocabulary is not None:
            model.vocabulary.save(folder / VOCABULARY_FILE)
        sums = checksums.of_files(folder)
        checksums.write(folder, sums)
        card = model_card.card(model, directory.resolve().name, sums, dtype)
        (folder / CARD_FILE).write_text(card, encoding="utf-8", newline="\n")


def save_file(path: Path, model: Pretrained, dtype: str = "float32") -> None:
    """Write the weights of ``model`` into one file, with its configuration in the header and without its vocabulary.

    Raises:
        UserError: when the parts of the model do not fit each other, or the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path} is to be a safetensors file: its name must end in .safetensors")
    if model.dictionaries is not None:
        raise UserError(f"{model.origin} reads by dictionaries, and one file cannot hold them; use --format pretrained")
    leaves = safetensors_files.stored(model.params, model.config, _n_words(model), dtype)
    header = {"format": "np", "config": json.dumps(_description(model, leaves, dtype))}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            safetensors_files.write_file(Path(scratch) / "fresh", leaves, header)
            (Path(scratch) / "fresh").replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room or name another place") from None


def load(path: Path) -> Pretrained:
    """The model of the pretrained directory, or in the one file, at ``path``; checked before and after it is read.

    The weights must be those of the configuration, in name and shape, finite, and what ``SHA256SUMS`` says.

    Raises:
        UserError: naming the file, tensor or field that is missing, damaged or does not fit.
    """
    weights = Weights(path)
    if path.is_dir():
        source, tree = str(path / CONFIG_FILE), _read_json(path / CONFIG_FILE)
    else:
        source, tree = f"{path}: config", _from_header(path, weights)
    config, facts = _read_description(tree, source)
    dics = Dictionaries.load(path, config.model.dictionaries) if config.model.input == "words+characters" else None
    vocabulary = dics.vocabulary() if dics is not None else _vocabulary(path, facts, source)
    if facts["has_softmax"] != any(name.startswith("softmax/") for name in weights.shapes):
        says = "a softmax" if facts["has_softmax"] else "no softmax"
        raise UserError(f"{path}: {source} says that there is {says}, and the weights differ; {_AGAIN}")
    leaf_shapes.check_shapes(weights.shapes, config, facts["vocab_size"], str(path), _AGAIN)
    if path.is_dir():
        checksums.verify(path)
    params = weights.load()
    step, mixes, about = facts["step"], facts["mixes"], facts["about"]
    return Pretrained(config, params, vocabulary, str(path), step, mixes, about, dics)


def _vocabulary(path: Path, facts: Mapping[str, Any], source: str) -> Vocabulary | None:
    """The words in the directory, or beside the one file if they are those of the model."""
    words = (path if path.is_dir() else path.parent) / VOCABULARY_FILE
    if not words.exists():
        return None
    vocabulary = Vocabulary.load(words)
    fits = facts["vocab_digest"] in (vocabulary.digest(), None) and facts["vocab_size"] in (len(vocabulary), None)
    if not fits and path.is_dir():
        raise UserError(
            f"{words} has {len(vocabulary):,} words and is not the vocabulary of {source} (vocab_size "
            f"{facts['vocab_size']}); {_AGAIN}"
        )
    return vocabulary if fits else None


def _n_words(model: Pretrained) -> int | None:
    return None if model.vocabulary is None else len(model.vocabulary)


def _description(model: Pretrained, leaves: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    tree, default = dataclasses.asdict(model.config), dataclasses.asdict(Config())
    sections = {name: tree[name] for name in _SECTIONS}
    if not model.training_known:
        # What differs from values that nobody chose is known all the same.
        for name in set(_SECTIONS) - {"model"}:
            sections[name] = {k: value for k, value in tree[name].items() if value != default[name][k]}
    return {
        "model_type": MODEL_TYPE,
        "elmo_jax_version": elmo_jax.__version__,
        "dtype": dtype,
        "vocab_size": _n_words(model) or safetensors_files.words_of(leaves),
        "vocab_digest": None if model.vocabulary is None else model.vocabulary.digest(),
        "has_softmax": "softmax" in model.params,
        "step": model.step,
        **sections,
        "data": {name: tree["data"][name] for name in _DATA_FIELDS},
        "mixes": [dataclasses.asdict(mix) for mix in model.mixes],
        "about": dict(model.about),
    }


def _read_description(tree: dict[str, Any], source: str) -> tuple[Config, dict[str, Any]]:
    """The configuration and everything beside it; keys that others add are let be."""
    if tree.get("model_type") != MODEL_TYPE or "model" not in tree:
        raise UserError(
            f"{source} describes no elmo_jax model (model_type is {tree.get('model_type')!r}); name a run, a "
            "pretrained directory of elmo_jax, or the files of another ELMo"
        )
    sections = {name: tree[name] for name in (*_SECTIONS, "data") if name in tree}
    config: Config = config_io.convert(sections, Config, source)
    try:
        config.validate(recorded=True)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    kinds: dict[str, Any] = {
        "vocab_size": int | None,
        "vocab_digest": str | None,
        "has_softmax": bool,
        "step": int | None,
        "mixes": tuple[Mix, ...],
        "about": dict,
    }
    missing = [name for name in kinds if name not in tree]
    if missing:
        raise UserError(f"{source} has no {missing[0]}; {_AGAIN}")
    facts = {name: config_io.convert(tree[name], kind, f"{source}: {name}") for name, kind in kinds.items()}
    n_layers = config.model.lstm.n_layers + 1
    for number, mix in enumerate(facts["mixes"]):
        if mix.weights and len(mix.weights) != n_layers:
            raise UserError(
                f"{source}: mixes[{number}] has {len(mix.weights)} weights, and the model {n_layers} layers; {_AGAIN}"
            )
    return config, facts


def _from_header(path: Path, weights: Weights) -> dict[str, Any]:
    if "config" not in weights.metadata:
        raise UserError(
            f"{path} has no config in its header: it is no model of elmo_jax by itself; name the directory of the model"
        )
    return _object(weights.metadata["config"], f"{path}: config")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"cannot read {file}: {reason}; {_AGAIN}") from error
    return _object(text, str(file))


def _object(text: str, source: str) -> dict[str, Any]:
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {source}: {error}; {_AGAIN}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{source} holds no object; {_AGAIN}")
    return tree
