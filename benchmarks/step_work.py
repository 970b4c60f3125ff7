"""The work of a training step: its multiply-adds, and the products it consists of."""

from dataclasses import dataclass, replace

import numpy as np

from elmo_jax.config import CharCNN, Model
from elmo_jax.data.characters import PAD
from elmo_jax.model import cost
from elmo_jax.model.clusters import Clusters, tail_dim

# A forward product has two of the same size in the backward pass: for its input and for its weights.
TRAINING = 3


@dataclass(frozen=True)
class Work:
    """A batch as the counts see it.

    Attributes:
        model: architecture.
        clusters: of the softmax.
        counts: int ``[V]`` of the words, or None.
        batch: rows, B.
        unroll: positions of a window, T.
        n_types: distinct types of the batch.
        lengths: int ``[n_types]`` characters of each, marks included; empty without characters.
    """

    model: Model
    clusters: Clusters
    counts: np.ndarray | None
    batch: int
    unroll: int
    n_types: int
    lengths: np.ndarray

    @property
    def tokens(self) -> int:
        """Positions of a direction."""
        return self.batch * self.unroll

    def useful_flop(self) -> float:
        """Operations of a step as the model is defined, each distinct type encoded once, over all its positions."""
        macs = self.n_types * cost.encoder_macs(self.model)
        return 2 * TRAINING * (macs + self.tokens * (cost.lstm_macs(self.model) + self._softmax_macs()))

    def needed_flop(self) -> float:
        """The same with the convolutions of a type only where its characters, or one window after them, are."""
        cnn = self.model.char_cnn
        saved = self.n_types * convolution_macs(cnn, np.array([cnn.max_characters_per_token]))
        return self.useful_flop() - 2 * TRAINING * (saved - convolution_macs(cnn, self.lengths))

    def _softmax_macs(self) -> int:
        return cost.softmax_macs(self.model, self.clusters, self.counts)


def lengths(types_UC: np.ndarray) -> np.ndarray:
    """Characters of each type, marks included."""
    return (types_UC != PAD).sum(axis=1)


def convolution_macs(cnn: CharCNN, lengths: np.ndarray) -> int:
    """Multiply-adds of the convolutions over windows that hold a character, and one of padding where there is any."""
    e, c = cnn.embedding.dim, cnn.max_characters_per_token
    windows = {w: np.minimum(lengths + 1, c - w + 1).sum() for w, _ in cnn.filters}
    return int(sum(windows[w] * w * e * n for w, n in cnn.filters))


@dataclass(frozen=True)
class Product:
    """``batch`` products of ``[m, k]`` and ``[k, n]``, ``times`` times in a step."""

    part: str
    m: int
    k: int
    n: int
    batch: int = 1
    times: float = 1.0

    @property
    def flop(self) -> float:
        """Operations of all of them."""
        return 2.0 * self.batch * self.m * self.k * self.n * self.times


def products(work: Work, chunk: int = 256) -> list[Product]:
    """The products of a step, forward and backward.

    Args:
        work: the batch.
        chunk: types that the encoder takes at a time.
    """
    return [*encoder_products(work, chunk), *lstm_products(work), *softmax_products(work)]


def encoder_products(work: Work, chunk: int) -> list[Product]:
    """Convolutions as products of windows and kernels, highway layers and projection, a chunk of types at a time."""
    cnn, p = work.model.char_cnn, work.model.lstm.projection_dim
    if work.model.input != "characters" or not work.n_types:
        return []
    f, rows, e = cnn.n_filters, min(chunk, work.n_types), cnn.embedding.dim
    times = work.n_types / rows
    windows = np.mean(work.lengths) + 1
    convolutions = [Product("encoder", round(rows * windows), w * e, n, 1, times) for w, n in cnn.filters]
    highway = Product("encoder", rows, f, f, 1, times * 2 * cnn.n_highway)
    projection = [Product("encoder", rows, f, p, 1, times)] if f != p else []
    return [part for forward in (*convolutions, highway, *projection) for part in trained(forward)]


def lstm_products(work: Work) -> list[Product]:
    """Inputs of all steps at once, recurrence and projection step by step, weight gradients over all steps."""
    lstm, d, b, t = work.model.lstm, len(work.model.directions), work.batch, work.unroll
    c, p, layers, n = lstm.dim, lstm.projection_dim, lstm.n_layers, work.tokens
    inputs = [Product("lstm inputs", n, p, 4 * c, d, layers), Product("lstm inputs", n, 4 * c, p, d, layers)]
    steps = [Product("recurrence", b, p, 4 * c, d, layers * t), Product("recurrence", b, 4 * c, p, d, layers * t)]
    weights = [Product("lstm weights", p, n, 4 * c, d, 2 * layers)]
    if c != p:
        steps += [Product("projection", b, c, p, d, layers * t), Product("projection", b, p, c, d, layers * t)]
        weights.append(Product("lstm weights", c, n, p, d, layers))
    return [*inputs, *steps, *weights]


def softmax_products(work: Work) -> list[Product]:
    """Logits of all rows that a cluster has, and their gradients."""
    model, clusters, d, n = work.model, work.clusters, len(work.model.directions), work.tokens
    p, softmax = model.lstm.projection_dim, model.softmax
    if softmax.kind == "sampled":
        return trained(Product("softmax", n, p, min(softmax.n_negative_samples_batch, clusters.n_words), d))
    if softmax.kind == "full" or not clusters.tails:
        return trained(Product("softmax", d * n, p, clusters.n_words))
    head = trained(Product("softmax", d * n, p, clusters.head + len(clusters.tails)))
    weights = np.ones(clusters.n_words) if work.counts is None else np.asarray(work.counts, np.float64)
    for k, (start, end) in enumerate(clusters.tails):
        rows, dim = d * n * weights[start:end].sum() / weights.sum(), tail_dim(p, softmax.factor, k)
        whole = max(1, round(rows))
        for forward in (Product("softmax", whole, p, dim), Product("softmax", whole, dim, end - start)):
            head += trained(replace(forward, times=rows / whole))
    return head


def trained(forward: Product) -> list[Product]:
    """A product, that for the gradient of its input, and that for the gradient of its weights."""
    backward = replace(forward, k=forward.n, n=forward.k)
    return [forward, backward, replace(forward, m=forward.k, k=forward.m)]
