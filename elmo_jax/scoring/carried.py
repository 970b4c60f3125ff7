"""One sentence after the other through a model whose state flows on, as in training."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from elmo_jax.data.text import BOS, EOS
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.model.bilm import BiLM, zero_carry

Array = npt.NDArray[Any]

# A window has a power of two positions, and not fewer than these: few programs.
SHORTEST_WINDOW = 16


def carried(pretrained: Pretrained, model: BiLM, sentences: Iterable[Sequence[str]]) -> Iterator[Array]:
    """The top layer of every sentence, from the state that the one before it left.

    As in training and other than at inference, no direction reads the boundary at which it ends (ELMO_SPEC 2.12, T13).

    Args:
        pretrained: weights and spelling.
        model: the network.
        sentences: lists of tokens.

    Yields:
        float32 ``[D, m + 1, P]``, each direction in its reading order: row t has read its boundary and t words.
    """

    def top(params: Any, *inputs: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            layers, state = model.apply({"params": params}, *inputs)
        return layers[-1], state

    run, params = jax.jit(top), jax.device_put(pretrained.params)
    spelling, n_directions = pretrained.spelling, len(model.config.directions)
    state = zero_carry(model.config, 1)
    for sentence in sentences:
        n = len(sentence) + 1
        length = max(SHORTEST_WINDOW, 1 << (n - 1).bit_length())
        spelt = spelling([BOS, *sentence, EOS])
        types = np.full((length + 1, *spelt.shape[1:]), spelling.pad, spelt.dtype)
        types[: n + 1] = spelt
        index = np.zeros((n_directions, length, 1), np.int32)
        index[:, :n, 0] = np.stack([np.arange(n), np.arange(n, 0, -1)])[:n_directions]
        keep = np.arange(length)[:, None] < n
        found, state = run(params, types, np.int32(n + 1), index, np.zeros_like(keep), keep, state)
        yield np.asarray(found, np.float32)[:, :n, 0]
