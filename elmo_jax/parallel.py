"""Devices: the data-parallel wrapping of a step, and arrays going to and from the devices.

A step is a pure function of one device's share. It knows only the name of the axis, ``"data"``, over which it may sum
(``total``). ``shard_map`` and ``pmap`` are two spellings of the same data parallelism. Between steps, everything that
is saved has one *global* layout, whatever the devices: parameters whole, carries with all rows in order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from elmo_jax.errors import UserError

AXIS = "data"

# How a part of the state is spread: the same on every device, or cut by rows.
REPLICATED, BY_ROWS = PartitionSpec(), PartitionSpec(AXIS)

Tree = Any
Step = Callable[..., Any]


def total(tree: Tree) -> Tree:
    """Within a step, the sum over all devices. That of one device is no operation: XLA would copy every array."""
    return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.psum(tree, AXIS)


class DataParallel:
    """The devices of a run, which share its rows evenly.

    Args:
        mode: ``"shard_map"`` or ``"pmap"``.
        devices: of all processes; None for all there are.
    """

    def __init__(self, mode: str = "shard_map", devices: Sequence[jax.Device] | None = None) -> None:
        self.mode = mode
        self.devices = list(devices) if devices is not None else jax.devices()
        self.mesh = Mesh(np.array(self.devices), (AXIS,), axis_types=(AxisType.Auto,))
        self.local_devices = [d for d in self.devices if d.process_index == jax.process_index()]

    def rows(self, batch_size: int, parts_per_device: int = 1) -> range:
        """The global rows that this process reads.

        Raises:
            UserError: when the rows cannot be shared evenly.
        """
        share = len(self.devices) * parts_per_device
        if batch_size % share:
            near = sorted({max(share, batch_size // share * share), -(-batch_size // share) * share})
            each = f" x {parts_per_device} gradient accumulation parts" if parts_per_device > 1 else ""
            raise UserError(
                f"config.train.batch_size is {batch_size}: it must be divisible by {len(self.devices)} devices{each}; "
                f"use {' or '.join(map(str, near))}"
            )
        per_device = batch_size // len(self.devices)
        mine = [n for n, device in enumerate(self.devices) if device.process_index == jax.process_index()]
        return range(mine[0] * per_device, (mine[-1] + 1) * per_device)

    def sharding(self, spec: PartitionSpec) -> NamedSharding:
        """Where global arrays of this kind live."""
        return NamedSharding(self.mesh, spec)

    def shardings(self, tree: Tree, specs: Tree) -> Tree:
        """``tree`` with the sharding of each leaf in its place; ``specs`` is a prefix of it (see ``wrap``)."""
        return jax.tree.map(lambda spec, part: jax.tree.map(lambda _: self.sharding(spec), part), specs, tree)

    def wrap(self, step: Step, specs: Tree, *, outputs: Tree, donate: bool = True) -> Step:
        """Compile ``step(state, batch)``, one device's share of the work, for all devices.

        Args:
            step: pure; may use collectives over ``AXIS``.
            specs: tree that is a prefix of the state, REPLICATED or BY_ROWS at its leaves. The batch is cut by rows.
            outputs: the same for the results.
            donate: the state's buffers are used for the results.

        Returns:
            A function of a state and a batch placed by ``place_state`` and ``place_batch``.
        """
        donated = (0,) if donate else ()
        if self.mode == "pmap":
            return jax.pmap(step, AXIS, devices=self.devices, donate_argnums=donated)
        # With check_vma=True the transpose of a replicated input is a psum: gradients would be summed twice.
        mapped = jax.shard_map(step, mesh=self.mesh, in_specs=(specs, BY_ROWS), out_specs=outputs, check_vma=False)
        return jax.jit(mapped, donate_argnums=donated)

    def place_batch(self, batch: Tree) -> Tree:
        """This process's NumPy rows as device arrays, cut by rows."""
        if self.mode == "pmap":
            n = len(self.local_devices)
            return jax.tree.map(lambda x: self.from_local_rows(x.reshape(n, -1, *x.shape[1:])), batch)
        return jax.tree.map(self.from_local_rows, batch)

    def from_local_rows(self, rows: np.ndarray) -> jax.Array:
        """A global array of all processes' rows, cut by rows."""
        return jax.make_array_from_process_local_data(self.sharding(BY_ROWS), rows)

    def local_rows(self, x: jax.Array) -> np.ndarray:
        """This process's rows of such an array."""
        return np.concatenate([np.asarray(shard.data) for shard in _by_row(x)])

    def place_state(self, state: Tree, specs: Tree) -> Tree:
        """A state in the global layout as the wrapped step takes it; the two may share buffers."""
        if self.mode != "pmap":
            return state
        return jax.tree.map(lambda spec, part: jax.tree.map(self._to_pmap(spec), part), specs, state)

    def state_like(self, state: Tree, specs: Tree) -> Tree:
        """Shapes, dtypes and shardings of ``place_state(state)`` from those of ``state``: enough to compile a step."""

        def like(spec: PartitionSpec) -> Callable[[Any], jax.ShapeDtypeStruct]:
            def one(x: Any) -> jax.ShapeDtypeStruct:
                if self.mode != "pmap":
                    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.sharding(spec))
                n = len(self.local_devices)
                own = x.shape if spec == REPLICATED else (x.shape[0] // len(self.devices), *x.shape[1:])
                return jax.ShapeDtypeStruct((n, *own), x.dtype)

            return one

        return jax.tree.map(lambda spec, part: jax.tree.map(like(spec), part), specs, state)

    def global_state(self, state: Tree, specs: Tree) -> Tree:
        """The inverse of ``place_state``: what is saved, evaluated and exported."""
        if self.mode != "pmap":
            return state
        return jax.tree.map(lambda spec, part: jax.tree.map(self._from_pmap(spec), part), specs, state)

    def scalars(self, results: Tree) -> Tree:
        """Replicated results of a wrapped step as Python floats; waits for them."""
        local = jax.device_get(jax.tree.map(lambda x: x.addressable_data(0), results))
        return jax.tree.map(lambda x: float(x.reshape(-1)[0]), local)

    def _to_pmap(self, spec: PartitionSpec) -> Callable[[jax.Array], jax.Array]:
        def replicate(x: jax.Array) -> jax.Array:
            one = np.asarray(x.addressable_data(0))
            return self.from_local_rows(np.broadcast_to(one, (len(self.local_devices), *x.shape)))

        def split(x: jax.Array) -> jax.Array:
            return self.from_local_rows(np.stack([np.asarray(shard.data) for shard in _by_row(x)]))

        return replicate if spec == REPLICATED else split

    def _from_pmap(self, spec: PartitionSpec) -> Callable[[jax.Array], jax.Array]:
        sharding = self.sharding(spec)

        def first(x: jax.Array) -> jax.Array:
            local = np.asarray(x.addressable_data(0)).reshape(x.shape[1:])
            return jax.make_array_from_process_local_data(sharding, local, local.shape)

        def join(x: jax.Array) -> jax.Array:
            local = np.concatenate([np.asarray(shard.data).reshape(x.shape[1:]) for shard in _by_row(x)])
            return jax.make_array_from_process_local_data(sharding, local)

        return first if spec == REPLICATED else join


def _by_row(x: jax.Array) -> list[Any]:
    """This process's shards in the order of their rows."""
    return sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
