"""What a run directory knows of its weights, for their model card: the fields are those of interop/model_card.py."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from elmo_jax.config import Config
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.train.run_directory import RunDirectory

log = logging.getLogger(__name__)


def of_run(
    run: RunDirectory, config: Config, vocabulary: Vocabulary, step: int, meta: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of the weights of one checkpoint; what is not is absent.

    Args:
        run: its directory.
        config: of the run.
        vocabulary: of the run.
        step: of the checkpoint.
        meta: the JSON saved with it.
    """
    found = {
        "name": run.path.resolve().name,
        "text": _text(config),
        "tokens_seen": meta.get("report", {}).get("tokens"),
        "init_from": Path(config.init_from).name or None,
        "language": [config.data.language] if config.data.tokenizer == "moses" else None,
        "heldout": _heldout(run, step),
        **_size(config, vocabulary),
    }
    return {name: value for name, value in found.items() if value}


def _text(config: Config) -> str:
    """What the training text was, without the folders of this machine."""
    data = config.data
    if data.source == "pydoc":
        return "the documentation that Python carries"
    if data.source == "tfds":
        return f"{data.tfds.name}, split {data.tfds.train}, of TensorFlow Datasets"
    return ", ".join(Path(glob.strip()).name for glob in data.train.split(","))


def _size(config: Config, vocabulary: Vocabulary) -> dict[str, int]:
    """Tokens and sentences of the training text, when the counts of the vocabulary are of that text."""
    if vocabulary.counts is None or config.data.vocabulary or config.init_from:
        return {}
    sentences = int(vocabulary.counts[vocabulary.eos_id])
    boundaries = sentences + int(vocabulary.counts[vocabulary.bos_id])
    return {"text_tokens": int(vocabulary.counts.sum()) - boundaries, "text_sentences": sentences}


def _heldout(run: RunDirectory, step: int) -> list[dict[str, Any]]:
    """The perplexities of a step: on all held-out text if the run ended with it, else as measured while it trained."""
    summary = run.path / "summary.json"
    try:
        if summary.exists():
            ended = json.loads(summary.read_text(encoding="utf-8"))
            if ended["best_step"] == step:
                return list(ended["heldout"])
        if run.metrics.exists():
            return _measured(run.metrics, step)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: the perplexities cannot be read (%s: %s)", run.path, type(error).__name__, error)
    return []


def _measured(metrics: Path, step: int) -> list[dict[str, Any]]:
    with metrics.open(encoding="utf-8") as lines:
        entries = (json.loads(line) for line in lines if '"eval/perplexity"' in line)
        ours = [entry for entry in entries if entry["step"] == step]
    prefix = "eval/"
    # A run that went on after a crash may have measured a step twice; the later one counts.
    return [{k.removeprefix(prefix): v for k, v in entry.items() if k.startswith(prefix)} for entry in ours[-1:]]
