"""Memory: what compiled programs take of each device, what there is, and the error when it is too little."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from elmo_jax.config import Train
from elmo_jax.errors import UserError


@dataclass(frozen=True)
class Usage:
    """Bytes that a compiled program takes of one device.

    Attributes:
        arguments: what it is given.
        results: what it makes of them, without what lies in the place of donated arguments.
        working: what it needs besides while it runs.
        code: the program itself.
    """

    arguments: int
    results: int
    working: int
    code: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.arguments + self.results + self.working + self.code

    def __str__(self) -> str:
        parts = f"arguments {size(self.arguments)}, results {size(self.results)}, working memory {size(self.working)}"
        return f"{size(self.total)} a device ({parts})"


def usage(compiled: Any) -> Usage:
    """Of a program from ``jax.jit(...).lower(...).compile()``, as its compiler planned it."""
    plan = compiled.memory_analysis()
    return Usage(
        arguments=plan.argument_size_in_bytes,
        results=plan.output_size_in_bytes - plan.alias_size_in_bytes,
        working=plan.temp_size_in_bytes,
        code=plan.generated_code_size_in_bytes,
    )


def tree_bytes(tree: Any) -> int:
    """Bytes of arrays, or of their shapes and dtypes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def available(device: jax.Device, neighbours: int) -> int | None:
    """Bytes that programs may take of a device; None where it does not tell.

    Args:
        device: of an accelerator, or a part of the CPU, which shares the memory of the machine.
        neighbours: devices of this process.
    """
    if device.platform == "cpu":
        return host_memory() // neighbours
    return (device.memory_stats() or {}).get("bytes_limit")


def host_memory() -> int:
    """Bytes of the machine, or fewer where the control group of this process (a container, a Slurm job) has a limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2].lstrip("/")
        top = Path("/sys/fs/cgroup")
        for folder in (top / group, *(top / group).parents):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / "memory.max").read_text()))
    return min(limits)


def size(n_bytes: float) -> str:
    """Bytes for people: ``12.4 GB``, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 999.5:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.4g} TB"


def remedy(train: Train, n_devices: int) -> str:
    """What to do when memory is too little for training on so many devices."""
    rows, parts = train.batch_size // n_devices, train.gradient_accumulation
    more = next((n for n in range(parts + 1, rows + 1) if rows % n == 0), None)
    ways = [f"lower --config.train.batch_size (it is {train.batch_size})"]
    if not train.recompute_gates:
        ways.append("keep less for the gradient, --config.train.recompute_gates=true")
    if more:
        ways.append(f"work off its rows in more parts, --config.train.gradient_accumulation={more}")
    return f"{', or '.join(ways)}; elmo train --dry-run tells what it takes"


@contextlib.contextmanager
def shortage_is_told(remedy: str) -> Iterator[None]:
    """Within it, running out of memory is a ``UserError`` with this remedy."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = " ".join(str(error).split()).removeprefix("RESOURCE_EXHAUSTED: ") or "no more of it on this machine"
        raise UserError(f"out of memory: {reason[:200]}; {remedy}") from error
