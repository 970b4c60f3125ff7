"""A pretrained directory, as Hugging Face's models are: one folder with all that using a model takes, and no more.

::

    config.json         architecture, tokeniser, how it was trained, learnt mixtures, what else is known
    model.safetensors   the parameter tree of docs/design.md, float32, a tensor a leaf by its path
    vocab.txt           the words, where they are known; counts and tokeniser beside it, as in a run
    char.dic, word.dic  in place of vocab.txt, the dictionaries of a model of ELMoForManyLangs
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from elmo_jax import config_io
from elmo_jax.data import dictionaries
from elmo_jax.data.dictionaries import Dictionaries
from elmo_jax.data.vocab import Vocabulary, counts_path, tokenizer_path
from elmo_jax.errors import UserError
from elmo_jax.interop.directory import complete_directory
from elmo_jax.interop.pretrained import Mix, Pretrained

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
VOCABULARY_FILE = "vocab.txt"
FILES = frozenset(
    {CONFIG_FILE, WEIGHTS_FILE, *(file(Path(VOCABULARY_FILE)).name for file in (Path, counts_path, tokenizer_path))}
    | dictionaries.FILES
)

MODEL_TYPE = "elmo_jax"
# Of a configuration; what it leaves out, such as paths, is of no use elsewhere.
_SECTIONS = ("model", "train", "optimizer")
_DATA_FIELDS = ("tokenizer", "sentences", "language")


def recognises(path: Path) -> bool:
    """Whether there is a pretrained directory at ``path``."""
    return (path / WEIGHTS_FILE).is_file()


def save(directory: Path, model: Pretrained) -> None:
    """Write ``model`` into ``directory``: all files or, after an error, none.

    Raises:
        UserError: when ``directory`` holds anything but a pretrained directory, or cannot be written.
    """
    leaves = {name: np.asarray(leaf, np.float32) for name, leaf in flatten_dict(model.params, sep="/").items()}
    with complete_directory(directory, FILES) as folder:
        (folder / CONFIG_FILE).write_text(json.dumps(_description(model), indent=2) + "\n", encoding="utf-8")
        save_file(leaves, folder / WEIGHTS_FILE, metadata={"format": MODEL_TYPE})
        if model.dictionaries is not None:
            model.dictionaries.save(folder)
        elif model.vocabulary is not None:
            model.vocabulary.save(folder / VOCABULARY_FILE)


def load(path: Path) -> Pretrained:
    """The model of the pretrained directory at ``path``.

    Raises:
        UserError: naming the file that is missing or damaged.
    """
    tree = _read_json(path / CONFIG_FILE)
    mixes = tuple(Mix(**{**mix, "weights": tuple(mix["weights"])}) for mix in tree.pop("mixes", []))
    about = tree.pop("about", {})
    tree.pop("model_type", None)
    config = config_io.from_json(json.dumps(tree), str(path / CONFIG_FILE))
    try:
        params = unflatten_dict(load_file(path / WEIGHTS_FILE), sep="/")
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path / WEIGHTS_FILE}: {error}; fetch or export it again") from error
    words = path / VOCABULARY_FILE
    vocabulary = Vocabulary.load(words) if words.exists() else None
    dics = Dictionaries.load(path, config.model.dictionaries) if config.model.input == "words+characters" else None
    vocabulary = vocabulary if dics is None else dics.vocabulary()
    return Pretrained(config, params, vocabulary, str(path), mixes=mixes, about=about, dictionaries=dics)


def _description(model: Pretrained) -> dict[str, Any]:
    tree = dataclasses.asdict(model.config)
    return {
        "model_type": MODEL_TYPE,
        **{section: tree[section] for section in _SECTIONS},
        "data": {name: tree["data"][name] for name in _DATA_FIELDS},
        "mixes": [dataclasses.asdict(mix) for mix in model.mixes],
        "about": dict(model.about),
    }


def _read_json(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {file}: {error}; fetch or export it again") from error
    if not isinstance(tree, dict):
        raise UserError(f"{file} holds no object; fetch or export it again")
    return tree
