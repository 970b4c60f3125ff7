"""LSTM with projection and clipping, for all directions at once (Sak et al. 2014; ELMO_SPEC 2.4)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from elmo_jax.config import LSTM
from elmo_jax.model.initializers import glorot, zeros
from elmo_jax.model.recurrence import Carry, Params, Settings, recurrence

__all__ = ["Carry", "Params", "ProjectedLSTM", "lstm"]


def lstm(
    params: Params,
    x_DTBP: jax.Array,
    carry: Carry,
    reset_TB: jax.Array,
    keep_TB: jax.Array,
    *,
    cell_clip: float | None,
    proj_clip: float | None,
    dtype: Any = jnp.float32,
    stepwise: bool | None = None,
    turned: bool | None = None,
    recompute_gates: bool = False,
) -> tuple[jax.Array, Carry]:
    """Run the recurrence over a window. With z = [x_t ; m_{t-1}] W + b in blocks i, j, f, o of C columns::

        c_t = clip(sigmoid(f + 1) * c_{t-1} + sigmoid(i) * tanh(j))
        m_t = clip((sigmoid(o) * tanh(c_t)) W_P)

    Args:
        params: ``input_kernel`` and ``recurrent_kernel`` ``[D, P, 4C]``, ``bias`` ``[D, 4C]`` and, unless P == C,
            ``projection`` ``[D, C, P]``. The forget bias 1 is not stored.
        x_DTBP: inputs, each direction in its own reading order.
        carry: state before the window, float32.
        reset_TB: bool, start from the zero state here.
        keep_TB: bool; False is padding: output 0, the state is copied unchanged and a reset has no effect.
        cell_clip: bound on |c|, None for none.
        proj_clip: bound on |m|, None for none; without a projection it does nothing, as in bilm-tf.
        dtype: of the products; state, sums and activations are float32, or float64 if this is.
        stepwise: each direction by itself, its input and state in one product a step; otherwise all directions step
            together, and the inputs of all steps are one product before. Equal up to rounding. The first moves less
            memory and is faster on CPU, the second starts fewer operations (docs/performance.md). None: the first if
            JAX's default device is a CPU.
        turned: the kernel is turned once before the loop, where it would be rearranged at every step. Equal up to
            rounding. None: where that was measured to be faster, on CPU with few rows and a large bfloat16 kernel.
        recompute_gates: of gradients: the gates ``[D, T, B, 4C]`` are computed again from inputs and states, where
            they would be kept. The values are the same bits, the gradients equal up to rounding.

    Returns:
        Outputs float32 ``[D, T, B, P]`` and the state after the window.
    """
    stepwise = jax.default_backend() == "cpu" if stepwise is None else stepwise
    turned = stepwise and _turning_pays(params, x_DTBP, dtype) if turned is None else turned
    settings = Settings(cell_clip, proj_clip, dtype, not stepwise, recompute_gates, turned)
    masks = reset_TB[..., None], keep_TB[..., None]
    if not stepwise:
        return recurrence(settings, params, x_DTBP, carry, *masks)
    each = zip(*(_directions(tree) for tree in (params, x_DTBP, carry)), strict=True)
    parts = [recurrence(settings, *one, *masks) for one in each]
    return jax.tree.map(lambda *arrays: jnp.concatenate(arrays), *parts)


class ProjectedLSTM(nn.Module):
    """Parameters of one LSTM layer in all directions, and the recurrence on them.

    Attributes:
        config: sizes and clips.
        n_directions: D; 2 for a bidirectional model.
        dtype: of the products.
        stepwise: see ``lstm``.
        recompute_gates: see ``lstm``.
    """

    config: LSTM
    n_directions: int = 2
    dtype: Any = jnp.float32
    stepwise: bool | None = None
    recompute_gates: bool = False

    @nn.compact
    def __call__(
        self, x_DTBP: jax.Array, carry: Carry, reset_TB: jax.Array, keep_TB: jax.Array
    ) -> tuple[jax.Array, Carry]:
        """See ``lstm``."""
        config, d = self.config, self.n_directions
        c, p = config.dim, config.projection_dim
        # bilm-tf holds both kernels in one matrix [2P, 4C]: its Glorot limit counts all of it.
        kernel = glorot(2 * p, 4 * c)
        params = {
            "input_kernel": self.param("input_kernel", kernel, (d, p, 4 * c)),
            "recurrent_kernel": self.param("recurrent_kernel", kernel, (d, p, 4 * c)),
            "bias": self.param("bias", zeros, (d, 4 * c)),
        }
        if p != c:
            params["projection"] = self.param("projection", glorot(c, p), (d, c, p))
        return lstm(
            params,
            x_DTBP,
            carry,
            reset_TB,
            keep_TB,
            cell_clip=config.cell_clip,
            proj_clip=config.proj_clip,
            dtype=self.dtype,
            stepwise=self.stepwise,
            recompute_gates=self.recompute_gates,
        )


def _turning_pays(params: Params, x_DTBP: jax.Array, dtype: Any) -> bool:
    few_rows, large = x_DTBP.shape[2] <= 32, params["recurrent_kernel"][0].size >= 2**22
    return few_rows and large and dtype == jnp.bfloat16


def _directions(tree: Any) -> list[Any]:
    """A tree for each direction, of arrays with this direction alone."""
    leaves, structure = jax.tree.flatten(tree)
    # The gradient of a split is a concatenation; that of an index would be a sum of arrays padded with zeros.
    parts = zip(*(jnp.split(leaf, len(leaf)) for leaf in leaves), strict=True)
    return [jax.tree.unflatten(structure, part) for part in parts]
