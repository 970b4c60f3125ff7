"""State dicts on disk for tests: files of PyTorch where it is installed, else files that stand in for them."""

from pathlib import Path
from typing import IO

import numpy as np
import pytest

from elmo_jax.interop import torch_weights

Arrays = dict[str, np.ndarray]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on files of PyTorch are read as NumPy's: everything behind that is the same."""

    def read(file: Path | IO[bytes], name: str) -> Arrays:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)

    monkeypatch.setattr(torch_weights, "read", read)


def write(file: Path, arrays: Arrays) -> None:
    """What ``stand_in`` reads."""
    with file.open("wb") as stream:
        np.savez(stream, **arrays)


def write_with_torch(file: Path, arrays: Arrays, *, legacy: bool = False) -> None:
    """A file of PyTorch, in the format of today or that from before version 1.6."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
