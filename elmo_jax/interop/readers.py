"""The kinds of models that can be read, and which of them a path holds.

A reader is a module with ``recognises(path) -> bool``, which is quick and raises nothing, and ``load(path) ->
Pretrained``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from elmo_jax.errors import UserError
from elmo_jax.interop import (
    allennlp_archive,
    bilm_tf_reading,
    elmo_for_many_langs,
    pretrained_directory,
    tf_checkpoint,
)
from elmo_jax.interop.pretrained import Pretrained


class Module(Protocol):
    """What a reader has."""

    def recognises(self, path: Path) -> bool:
        """Whether there may be such a model at ``path``."""

    def load(self, path: Path) -> Pretrained:
        """The model at ``path``."""


@dataclass(frozen=True)
class Reader:
    """One kind of models.

    Attributes:
        kind: in words.
        module: reads it.
        takes: what else ``load`` can be told by name, such as files that do not lie with the model.
    """

    kind: str
    module: Module
    takes: frozenset[str] = frozenset()

    def load(self, path: Path, **told: Path | str) -> Pretrained:
        """The model at ``path``, by what is told besides.

        Raises:
            UserError: when it is damaged, or has no use for what is told.
        """
        if useless := sorted(set(told) - self.takes):
            raise UserError(f"{path} is {self.kind}, which takes no {useless[0]} of its own; leave that out")
        return self.module.load(path, **told)


# Read wherever a model path is taken, beside runs.
DIRECT = (
    Reader("a pretrained directory", pretrained_directory),
    Reader("a model in files of bilm-tf", bilm_tf_reading, frozenset({"options", "softmax", "vocabulary"})),
)
# Read by `elmo import` alone: they need other libraries, or hold what has to be looked at with care.
IMPORTED = (
    Reader("a TensorFlow checkpoint of bilm-tf", tf_checkpoint, frozenset({"options", "vocabulary"})),
    Reader("a model of ELMoForManyLangs", elmo_for_many_langs),
    Reader("a model of AllenNLP", allennlp_archive, frozenset({"elmo"})),
)

LOOKED_FOR = (
    "a run (config.json, checkpoints/), a pretrained directory (model.safetensors) or files of bilm-tf or AllenNLP "
    "(weights.hdf5, options.json, or a zip of them)"
)
IMPORTABLE = "TensorFlow checkpoints, AllenNLP archives (.th, .tar.gz) and folders of ELMoForManyLangs"


def of(path: Path, readers: Iterable[Reader]) -> Reader | None:
    """The first of ``readers`` that recognises what is at ``path``."""
    return next((reader for reader in readers if reader.module.recognises(path)), None)


def no_model(path: Path) -> UserError:
    """The error for a path that no reader of ``DIRECT`` recognises."""
    if not path.exists():
        return UserError(f"there is no {path}: give {LOOKED_FOR}")
    if any(path.glob("*.stablehlo")):
        return UserError(
            f"{path} holds programs, which its README.md says how to run; name the model they were made of"
        )
    if reader := of(path, IMPORTED):
        return UserError(f"{path} is {reader.kind}: make a pretrained directory of it: elmo import {path} DIRECTORY")
    return UserError(f"{path} is no model: it is not {LOOKED_FOR}; elmo import reads {IMPORTABLE}")
