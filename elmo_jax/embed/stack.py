"""The LSTM layers of a model over windows of rows, on all devices."""

from functools import partial
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

from elmo_jax.model.bilm import BiLM
from elmo_jax.parallel import AXIS

Array = npt.NDArray[Any]
Carry = dict[str, Any]

# Steps of a window.
WINDOW = 32


class Stack:
    """Runs windows of token encodings through the LSTM layers; rows are spread over the devices.

    A program is compiled for each number of rows, and one more for ``all`` layers.

    Args:
        model: whose layers they are.
        params: of the model, on the devices.
        mesh: of the devices.
        dtype: of state and results.
    """

    def __init__(self, model: BiLM, params: Any, mesh: Mesh, dtype: Any) -> None:
        self._config, self._params, self._mesh, self._dtype = model.config, params, mesh, dtype

        def window(
            params: Any, x_DTBP: jax.Array, reset_TB: jax.Array, keep_TB: jax.Array, carry: Carry, weights: Any
        ) -> tuple[jax.Array, Carry]:
            with jax.default_matmul_precision("highest"):
                inputs = (x_DTBP, reset_TB, keep_TB, carry)
                result: Any = model.apply({"params": params}, *inputs, method="stack")
            layers, carry = result
            if weights is None:
                return jax.numpy.stack(layers[1:]).astype(dtype), carry
            mixed = sum(weight * layer.astype(dtype) for weight, layer in zip(weights, layers, strict=True))
            return mixed[None], carry

        rows = {"x": Spec(None, None, AXIS), "mask": Spec(None, AXIS), "state": Spec(AXIS)}
        inputs = (Spec(), rows["x"], rows["mask"], rows["mask"], rows["state"], Spec())
        outputs = (Spec(None, None, None, AXIS), rows["state"])
        self._run = jax.jit(jax.shard_map(window, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False))
        self._place = {name: partial(jax.device_put, device=NamedSharding(mesh, spec)) for name, spec in rows.items()}

    def zero_carry(self, n_rows: int) -> Carry:
        """The state before any text, in host memory: ``{"cell": [B, L, D, C], "hidden": [B, L, D, P]}``."""
        lstm = self._config.lstm
        shape = (n_rows, lstm.n_layers, len(self._config.directions))
        sizes = {"cell": lstm.dim, "hidden": lstm.projection_dim}
        return {name: np.zeros((*shape, size), self._dtype) for name, size in sizes.items()}

    def __call__(
        self,
        encodings_UP: Array,
        index_DSB: Array,
        reset_SB: Array,
        keep_SB: Array,
        carry: Carry,
        weights: Array | None,
    ) -> tuple[list[jax.Array], Carry]:
        """Start the work of all windows; does not wait for it.

        Args:
            encodings_UP: of the distinct types.
            index_DSB: the type at every step of every row, each direction in its own reading order.
            reset_SB: bool, start from the zero state here.
            keep_SB: bool, a real position.
            carry: state before the first step.
            weights: what the layers are weighed with before they are added, the encodings first; None for all layers
                but the encodings as they are.

        Returns:
            For each window ``[n_layers, D, T, B, P]``, or ``[1, D, T, B, P]`` for a sum, and the state behind the
            last.
        """
        outputs = []
        carry = self._place["state"](carry)
        for begin in range(0, len(keep_SB), WINDOW):
            steps = slice(begin, begin + WINDOW)
            x_DTBP = self._place["x"](encodings_UP[index_DSB[:, steps]])
            masks = (self._place["mask"](mask[steps]) for mask in (reset_SB, keep_SB))
            output, carry = self._run(self._params, x_DTBP, *masks, carry, weights)
            outputs.append(output)
        return outputs, carry
