"""Small language models with random weights, and the same in independent NumPy code."""

import numpy as np

from elmo_jax.config import Config, Softmax
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.interop import bilm_tf, pretrained_directory
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.model.bilm import smallest_inputs
from tests.model.parameters import random_parameters
from tests.reference.numpy_bilm import NumpyBiLM
from tests.train.small import MODEL, changed

WORDS = ["<S>", "</S>", "<UNK>", *(f"w{i}" for i in range(27))]
COUNTS = [40, 40, 5, *(1 + 300 // (i + 1) for i in range(27))]


def pretrained(counts=COUNTS, **changes):
    """A model over WORDS; without other changes it has an adaptive softmax with two tails."""
    config = Config(model=changed(MODEL, **changes))
    bare = Pretrained(config, {}, Vocabulary(WORDS, counts), "random weights")
    params = random_parameters(bare.model, *smallest_inputs(config.model), method="everything", scale=0.7)["params"]
    return Pretrained(config, params, bare.vocabulary, bare.origin)


def saved(path, model):
    """The model as a pretrained directory at ``path``."""
    pretrained_directory.save(path, model)
    return str(path)


FULL = {"softmax": Softmax("full")}


def reference(model):
    """The NumPy model of one with a full or sampled softmax, and that softmax: W, b."""
    config, params = model.config, model.params
    numpy_model = NumpyBiLM(bilm_tf.options(config, len(WORDS)), bilm_tf.datasets(params, config), WORDS)
    softmax = bilm_tf.softmax_datasets(params)
    return numpy_model, softmax["softmax/W"], softmax["softmax/b"]


def sentences(n=12, seed=0):
    """Sentences of zero to twelve words, some of which the vocabulary lacks."""
    rng = np.random.default_rng(seed)
    words = [*WORDS[3:], "other", "words"]
    return [list(rng.choice(words, rng.integers(0, 13))) for _ in range(n)]
