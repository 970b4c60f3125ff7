"""Training steps under watch (``--config.debug=true``): where a NaN arises, and transfers that nobody asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import optax
from jax.experimental import checkify

from elmo_jax.digest import leaves_by_path
from elmo_jax.errors import UserError
from elmo_jax.parallel import REPLICATED, DataParallel
from elmo_jax.train.step import STATE_SPECS, TrainState

# Operations are told by the line that calls these libraries.
LIBRARIES = tuple(str(Path(str(library.__file__)).parent) for library in (jax, flax, optax))


class WatchedStep:
    """A training step for the loop that waits for its results, looks at every number, and refuses hidden transfers.

    When a number is not finite, the step is compiled once more with a check behind each operation
    (``jax.experimental.checkify``) and repeated on what it was given, which is why nothing is donated here and a state
    takes twice the memory. JAX's own ``jax_debug_nans`` would have to be on from the start, does not look into loops,
    and takes NaNs that a mask removes for errors.

    Within a step ``jax.transfer_guard("disallow")`` holds: arrays go to devices and back only where the code says so.
    On CPU, JAX notices transfers to devices, and none from them.

    Args:
        step: from ``make_train_step``.
        devices: that share it.
    """

    def __init__(self, step: Callable[..., Any], devices: DataParallel) -> None:
        self._devices = devices
        self._step = devices.wrap(step, STATE_SPECS, outputs=(STATE_SPECS, REPLICATED), donate=False)
        self._finite = jax.jit(lambda leaves: {name: jnp.isfinite(leaf).all() for name, leaf in leaves.items()})

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        """The state and the metrics after a batch of this process.

        Raises:
            UserError: naming the step, what is not finite after it, and the first operation that made a NaN.
        """
        with jax.transfer_guard("disallow"):
            placed = self._devices.place_batch(batch)
            after, metrics = self._step(state, placed)
            bad = self._not_finite({"state": after, "metrics": metrics})
        if bad:
            raise UserError(self._diagnosis(state, placed, bad))
        return after, metrics

    def _not_finite(self, tree: Any) -> list[str]:
        """Names of the leaves with a NaN or an infinity."""
        floats = {name: x for name, x in leaves_by_path(tree).items() if jnp.issubdtype(x.dtype, jnp.floating)}
        return [name for name, good in jax.device_get(self._finite(floats)).items() if not good]

    def _diagnosis(self, state: TrainState, placed: Any, bad: list[str]) -> str:
        number = int(jax.device_get(state.step).reshape(-1)[0]) + 1
        already = self._not_finite({"state": state})
        culprit = _first_nan(self._step, state, placed)
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        said = f"step {number} makes {', '.join(bad[:3])}{more} not finite: " + (
            f"the first NaN comes from {culprit}" if culprit else "no operation makes a NaN, so a number is too large"
        )
        if already:
            return f"{said}; {already[0]} was not finite before it: start from other weights"
        return f"{said}; start a new run with a lower --config.optimizer.learning_rate, or mend that operation"


def _first_nan(step: Callable[..., Any], state: TrainState, placed: Any) -> str:
    """The operation whose result has the first NaN, and the line it is on; empty when there is none."""
    error, _ = jax.jit(checkify.checkify(step, errors=checkify.nan_checks))(state, placed)
    found: Any = error.get_exception()
    if found is None:
        return ""
    # One of each device that has a NaN; some have it only from another device.
    errors = getattr(found, "error_mapping", {(0,): found})
    (device,), found = min(errors.items(), key=lambda item: item[1].prim.startswith("psum"))
    lines = (
        f"{frame.file_name}:{frame.line_num} ({frame.function_name})"
        for frame in found.traceback_info.frames
        if not frame.file_name.startswith(LIBRARIES)
    )
    return f"{found.prim} at {next(lines, 'an unknown line')} on device {device}"
