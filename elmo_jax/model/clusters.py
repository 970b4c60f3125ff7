"""Which words share a cluster of the adaptive softmax (Grave et al. 2017), chosen from their counts."""

import itertools
from dataclasses import dataclass

import numpy as np

# Candidate ends of clusters, and the most tails, that the search looks at.
N_CANDIDATES = 40
MAX_TAILS = 4

# The head holds the words of at least this share of the text: they deserve the full width.
HEAD_SHARE = 0.8

# Clusters that leave more than this share of a full softmax's work are not worth their loss of width.
WORTHWHILE = 0.75

# What a logit costs besides its own multiply-adds, as so many of them: maximum, exponential, sums, gradient, as
# measured on a CPU (docs/performance.md). In narrow tails it is most of the cost.
LOGIT_MACS = 40

# A tail narrower than this saves little and models little.
MIN_TAIL_DIM = 16


@dataclass(frozen=True)
class Clusters:
    """Words ``0 .. cutoffs[0]`` are the head, ``cutoffs[k] .. cutoffs[k + 1]`` the k-th tail. No cutoffs: all is head.

    Attributes:
        n_words: size of the vocabulary, which is sorted by descending count.
        cutoffs: where the head and all tails but the last end; each below ``n_words``.
    """

    n_words: int
    cutoffs: tuple[int, ...] = ()

    @property
    def head(self) -> int:
        """Words in the head."""
        return self.cutoffs[0] if self.cutoffs else self.n_words

    @property
    def tails(self) -> tuple[tuple[int, int], ...]:
        """First word and end of each tail."""
        return tuple(itertools.pairwise((*self.cutoffs, self.n_words)))


def tail_dim(width: int, factor: float, tail: int) -> int:
    """Width of the k-th tail (0 first): ``width / factor^(k + 1)``, but not below 16 or the width itself."""
    return max(int(width / factor ** (tail + 1)), min(width, MIN_TAIL_DIM))


def choose_cutoffs(counts: np.ndarray, width: int, factor: float) -> tuple[int, ...]:
    """Ends of clusters that make the expected cost of a prediction smallest, in multiply-adds.

    A prediction costs the head, ``(width + 40) * (head + tails)``, and with the probability that its word is in tail k
    also that tail's projection and words, ``dim_k * width + (dim_k + 40) * words_k``, where a logit costs 40 besides
    its own multiply-adds. All sets of up to four ends among about forty candidates are compared, of which the first
    leaves at least four fifths of the text to the head.

    Args:
        counts: int ``[words]``, in vocabulary order.
        width: width of the hidden vector.
        factor: see ``tail_dim``.

    Returns:
        Ascending ends, each below the number of words; empty when no cluster saves anything.
    """
    n = len(counts)
    mass = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    mass /= max(mass[-1], 1.0)
    smallest_head = min(n, max(1, int(np.searchsorted(mass, HEAD_SHARE))))
    candidates = np.unique(np.geomspace(smallest_head, n, N_CANDIDATES).astype(int))[:-1]
    best: tuple[int, ...] = ()
    best_cost = WORTHWHILE * (width + LOGIT_MACS) * n
    for tails in range(1, MAX_TAILS + 1):
        ends = np.array(list(itertools.combinations(candidates, tails)), dtype=int).reshape(-1, tails)
        if len(ends) == 0:
            break
        edges = np.concatenate([ends, np.full((len(ends), 1), n)], axis=1)
        cost = (width + LOGIT_MACS) * (edges[:, 0] + tails).astype(np.float64)
        for k in range(tails):
            dim = tail_dim(width, factor, k)
            share = mass[edges[:, k + 1]] - mass[edges[:, k]]
            cost += share * (dim * width + (dim + LOGIT_MACS) * (edges[:, k + 1] - edges[:, k]))
        if cost.min() < best_cost:
            best, best_cost = tuple(int(end) for end in ends[cost.argmin()]), float(cost.min())
    return best
