"""Output distributions over the vocabulary: adaptive (Grave et al. 2017), full, and sampled (as in bilm-tf).

All three have a training loss, exact log-probabilities of given words and the whole exact distribution. One output
layer serves all directions. Sums and results are float32.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from elmo_jax import config as configuration
from elmo_jax.model.clusters import Clusters, tail_dim
from elmo_jax.model.compact import compact
from elmo_jax.model.cross_entropy import linear_cross_entropy
from elmo_jax.model.initializers import normal, zeros
from elmo_jax.model.word_table import WordEncoder

# Rows of a tail worked off at a time: an eighth of all, or as many as have so many logits, but not fewer than this.
CHUNK_LOGITS, MIN_CHUNK = 2**20, 8


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

    def loss(self, hidden_DNP: jax.Array, target_DN: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Training loss of every position, float32 ``[D, N]``; ``key`` is not used."""
        return -self.log_prob(hidden_DNP, target_DN)

    def log_prob(self, hidden_DNP: jax.Array, target_DN: jax.Array) -> jax.Array:
        """Exact log-probability of every target, float32 ``[D, N]``."""
        hidden_NP = hidden_DNP.reshape(-1, self.width)
        return -linear_cross_entropy(hidden_NP, self.kernel, self.bias, target_DN.reshape(-1)).reshape(target_DN.shape)

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

    def loss(self, hidden_DNP: jax.Array, target_DN: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Training loss of every position, float32 ``[D, N]``; ``key`` draws the words."""
        if key is None:
            raise ValueError("the sampled softmax needs a random key for its training loss")
        keys = jax.random.split(key, target_DN.shape[0])
        return jnp.stack([self._loss(*x) for x in zip(hidden_DNP, target_DN, keys, strict=True)])

    def _loss(self, hidden_NP: jax.Array, target_N: jax.Array, key: jax.Array) -> jax.Array:
        n_samples = min(self.n_samples, self.n_words)
        law_V = jnp.log(jnp.log1p(1 / (jnp.arange(self.n_words) + 1.0)) / math.log(self.n_words + 1))
        _, drawn_S = jax.lax.top_k(law_V + jax.random.gumbel(key, (self.n_words,)), n_samples)
        offset_V = self.bias - log_inclusion(law_V, n_samples)
        kernel_NP = self.kernel[target_N].astype(self.dtype)
        true_N = (hidden_NP * kernel_NP).sum(axis=-1, dtype=jnp.float32) + offset_V[target_N]
        drawn = {"kernel": self.kernel[drawn_S], "bias": offset_V[drawn_S], "word": drawn_S}
        rows = {"hidden": hidden_NP, "true": true_N, "target": target_N}
        return compact(_sampled_loss, drawn, rows, jnp.int32(len(target_N)), _chunk(len(target_N), n_samples))


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

    def loss(self, hidden_DNP: jax.Array, target_DN: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Training loss of every position, float32 ``[D, N]``, exactly normalised; ``key`` is not used."""
        hidden_NP, target_N = hidden_DNP.reshape(-1, self.width), target_DN.reshape(-1)
        cluster_N = sum((target_N >= start).astype(jnp.int32) for start, _ in self.clusters.tails)
        head_N = jnp.where(cluster_N == 0, target_N, self.clusters.head + cluster_N - 1)
        loss_N = linear_cross_entropy(hidden_NP, self.head_kernel, self.head_bias, head_N)
        n = len(target_N)
        for k, (start, end) in enumerate(self.clusters.tails):
            # The rows of this cluster first; only as many chunks as they fill are computed.
            mine_N: Any = cluster_N == k + 1
            order_N = jnp.nonzero(mine_N, size=n, fill_value=0)[0]
            rows = {"hidden": hidden_NP[order_N], "target": jnp.maximum(target_N[order_N] - start, 0)}
            tail_N = compact(_tail_loss, self.tails[k], rows, mine_N.sum(dtype=jnp.int32), _chunk(n, end - start))
            loss_N = loss_N.at[order_N].add(tail_N)
        return loss_N.reshape(target_DN.shape)

    def log_prob(self, hidden_DNP: jax.Array, target_DN: jax.Array) -> jax.Array:
        """Exact log-probability of every target, float32 ``[D, N]``."""
        return -self.loss(hidden_DNP, target_DN)

    def log_probs(self, hidden_NP: jax.Array) -> jax.Array:
        """Log-probability of every word, float32 ``[N, V]``."""
        head_NH = jax.nn.log_softmax(_linear(hidden_NP, self.head_kernel, self.head_bias))
        parts = [head_NH[:, : self.clusters.head]]
        for k, tail in enumerate(self.tails):
            inner_NP = _project(hidden_NP, tail["projection"])
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


def _chunk(n_rows: int, n_words: int) -> int:
    return max(MIN_CHUNK, min(n_rows // 8, CHUNK_LOGITS // n_words))


def _tail_loss(tail: dict[str, jax.Array], rows: dict[str, jax.Array]) -> jax.Array:
    inner = _project(rows["hidden"], tail["projection"])
    return linear_cross_entropy(inner, tail["kernel"], tail["bias"], rows["target"])


def _sampled_loss(drawn: dict[str, jax.Array], rows: dict[str, jax.Array]) -> jax.Array:
    logits_NS = _linear(rows["hidden"], drawn["kernel"], drawn["bias"])
    logits_NS = jnp.where(drawn["word"][None, :] == rows["target"][:, None], -jnp.inf, logits_NS)
    both = jnp.concatenate([rows["true"][:, None], logits_NS], axis=1)
    return jax.nn.logsumexp(both, axis=1) - rows["true"]


def _linear(hidden_NP: jax.Array, kernel_VP: jax.Array, bias_V: jax.Array) -> jax.Array:
    kernel_VP = kernel_VP.astype(hidden_NP.dtype)
    return jnp.matmul(hidden_NP, kernel_VP.T, preferred_element_type=jnp.float32) + bias_V


def _project(hidden_NP: jax.Array, kernel_PQ: jax.Array) -> jax.Array:
    product = jnp.matmul(hidden_NP, kernel_PQ.astype(hidden_NP.dtype), preferred_element_type=jnp.float32)
    return product.astype(hidden_NP.dtype)
