"""``options.json`` of bilm-tf, read: the configuration of a model (ELMO_SPEC 2.10). ``bilm_tf.options`` is the inverse.

Keys that decide nothing here are left alone. Nothing in the file is trusted: what is wrong is named before anything of
the size that it declares is made.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elmo_jax import config_io
from elmo_jax.config import Config
from elmo_jax.errors import UserError

# Published ones are below 1,000 bytes.
MAX_BYTES = 1 << 20
# No number in it is nearly as large, and none of its words as long.
MAX_NUMBER, MAX_TEXT = 2**31, 100
# 261 while bilm-tf trains, one more for inference: a constant of the encoding, not of a model.
N_CHARACTERS = (261, 262)


def read(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        UserError: when it cannot be read, or holds something else.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UserError(f"{file} has more than {MAX_BYTES:,} bytes: that is no options.json; name the right one")
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror or error}; give the options.json of the model") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not valid JSON ({error}); fetch it again or mend it") from error
    if not isinstance(tree, dict):
        raise UserError(f"{file} holds no JSON object; give the options.json of the model")
    return tree


def config_of(options: Mapping[str, Any], source: str) -> Config:
    """The configuration of the model that ``options`` describe, and of its training as far as they tell.

    A key that is missing means what bilm-tf takes it for: one layer, no clip, no highway, no skip connections; of its
    training, our defaults.

    Args:
        options: the content of ``options.json``.
        source: what to call it in errors.

    Raises:
        UserError: naming the key, its value and the rule.
    """
    top = _Options(options, source)
    cnn = top.group("char_cnn") if "char_cnn" in top else None
    lstm = top.group("lstm")
    model: dict[str, Any] = {
        "input": "words" if cnn is None else "characters",
        "lstm": {
            "dim": lstm.value("dim"),
            "projection_dim": lstm.value("projection_dim"),
            "n_layers": lstm.value("n_layers", 1),
            "cell_clip": lstm.value("cell_clip", None),
            "proj_clip": lstm.value("proj_clip", None),
            "use_skip_connections": lstm.value("use_skip_connections", False),
        },
        "softmax": _softmax(top),
        **top.values("bidirectional", "dropout"),
    }
    if cnn is None:
        model |= top.values("share_embedding_softmax")
    else:
        model["char_cnn"] = _char_cnn(cnn)
    tree = {
        "model": model,
        "train": top.values("n_epochs", "batch_size", "unroll_steps"),
        "optimizer": top.values("all_clip_norm_val"),
    }
    return config_io.from_json(json.dumps(tree), source)


def about(options: Mapping[str, Any]) -> dict[str, Any]:
    """What options tell of a model that is no part of a configuration: the tokens it was trained on."""
    n_tokens = options.get("n_train_tokens")
    return {"tokens": n_tokens} if type(n_tokens) is int and n_tokens > 0 else {}


def _char_cnn(cnn: "_Options") -> dict[str, Any]:
    n_characters = cnn.value("n_characters", N_CHARACTERS[-1])
    if n_characters not in N_CHARACTERS:
        raise UserError(
            f"{cnn.source}: {cnn.path}n_characters is {n_characters!r}: it must be 261 or 262, the 256 bytes and the "
            "marks of every ELMo; a model of other characters cannot be read"
        )
    return {
        "activation": cnn.value("activation"),
        "filters": cnn.pairs("filters"),
        "n_highway": cnn.value("n_highway", 0),
        "embedding": {"dim": cnn.group("embedding").value("dim")},
        "max_characters_per_token": cnn.value("max_characters_per_token"),
    }


def _softmax(options: "_Options") -> dict[str, Any]:
    """Full and sampled differ in training alone."""
    negatives = options.values("n_negative_samples_batch")
    if not negatives or options.value("sample_softmax", True) is False:
        return {"kind": "full"}
    return {"kind": "sampled", **negatives}


class _Options:
    """An object of the file, and the path to it."""

    def __init__(self, tree: Mapping[str, Any], source: str, path: str = "") -> None:
        self.tree, self.source, self.path = tree, source, path

    def __contains__(self, name: str) -> bool:
        """Null is no value: bilm-tf takes it for a key that is missing."""
        return self.tree.get(name) is not None

    def group(self, name: str) -> "_Options":
        tree = self._get(name)
        if not isinstance(tree, dict):
            raise self._refusal(name, "is no object; mend it, or give the options.json of the model")
        return _Options(tree, self.source, f"{self.path}{name}.")

    def value(self, name: str, *default: Any) -> Any:
        """A number, a word, a truth value or null; what it must be besides is for ``Config`` to say."""
        value = default[0] if default and name not in self else self._get(name)
        self._check(name, value)
        return value

    def values(self, *names: str) -> dict[str, Any]:
        """The values of those keys that are there."""
        return {name: self.value(name) for name in names if name in self}

    def pairs(self, name: str) -> list[Any]:
        """A list of lists of numbers."""
        pairs = self._get(name)
        if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise self._refusal(name, "is no list of (width, number) pairs, such as [[1, 32], [2, 32]]; mend it")
        for number in (number for pair in pairs for number in pair):
            self._check(name, number)
        return pairs

    def _get(self, name: str) -> Any:
        if name not in self:
            raise self._refusal(name, "is missing; add it, or give the options.json of the model")
        return self.tree[name]

    def _check(self, name: str, value: Any) -> None:
        if isinstance(value, dict | list):
            kind = "an object" if isinstance(value, dict) else "a list"
            raise self._refusal(name, f"is {kind}, and must be one value; mend it")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise self._refusal(name, f"is text of {len(value):,} characters; mend it")
        if isinstance(value, int) and abs(value) >= MAX_NUMBER:
            raise self._refusal(name, f"is a number of {len(str(abs(value)))} digits: it must be below 2^31; mend it")

    def _refusal(self, name: str, rule: str) -> UserError:
        return UserError(f"{self.source}: {self.path}{name} {rule}")
