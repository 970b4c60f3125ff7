"""Output distributions over the vocabulary: adaptive (Grave et al. 2017), full, and sampled (as in bilm-tf).

All three have a training loss, exact log-probabilities of given words and the whole exact distribution. One output
layer serves all directions. Sums and results are float32. A training loss is a weighted sum over positions, so that its
gradient can be had with it, while the logits are there (``cross_entropy``).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from elmo_jax import config as configuration
from elmo_jax.model.clusters import Clusters, tail_dim
from elmo_jax.model.compact import compact, weighted_sum
from elmo_jax.model.cross_entropy import chunk_and_block, linear_cross_entropy
from elmo_jax.model.initializers import normal, zeros
from elmo_jax.model.products import product, product_t
from elmo_jax.model.word_table import WordEncoder

# Chunks in which the positions of a tail are projected to its width: this many.
PROJECTIONS = 32


class FullSoftmax(nn.Module):
    """``softmax(h W^T + b)``.

    Attributes:
        n_words: V.
        width: P.
        dtype: of the products.
        shared: the encoder whose table of words is W too (Press and Wolf 2017); None for a W of its own.
    """

    n_words: int
    width: int
    dtype: Any = jnp.float32
    shared: WordEncoder | None = None

    def setup(self) -> None:
        if self.shared is None:
            self.kernel = self.param("kernel", normal(self.width), (self.n_words, self.width))
        else:
            self.kernel = self.shared.embedding
        self.bias = self.param("bias", zeros, (self.n_words,))

    def loss(
        self, hidden_DNP: jax.Array, target_DN: jax.Array, weight_DN: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The training loss.

        Args:
            hidden_DNP: hidden vectors.
            target_DN: int32, words to predict.
            weight_DN: float32, factors of the positions; no gradient flows to them.
            key: not used.

        Returns:
            The weighted sum of the losses of all positions, float32, and these, float32 ``[D, N]``, in nats. Only the
            sum has gradients.
        """
        hidden_NP, target_N, weight_N = hidden_DNP.reshape(-1, self.width), target_DN.ravel(), weight_DN.ravel()
        total, nll_N = linear_cross_entropy(hidden_NP, self.kernel, self.bias, target_N, weight_N)
        return total, nll_N.reshape(target_DN.shape)

    def log_prob(self, hidden_DNP: jax.Array, target_DN: jax.Array) -> jax.Array:
        """Exact log-probability of every target, float32 ``[D, N]``; it has no gradient."""
        return -FullSoftmax.loss(self, hidden_DNP, target_DN, jnp.ones(target_DN.shape))[1]

    def log_probs(self, hidden_NP: jax.Array) -> jax.Array:
        """Log-probability of every word, float32 ``[N, V]``."""
        return jax.nn.log_softmax(_linear(hidden_NP, self.kernel, self.bias))


class SampledSoftmax(FullSoftmax):
    """A full softmax trained on the target and a few words drawn per direction and step.

    Words are drawn without replacement from the log-uniform law ``P(k) = log((k + 2) / (k + 1)) / log(V + 1)``, which
    suits a vocabulary sorted by count, by Gumbel top-k. True and drawn logits are lowered by the logarithm of the
    probability that a word is drawn, ``1 - (1 - P)^tries`` with ``tries`` such that these sum to the number drawn
    (TensorFlow's expected count); 0 when every word is drawn. A drawn word that is the target is left out.

    Attributes:
        n_samples: words drawn; at most V are.
    """

    n_samples: int = 8192

    def loss(
        self, hidden_DNP: jax.Array, target_DN: jax.Array, weight_DN: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """As that of the full softmax; ``key`` draws the words."""
        if key is None:
            raise ValueError("the sampled softmax needs a random key for its training loss")
        keys = jax.random.split(key, target_DN.shape[0])
        losses = [self._loss(*x) for x in zip(hidden_DNP, target_DN, weight_DN, keys, strict=True)]
        totals, nll_DN = zip(*losses, strict=True)
        return jnp.stack(totals).sum(), jnp.stack(nll_DN)

    def _loss(
        self, hidden_NP: jax.Array, target_N: jax.Array, weight_N: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        n_samples, n = min(self.n_samples, self.n_words), len(target_N)
        law_V = jnp.log(jnp.log1p(1 / (jnp.arange(self.n_words) + 1.0)) / math.log(self.n_words + 1))
        _, drawn_S = jax.lax.top_k(law_V + jax.random.gumbel(key, (self.n_words,)), n_samples)
        offset_V = self.bias - log_inclusion(law_V, n_samples)
        kernel_NP = self.kernel[target_N].astype(self.dtype)
        true_N = (hidden_NP * kernel_NP).sum(axis=-1, dtype=jnp.float32) + offset_V[target_N]
        drawn = {"kernel_PS": self.kernel[drawn_S].T, "bias_S": offset_V[drawn_S], "word_S": drawn_S}
        rows = {"hidden_NP": hidden_NP, "true_N": true_N, "target_N": target_N}
        chunk, _ = chunk_and_block(n, n_samples)
        return weighted_sum(_sampled_nll, drawn, rows, jax.lax.stop_gradient(weight_N), jnp.int32(n), chunk)


class AdaptiveSoftmax(nn.Module):
    """A head of frequent words and, for each cluster of rarer ones, one head entry and a narrower softmax.

    Attributes:
        clusters: sizes.
        width: P.
        factor: the k-th tail (0 first) has width ``P / factor^(k + 1)``.
        dtype: of the products.
    """

    clusters: Clusters
    width: int
    factor: float = 4.0
    dtype: Any = jnp.float32

    def setup(self) -> None:
        n_head = self.clusters.head + len(self.clusters.tails)
        self.head_kernel = self.param("head_kernel", normal(self.width), (n_head, self.width))
        self.head_bias = self.param("head_bias", zeros, (n_head,))
        self.tails = [self._tail(k, end - start) for k, (start, end) in enumerate(self.clusters.tails)]

    def _tail(self, k: int, n_words: int) -> dict[str, jax.Array]:
        dim = tail_dim(self.width, self.factor, k)
        return {
            "projection": self.param(f"tail_{k}_projection", normal(self.width), (self.width, dim)),
            "kernel": self.param(f"tail_{k}_kernel", normal(dim), (n_words, dim)),
            "bias": self.param(f"tail_{k}_bias", zeros, (n_words,)),
        }

    def loss(
        self, hidden_DNP: jax.Array, target_DN: jax.Array, weight_DN: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """As that of the full softmax, exactly normalised; ``key`` is not used."""
        target_N, n = target_DN.ravel(), target_DN.size
        cluster_N = (target_N[:, None] >= jnp.array([start for start, _ in self.clusters.tails], int)).sum(axis=1)
        # Positions in the order of their clusters: those of a tail are one range.
        order_N = jnp.argsort(cluster_N) if self.tails else jnp.arange(n)
        place_N = jnp.zeros_like(order_N).at[order_N].set(jnp.arange(n), unique_indices=True)
        hidden_NP = _permuted(hidden_DNP.reshape(-1, self.width), order_N, place_N)
        target_N, cluster_N, weight_N = (x[order_N] for x in (target_N, cluster_N, weight_DN.ravel()))
        head_N = jnp.where(cluster_N == 0, target_N, self.clusters.head + cluster_N - 1)
        total, nll_N = linear_cross_entropy(hidden_NP, self.head_kernel, self.head_bias, head_N, weight_N)
        for k, (start, _) in enumerate(self.clusters.tails):
            rows = (cluster_N == k + 1).sum(dtype=jnp.int32), (cluster_N <= k).sum(dtype=jnp.int32)
            tail = self.tails[k]
            inner_NQ = compact(_project, tail["projection"], hidden_NP, rows[0], -(-n // PROJECTIONS), rows[1])
            inner = inner_NQ, tail["kernel"], tail["bias"], target_N - start, weight_N
            tail_total, tail_N = linear_cross_entropy(*inner, *rows)
            total, nll_N = total + tail_total, nll_N + tail_N
        return total, nll_N[place_N].reshape(target_DN.shape)

    def log_prob(self, hidden_DNP: jax.Array, target_DN: jax.Array) -> jax.Array:
        """Exact log-probability of every target, float32 ``[D, N]``; it has no gradient."""
        return -self.loss(hidden_DNP, target_DN, jnp.ones(target_DN.shape))[1]

    def log_probs(self, hidden_NP: jax.Array) -> jax.Array:
        """Log-probability of every word, float32 ``[N, V]``."""
        head_NH = jax.nn.log_softmax(_linear(hidden_NP, self.head_kernel, self.head_bias))
        parts = [head_NH[:, : self.clusters.head]]
        for k, tail in enumerate(self.tails):
            inner_NP = _project(tail["projection"], hidden_NP)
            tail_NV = jax.nn.log_softmax(_linear(inner_NP, tail["kernel"], tail["bias"]))
            parts.append(head_NH[:, self.clusters.head + k, None] + tail_NV)
        return jnp.concatenate(parts, axis=-1)


Softmax = FullSoftmax | SampledSoftmax | AdaptiveSoftmax


def make_softmax(
    config: configuration.Softmax, clusters: Clusters, width: int, dtype: Any, shared: WordEncoder | None = None
) -> Softmax:
    """The configured output layer for hidden vectors of ``width``; a full or sampled one may share a table of words."""
    if config.kind == "adaptive":
        return AdaptiveSoftmax(clusters, width, config.factor, dtype)
    if config.kind == "sampled":
        return SampledSoftmax(clusters.n_words, width, dtype, shared, n_samples=config.n_negative_samples_batch)
    return FullSoftmax(clusters.n_words, width, dtype, shared)


def log_inclusion(law_V: jax.Array, n_samples: int) -> jax.Array | float:
    """Log-probability that each word is among ``n_samples`` drawn by the log-uniform law, ``[V]``; 0 when all are."""
    n_words = len(law_V)
    if n_samples == n_words:
        return 0.0
    return jnp.log(-jnp.expm1(expected_tries(n_words, n_samples) * jnp.log1p(-jnp.exp(law_V))))


def expected_tries(n_words: int, n_samples: int) -> float:
    """Draws with replacement from the log-uniform law that give ``n_samples`` distinct words on average."""
    law = np.log1p(1 / (np.arange(n_words) + 1.0)) / math.log(n_words + 1)
    low, high = 0.0, 1.0
    while -np.expm1(high * np.log1p(-law)).sum() < n_samples:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        enough = -np.expm1(middle * np.log1p(-law)).sum() >= n_samples
        low, high = (low, middle) if enough else (middle, high)
    return high


@jax.custom_vjp
def _permuted(x_NP: jax.Array, order_N: jax.Array, place_N: jax.Array) -> jax.Array:
    """``x[order]``, where ``place`` is the inverse of ``order``: its gradient is no sum over rows, but ``g[place]``."""
    return x_NP[order_N]


def _permuted_forward(x_NP: jax.Array, order_N: jax.Array, place_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x_NP[order_N], place_N


def _permuted_backward(place_N: jax.Array, cotangent_NP: jax.Array) -> tuple[Any, ...]:
    none = np.zeros(place_N.shape, jax.dtypes.float0)
    return cotangent_NP[place_N], none, none


_permuted.defvjp(_permuted_forward, _permuted_backward)


def _sampled_nll(drawn: dict[str, jax.Array], rows: dict[str, jax.Array]) -> jax.Array:
    kernel_PS = drawn["kernel_PS"].astype(rows["hidden_NP"].dtype)
    logits_NS = product(rows["hidden_NP"], kernel_PS) + drawn["bias_S"]
    logits_NS = jnp.where(drawn["word_S"] == rows["target_N"][:, None], -jnp.inf, logits_NS)
    rivals_N = jax.nn.logsumexp(logits_NS, axis=1)
    return jnp.logaddexp(rivals_N, rows["true_N"]) - rows["true_N"]


def _linear(hidden_NP: jax.Array, kernel_VP: jax.Array, bias_V: jax.Array) -> jax.Array:
    return product_t(hidden_NP, kernel_VP.astype(hidden_NP.dtype)) + bias_V


def _project(kernel_PQ: jax.Array, hidden_NP: jax.Array) -> jax.Array:
    return product(hidden_NP, kernel_PQ.astype(hidden_NP.dtype)).astype(hidden_NP.dtype)
