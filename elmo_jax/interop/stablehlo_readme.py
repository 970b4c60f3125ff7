"""The page beside StableHLO programs: what goes in and comes out, and code that runs them with JAX and NumPy alone."""

import json

import jax

from elmo_jax.config import Model

_LOAD = """\
from pathlib import Path

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

folder = Path({folder})
layers = jax.jit(export.deserialize((folder / "layers.stablehlo").read_bytes()).call)
weights = {{name: array for file in folder.glob("*.safetensors") for name, array in load_file(file).items()}}
weights = jax.device_put(weights)  # once: they stay on the device
"""

_CHARACTERS = '''\


def character_ids(sentences, width={width}):
    """UTF-8 bytes between marks, sentences between boundaries: int32 [b, t, width]."""
    ids = np.zeros((len(sentences), max(map(len, sentences)) + 2, width), np.int32)
    for row, sentence in zip(ids, sentences):
        words = [[256], *(list(word.encode("utf-8", "ignore")[: width - 2]) for word in sentence), [257]]
        for token, word in zip(row, words):
            token[:] = 260
            token[: len(word) + 2] = 258, *word, 259
        row[: len(words)] += 1  # 0 is left for "no token"
    return ids
'''

_WORDS = '''\


lines = (folder / "vocab.txt").read_text(encoding="utf-8").split("\\n")
number = {{word: line for line, word in enumerate(lines[:-1], 1)}}  # 0 is left for "no token"


def word_ids(sentences):
    """Lines of vocab.txt counted from 1, sentences between boundaries: int32 [b, t]."""
    ids = np.zeros((len(sentences), max(map(len, sentences)) + 2), np.int32)
    for row, sentence in zip(ids, sentences):
        words = ["<S>", *sentence, "</S>"]
        row[: len(words)] = [number.get(word, number["<UNK>"]) for word in words]
    return ids
'''

_RUN = """\


sentences = [["Every", "word", "has", "a", "vector", "."], ["Really", "?"]]
vectors = layers(weights, {ids}(sentences))
assert vectors.shape == (2, {layers}, 8, {width})  # sentences, layers, tokens with both boundaries, width
first = vectors[0, :, 1:7]  # of the words of the first sentence
"""

_LOG_PROBS = """\

log_probs = jax.jit(export.deserialize((folder / "log_probs.stablehlo").read_bytes()).call)
found = log_probs(weights, {ids}(sentences), word_ids(sentences))
assert found.shape == (2, {directions}, 8)  # sentences, directions, tokens with both boundaries
perplexity = np.exp(-found[0].sum(axis=-1) / 7)  # of the first sentence: six words and a boundary in each direction
"""


def text(config: Model, folder: str, *, log_probs: bool) -> str:
    """The page.

    Args:
        config: architecture.
        folder: name of the directory.
        log_probs: whether there is a program of log-probabilities.
    """
    characters = config.input == "characters"
    needs_words = log_probs or not characters
    facts = {
        "folder": json.dumps(folder),
        "width": config.lstm.projection_dim * len(config.directions),
        "layers": config.lstm.n_layers + 1,
        "directions": len(config.directions),
        "ids": "character_ids" if characters else "word_ids",
    }
    code = [
        _LOAD.format(**facts),
        _CHARACTERS.format(width=config.token_width) if characters else "",
        _WORDS.format() if needs_words else "",
        _RUN.format(**facts),
        _LOG_PROBS.format(**facts) if log_probs else "",
    ]
    return _PAGE.format(
        **facts,
        title=folder,
        jax=jax.__version__,
        inputs=_INPUT_CHARACTERS.format(width=config.token_width) if characters else _INPUT_WORDS,
        log_probs=_TABLE_LOG_PROBS.format(**facts) if log_probs else "",
        code="".join(code),
    )


_INPUT_CHARACTERS = "`ids` int32 [b, t, {width}]: 1 to 261 as bilm-tf and `batch_to_ids` number characters, 0: no token"
_INPUT_WORDS = "`ids` int32 [b, t]: lines of `vocab.txt` counted from 1, 0: no token"
_TABLE_LOG_PROBS = """\
| `log_probs.stablehlo` | `weights`, `ids`, `words` int32 [b, t]: lines of `vocab.txt` counted from 1, 0: no token | \
float32 [b, {directions}, t]: natural logarithm of the probability of each word from all before it and, with a second \
direction, from all after it; 0 where nothing is predicted: the boundary that a direction starts with, and no token |
"""

_PAGE = """\
# {title}: an ELMo as StableHLO

Programs of `jax.export` for the CPU, CUDA and TPUs. They run with the packages jax, numpy, safetensors and flatbuffers;
the program that trained the model is not needed.

| file | takes | gives |
|---|---|---|
| `layers.stablehlo` | `weights`, {inputs} | float32 [b, {layers}, t, {width}]: the token encodings and \
the LSTM layers; zeros where there is no token |
{log_probs}
`weights` is the dictionary of all tensors in the safetensors files. b and t are any numbers from 1; each new pair of
them compiles anew, so pad sentences to few lengths: padding changes no vector. Every sentence stands between `<S>` and
`</S>`, which have vectors too, and starts from the zero state. The products are float32 on every device.

```python
{code}```

The programs were made with jax {jax}. JAX promises to read them for six months of later versions; make them anew
(`elmo export MODEL DIR --format stablehlo`) from the model after that.
"""
