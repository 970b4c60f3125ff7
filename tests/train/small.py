"""Small runs on small text, for the tests of training."""

import dataclasses
from pathlib import Path

import numpy as np

from elmo_jax.config import (
    LSTM,
    PUBLISHED_OPTIMIZER,
    CharCNN,
    CharEmbedding,
    Checkpoint,
    Config,
    Data,
    Evaluation,
    Model,
    Softmax,
    Train,
)

MODEL = Model(
    char_cnn=CharCNN(embedding=CharEmbedding(4), filters=((1, 4), (2, 8)), max_characters_per_token=10, n_highway=1),
    lstm=LSTM(dim=8, projection_dim=6),
    softmax=Softmax("adaptive", cutoffs=(8, 20)),
    dropout=0.2,
)


def write_text(path: Path, sentences: int = 200, seed: int = 0) -> Path:
    """Sentences of random length over thirty words whose frequencies fall like Zipf's."""
    rng = np.random.default_rng(seed)
    law = 1 / np.arange(1, 31)
    words = [f"w{'abc'[i % 3] * (i // 3 + 1)}" for i in range(30)]
    lines = (" ".join(rng.choice(words, rng.integers(1, 12), p=law / law.sum())) for _ in range(sentences))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def config(folder: Path, **changes) -> Config:
    """A run of twelve steps in ``folder/run`` on text in ``folder``; ``changes`` are fields of its groups."""
    for name, seed in (("train.txt", 0), ("heldout.txt", 1)):
        if not (folder / name).exists():
            write_text(folder / name, 200 if seed == 0 else 30, seed)
    base = Config(
        run_dir=str(folder / "run"),
        model=MODEL,
        data=Data(
            train=str(folder / "train.txt"), heldout=str(folder / "heldout.txt"), cache_dir=str(folder / "encoded")
        ),
        train=Train(batch_size=8, unroll_steps=5, n_steps=12),
        optimizer=PUBLISHED_OPTIMIZER,
        evaluation=Evaluation(every_steps=6, streams=4),
        checkpoint=Checkpoint(every_steps=4),
        log_every_steps=3,
    )
    return changed(base, **changes)


def changed(base: Config, **changes) -> Config:
    """A copy with other values: ``changed(c, train={"seed": 1}, run_dir="x")``."""
    values = {
        name: dataclasses.replace(getattr(base, name), **value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return dataclasses.replace(base, **values)
