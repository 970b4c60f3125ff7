"""Multiply-adds of the model, counted from its configuration."""

import numpy as np

from elmo_jax.config import Model
from elmo_jax.model.clusters import Clusters, tail_dim


def encoder_macs(config: Model) -> int:
    """Multiply-adds of encoding one type: convolutions over all positions, highway layers, projection.

    0 for word input, which only looks up.
    """
    if config.input == "words":
        return 0
    cnn, sizes, p = config.char_cnn, config.dictionaries, config.lstm.projection_dim
    if config.input == "words+characters" and not sizes.n_characters:
        return sizes.word_dim * p
    f, e = cnn.n_filters, cnn.embedding.dim
    convolutions = sum((cnn.max_characters_per_token - w + 1) * w * e * n for w, n in cnn.filters)
    projection = (sizes.word_dim + f) * p if f != p or config.input == "words+characters" else 0
    return convolutions + cnn.n_highway * 2 * f * f + projection


def lstm_macs(config: Model) -> int:
    """Multiply-adds of one position in all directions."""
    lstm = config.lstm
    c, p = lstm.dim, lstm.projection_dim
    return len(config.directions) * lstm.n_layers * (2 * p * 4 * c + (c * p if c != p else 0))


def softmax_macs(config: Model, clusters: Clusters, counts: np.ndarray | None) -> int:
    """Expected multiply-adds of the training loss of one position in all directions; ``counts`` weigh the tails."""
    softmax, p, d = config.softmax, config.lstm.projection_dim, len(config.directions)
    if softmax.kind == "sampled":
        return d * p * min(softmax.n_negative_samples_batch, clusters.n_words)
    if softmax.kind == "full" or not clusters.tails:
        return d * p * clusters.n_words
    weights = np.ones(clusters.n_words) if counts is None else np.asarray(counts, np.float64)
    macs = float(p * (clusters.head + len(clusters.tails)))
    for k, (start, end) in enumerate(clusters.tails):
        dim = tail_dim(p, softmax.factor, k)
        macs += weights[start:end].sum() / weights.sum() * dim * (p + end - start)
    return round(d * macs)
