"""A run directory describes itself: every tool takes that one path. It holds::

    config.json     the configuration, with everything that was chosen by the program filled in
    vocab.txt       the vocabulary, with vocab.counts.txt and vocab.tokenizer.txt
    checkpoints/    the newest ones and the best one
    metrics.jsonl   one line per logging interval and per evaluation
    export/         weights for other programs, written when training is complete
    summary.json    how the run ended
    lock            while a process trains here: which one (train/run_lock.py)

Everything in it is written by the program.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from elmo_jax import config_io
from elmo_jax.config import Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError

# What may differ between a run and its continuation: steps, intervals, devices, memory, and where files lie (the texts
# and the vocabulary themselves must be the same). The rest decides what is learnt, or which checkpoint is the best.
CHANGEABLE = (
    "run_dir",
    "compilation_cache",
    "init_from",
    "train.n_epochs",
    "train.n_steps",
    "train.gradient_accumulation",
    "train.recompute_gates",
    "parallel",
    "evaluation.every_steps",
    "evaluation.patience",
    "checkpoint",
    "watch",
    "log_every_steps",
    "debug",
    "data.train",
    "data.heldout",
    "data.vocabulary",
    "data.tfds",
    "data.cache_dir",
)

# What a run that was stopped before its config.json was complete leaves behind.
BEGUN = re.compile(r"lock|vocab\.((counts|tokenizer)\.)?txt(\.[0-9a-f]{8})?|config\.json\.tmp")


class RunDirectory:
    """The files of a run.

    Args:
        path: the directory; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.json"
        self.vocabulary_file = path / "vocab.txt"
        self.checkpoints = path / "checkpoints"
        self.metrics = path / "metrics.jsonl"
        self.export = path / "export"

    @property
    def exists(self) -> bool:
        """Whether a run has begun here."""
        return self.config_file.is_file()

    @property
    def has_checkpoint(self) -> bool:
        """Whether the run has learnt something; until then it may begin anew under another configuration."""
        return self.exists and any(path.name.isdecimal() for path in self.checkpoints.glob("*"))

    def config(self) -> Config:
        """The configuration of the run.

        Raises:
            UserError: when this is no run directory.
        """
        return config_io.load(self.path)

    def vocabulary(self) -> Vocabulary:
        """The vocabulary of the run.

        Raises:
            UserError: when it is missing or damaged.
        """
        if self.exists and not self.vocabulary_file.exists():
            raise UserError(f"{self.vocabulary_file} is missing; put a copy back, or start a new run directory")
        return Vocabulary.load(self.vocabulary_file)

    def check_free(self) -> None:
        """Refuse a directory that holds something else than a run, or that cannot be made or written.

        Raises:
            UserError: when there are files but no run, the path is not a directory, or it is read-only.
        """
        if self.exists:
            return
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file: config.run_dir must name a directory")
        nearest = next(p for p in (self.path, *self.path.absolute().parents) if p.exists())
        if not nearest.is_dir() or not os.access(nearest, os.W_OK):
            reason = "is not writable" if nearest.is_dir() else "is a file"
            raise UserError(
                f"cannot write the run directory {self.path}: {nearest} {reason}; choose another with "
                "--config.run_dir=..."
            )
        names = sorted(p.name for p in self.path.iterdir()) if self.path.exists() else []
        strangers = [name for name in names if not BEGUN.fullmatch(name)]
        if strangers:
            raise UserError(
                f"{self.path} holds {strangers[0]!r} but no config.json: it is not a run directory; "
                "choose another with --config.run_dir=..."
            )

    def check_same(self, config: Config) -> None:
        """Refuse to continue a run that has a checkpoint under a configuration that would learn something else.

        Args:
            config: with everything chosen filled in, like the one saved.

        Raises:
            UserError: naming the first field that differs.
        """
        if not self.has_checkpoint:
            return
        for path, old, new in differences(self.config(), config):
            if not any(path == name or path.startswith(name + ".") for name in CHANGEABLE):
                raise UserError(
                    f"{self.path} belongs to a run with config.{path} = {old!r}, but this command has {new!r}; "
                    f"give the same value to continue it, or another --config.run_dir to start anew"
                )

    def check_goes_on(self, step: int, until: int, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Refuse to go on from a checkpoint to fewer steps, or with other text or words.

        Args:
            step: of the checkpoint.
            until: steps that are asked for.
            saved: what was saved with the checkpoint.
            now: the identity of what this command reads (``Inputs.identity``).

        Raises:
            UserError: naming the steps, or what has changed.
        """
        if step > until:
            raise UserError(
                f"{self.path} has done {step} steps, and this command asks for {until}: "
                f"raise --config.train.n_steps (or n_epochs), or choose another --config.run_dir"
            )
        for name, value in now.items():
            if saved[name] != value:
                raise UserError(
                    f"the {name} of {self.path} has changed since step {step} ({saved[name]}, now {value}): a run goes "
                    f"on with the same {name}; restore it, or start a new run with --config.run_dir=... "
                    f"--config.init_from={self.path}"
                )

    def create(self, config: Config, vocabulary: Vocabulary) -> None:
        """Write the configuration (last: it marks a run as begun) and, until there is a checkpoint, the vocabulary.

        Raises:
            UserError: when the directory cannot be written, or holds another vocabulary but no run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.exists:
                self._refuse_other_vocabulary(vocabulary)
            if not self.has_checkpoint:
                vocabulary.save(self.vocabulary_file)
            text = config_io.to_json(config)
            if not (self.exists and self.config_file.read_text(encoding="utf-8") == text):
                self._replace_config(text)
        except OSError as error:
            raise UserError(
                f"cannot write the run directory {self.path}: {error.strerror or error}; "
                "free space there or choose another with --config.run_dir=..."
            ) from error

    def _refuse_other_vocabulary(self, vocabulary: Vocabulary) -> None:
        """A vocabulary made by hand is not overwritten; that of a run that was stopped just here is the same."""
        if self.vocabulary_file.exists() and self.vocabulary().digest() != vocabulary.digest():
            raise UserError(
                f"{self.vocabulary_file} is another vocabulary than that of this run, which would replace it: use it "
                f"with --config.data.vocabulary={self.vocabulary_file}, or choose another --config.run_dir"
            )

    def _replace_config(self, text: str) -> None:
        temporary = self.config_file.with_suffix(".json.tmp")
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.config_file)
        finally:
            temporary.unlink(missing_ok=True)


def differences(old: Any, new: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Dotted path, old and new value of every field in which two configurations differ."""
    found = []
    for field in fields(old):
        a, b = getattr(old, field.name), getattr(new, field.name)
        here = f"{path}.{field.name}" if path else field.name
        if is_dataclass(a):
            found += differences(a, b, here)
        elif a != b:
            found.append((here, a, b))
    return found
