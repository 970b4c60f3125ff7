"""Sentences as the arrays that the model reads."""

import numpy as np

from elmo_jax.data.characters import PAD, character_ids


def arrays(sentences, width, *, room=None, words=None, n_directions=2):
    """Characters of the distinct types and, for each row ``<S> w1 .. wm </S>``, indices, resets and masks.

    The backward row is reversed within its own length, so that padding stays at its end. ``room`` is (types, positions)
    to pad to, so that several batches share a compiled program. With ``words``, a vocabulary, the types are word ids.
    """
    rows = [["<S>", *tokens, "</S>"] for tokens in sentences]
    if words is not None:
        rows = [[token if token in words else "<UNK>" for token in row] for row in rows]
    types = sorted({token for row in rows for token in row})
    number = {token: i for i, token in enumerate(types)}
    n_types, longest = room or (len(types), max(map(len, rows)))
    index = np.zeros((2, longest, len(rows)), np.int32)
    keep = np.zeros((longest, len(rows)), bool)
    for b, row in enumerate(rows):
        ids = [number[token] for token in row]
        index[0, : len(row), b], index[1, : len(row), b] = ids, ids[::-1]
        keep[: len(row), b] = True
    if words is None:
        table = np.full((n_types, width), PAD, np.uint16)
        table[: len(types)] = character_ids(types, width)
    else:
        table = np.zeros(n_types, np.int32)
        table[: len(types)] = [words.index(word) for word in types]
    return table, np.int32(len(types)), index[:n_directions], np.zeros_like(keep), keep


def in_text_order(layers, sentences):
    """Per sentence ``[n_layers + 1, T, D P]``: the directions side by side, boundaries included."""
    found = []
    for b, tokens in enumerate(sentences):
        n = len(tokens) + 2
        directions = [np.stack([layer[0, :n, b] for layer in layers])]
        if len(layers[0]) == 2:
            directions.append(np.stack([layer[1, :n, b][::-1] for layer in layers]))
        found.append(np.concatenate(directions, axis=-1))
    return found
