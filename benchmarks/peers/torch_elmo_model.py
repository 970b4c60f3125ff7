"""The ELMo in PyTorch: character encoder, LSTMs of two directions, sampled and adaptive softmax.

Equations and initial values are those of ELMO_SPEC 2.3, 2.5 and 2.12. ``torch.nn.LSTM`` has neither clip, so there is
none, and its second bias stays zero and is not trained.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_elmo_data import N_CHARACTERS, Batch

FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))
CHARACTER_DIM, N_LAYERS, DROPOUT, FORGET_BIAS = 16, 2, 0.1, 1.0

# Output and cell state of each layer of a direction.
States = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Size:
    """What the sizes differ in."""

    filters: tuple[tuple[int, int], ...]
    n_highway: int
    dim: int
    projection_dim: int


SIZES = {
    "tiny": Size(FILTERS[:4], 1, 256, 64),
    "small": Size(FILTERS, 1, 1024, 128),
    "medium": Size(FILTERS, 1, 2048, 256),
    "original": Size(FILTERS, 2, 4096, 512),
}


class CharEncoder(nn.Module):
    """Words from their characters, ``[n, width]`` to ``[n, P]``."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        n = sum(number for _, number in size.filters)
        self.characters = nn.Embedding(N_CHARACTERS, CHARACTER_DIM)
        self.filters = nn.ModuleList(nn.Conv1d(CHARACTER_DIM, number, width) for width, number in size.filters)
        # Gate and transform in one product.
        self.highways = nn.ModuleList(nn.Linear(n, 2 * n) for _ in range(size.n_highway))
        self.projection = nn.Linear(n, size.projection_dim)
        nn.init.uniform_(self.characters.weight, -1, 1)
        for convolution in self.filters:
            nn.init.uniform_(convolution.weight, -0.05, 0.05)
            nn.init.zeros_(convolution.bias)
        for linear in (*self.highways, self.projection):
            nn.init.normal_(linear.weight, std=n**-0.5)
            nn.init.zeros_(linear.bias)
        for highway in self.highways:
            nn.init.constant_(highway.bias[:n], -2.0)

    def forward(self, characters: Tensor) -> Tensor:
        """Encode each row."""
        x = self.characters(characters).transpose(1, 2)
        x = torch.cat([convolution(x).max(dim=-1).values for convolution in self.filters], dim=-1).relu()
        for highway in self.highways:
            gate, new = highway(x).chunk(2, dim=-1)
            x = torch.lerp(x, new.relu(), gate.sigmoid())
        return self.projection(x)


class Direction(nn.Module):
    """The LSTM layers of one direction; from the second on, a layer adds its input to its output."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        p = size.projection_dim
        self.layers = nn.ModuleList(nn.LSTM(p, size.dim, proj_size=p) for _ in range(N_LAYERS))
        self.dropout = nn.Dropout(DROPOUT)
        for layer in self.layers:
            for weight in (layer.weight_ih_l0, layer.weight_hh_l0, layer.weight_hr_l0):
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(layer.bias_ih_l0)
            nn.init.constant_(layer.bias_ih_l0[size.dim : 2 * size.dim], FORGET_BIAS)
            nn.init.zeros_(layer.bias_hh_l0).requires_grad_(False)

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        """What the softmax should see, ``[T, B, P]``, and the states after the window, cut off from it."""
        after: States = []
        for number, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            x = self.dropout(x)
            y, (hidden, cell) = layer(x, state)
            after.append((hidden.detach(), cell.detach()))
            x = x + y if number else y
        return self.dropout(x), after


class SampledSoftmax(nn.Module):
    """The softmax of bilm-tf: against words drawn by the log-uniform law, distinct, the same for a whole direction."""

    def __init__(self, width: int, n_words: int, n_samples: int = 8192) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(n_words, width) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(n_words))
        self.n_samples = min(n_samples, n_words)
        rank = torch.arange(n_words, dtype=torch.float64)
        law = torch.log1p(1 / (rank + 1)) / math.log(n_words + 1)
        self.register_buffer("law", law.float())
        self.register_buffer("log_expected", self._log_expected(law).float())

    def _log_expected(self, law: Tensor) -> Tensor:
        """Log-probability that each word is among those drawn."""
        if self.n_samples == len(law):
            return torch.zeros_like(law)
        low, high = 0.0, 1e12
        for _ in range(200):
            tries = (low + high) / 2
            enough = -torch.expm1(tries * torch.log1p(-law)).sum() >= self.n_samples
            low, high = (low, tries) if enough else (tries, high)
        return torch.log(-torch.expm1(high * torch.log1p(-law)))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over both directions of ``[2, N, P]``."""
        return torch.stack([self._direction(*both) for both in zip(hidden, targets, strict=True)]).mean()

    def _direction(self, hidden: Tensor, targets: Tensor) -> Tensor:
        drawn = torch.multinomial(self.law, self.n_samples)
        offset = self.bias - self.log_expected
        true = (hidden * functional.embedding(targets, self.kernel)).sum(dim=-1) + offset[targets]
        logits = functional.linear(hidden, functional.embedding(drawn, self.kernel), offset[drawn])
        logits = logits.masked_fill(drawn == targets[:, None], -torch.inf)
        both = torch.cat([true[:, None], logits], dim=1).float()
        return functional.cross_entropy(both, torch.zeros_like(targets))


class AdaptiveSoftmax(nn.Module):
    """Head and tails of Grave et al. (2017), as ``nn.AdaptiveLogSoftmaxWithLoss``, which fails under autocast on CPU.

    Tails have the given widths, and every word a bias. Without cutoffs it is the full softmax.

    Args:
        width: P.
        n_words: V.
        cutoffs: where the head and all tails but the last end.
        tail_dims: widths of the tails.
    """

    def __init__(self, width: int, n_words: int, cutoffs: Sequence[int], tail_dims: Sequence[int]) -> None:
        super().__init__()
        self.ends = (*cutoffs, n_words)
        self.head = nn.Linear(width, self.ends[0] + len(tail_dims))
        self.tails = nn.ModuleList(
            nn.Sequential(nn.Linear(width, dim, bias=False), nn.Linear(dim, end - start))
            for dim, (start, end) in zip(tail_dims, itertools.pairwise(self.ends), strict=True)
        )
        for linear in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Mean loss over both directions of ``[2, N, P]``, which share each product."""
        hidden, targets = hidden.flatten(0, 1), targets.flatten()
        clusters, losses = targets.clone(), []
        for k, (tail, (start, end)) in enumerate(zip(self.tails, itertools.pairwise(self.ends), strict=True)):
            rows = ((targets >= start) & (targets < end)).nonzero().squeeze(1)
            clusters.index_fill_(0, rows, self.ends[0] + k)
            losses.append(_loss(tail(hidden.index_select(0, rows)), targets.index_select(0, rows) - start))
        return torch.stack([_loss(self.head(hidden), clusters), *losses]).sum() / len(targets)


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum over rows, in float32."""
    return functional.cross_entropy(logits.float(), targets, reduction="sum")


class Elmo(nn.Module):
    """The language model of both directions.

    Args:
        size: of the network.
        softmax: maps ``[2, N, P]`` and targets ``[2, N]`` to the mean loss.
        spellings: int16 ``[V, 50]``.
    """

    def __init__(self, size: Size, softmax: nn.Module, spellings: Tensor) -> None:
        super().__init__()
        self.size = size
        self.encoder = CharEncoder(size)
        self.directions = nn.ModuleList(Direction(size) for _ in range(2))
        self.softmax = softmax
        self.register_buffer("spellings", spellings)

    def zero_states(self, batch: int) -> list[States]:
        """The states before any text."""

        def zeros(width: int) -> Tensor:
            return torch.zeros(1, batch, width, device=self.spellings.device)

        return [[(zeros(self.size.projection_dim), zeros(self.size.dim)) for _ in range(N_LAYERS)] for _ in range(2)]

    def forward(self, batch: Batch, states: list[States]) -> tuple[Tensor, list[States]]:
        """Mean loss of a window in nats, and the states after it."""
        tops, after = [], []
        for direction, x, state in zip(self.directions, self.encode(batch), states, strict=True):
            top, new = direction(x, state)
            tops.append(top.flatten(0, 1))
            after.append(new)
        return self.softmax(torch.stack(tops), batch.targets.flatten(1)), after

    def encode(self, batch: Batch) -> Tensor:
        """The encodings of all positions, ``[2, T, B, P]``."""
        if not batch.chunks:
            return self.encoder(self.spellings[batch.words.flatten()].int()).unflatten(0, batch.words.shape)
        encoded = [self.encoder(self.spellings[chunk.words, : chunk.width].int()) for chunk in batch.chunks]
        return functional.embedding(batch.words, torch.cat(encoded))
