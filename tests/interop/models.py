"""Small pretrained models of every kind, with random weights."""

import dataclasses

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Model, Softmax
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.interop.leaf_shapes import shapes
from elmo_jax.interop.pretrained import Pretrained

WORDS = ["<S>", "</S>", "<UNK>", *(f"w{i}" for i in range(20)), "Māris", "表"]
VOCABULARY = Vocabulary(WORDS, range(len(WORDS), 0, -1), "unicode")

CNN = CharCNN(embedding=CharEmbedding(3), filters=((1, 4), (2, 5), (4, 2)), max_characters_per_token=9)
MODEL = Model(char_cnn=CNN, lstm=LSTM(dim=7, projection_dim=6), softmax=Softmax("adaptive", cutoffs=(8, 16)))
FULL = Softmax("full")

KINDS = {
    "adaptive": MODEL,
    "full, one layer, tanh": dataclasses.replace(
        MODEL, softmax=FULL, lstm=LSTM(7, 6, 1), char_cnn=dataclasses.replace(CNN, activation="tanh", n_highway=1)
    ),
    "sampled, three layers, P = C": dataclasses.replace(MODEL, softmax=Softmax("sampled"), lstm=LSTM(6, 6, 3)),
    "F = P, no clips, no skips": dataclasses.replace(
        MODEL, lstm=LSTM(13, 11, cell_clip=None, proj_clip=None, use_skip_connections=False)
    ),
    "forward only": dataclasses.replace(MODEL, bidirectional=False),
    "words": dataclasses.replace(MODEL, input="words"),
    "words, shared, forward only": dataclasses.replace(
        MODEL, input="words", softmax=FULL, share_embedding_softmax=True, bidirectional=False
    ),
}


def make(kind: str = "adaptive", seed: int = 0, vocabulary: Vocabulary | None = VOCABULARY, **changes) -> Pretrained:
    """A model of a kind; ``changes`` are fields of ``Pretrained``."""
    model = KINDS[kind]
    rng = np.random.default_rng(seed)
    leaves = {
        path: 0.5 * rng.standard_normal(shape).astype(np.float32)
        for path, shape in shapes(model, 1 if vocabulary is None else len(vocabulary)).items()
    }
    if vocabulary is None:
        leaves = {path: leaf for path, leaf in leaves.items() if not path.startswith("softmax/")}
    return Pretrained(Config(model=model), unflatten_dict(leaves, sep="/"), vocabulary, "random weights", **changes)


def leaves(model: Pretrained) -> dict[str, np.ndarray]:
    """Every leaf by its path."""
    return {path: np.asarray(leaf) for path, leaf in flatten_dict(model.params, sep="/").items()}
