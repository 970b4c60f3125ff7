"""Arrays of HDF5 files that nobody vouches for: names and shapes first, values only of those that are wanted.

A file says what it likes about itself. What is read of it never takes more memory than the file takes on disk: its
arrays must lie in it plainly, with a byte for every byte, so that no header can declare what is not there.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import numpy.typing as npt

from elmo_jax.errors import UserError

Result = TypeVar("Result")

SUFFIXES = frozenset({".hdf5", ".h5", ".hdf"})


class StoredArray:
    """An array in a file: its shape is known, its values are read by ``np.asarray(stored, np.float32)``.

    Attributes:
        file: where it lies.
        name: its full name in the file, such as ``CNN/W_cnn_0``.
        shape: of it.

    Raises:
        UserError: on reading, for what is no plain array of floating-point numbers.
    """

    def __init__(self, file: Path, name: str, dataset: h5py.Dataset) -> None:
        self.file, self.name = file, name
        # Scalars, and the empty datasets whose shape is None, are of the shape ().
        self.shape: tuple[int, ...] = dataset.shape or ()
        self._complaint = _complaint(dataset, file.stat().st_size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if self._complaint:
            raise UserError(f"dataset {self.name} of {self.file} {self._complaint}")
        array = _safely(self.file, lambda file: file[self.name][...])
        with np.errstate(over="ignore"):
            return array.astype(dtype or array.dtype, copy=bool(copy))


def stored_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays of a file by their full names; none of their values is read yet.

    Links to other files are not followed.

    Raises:
        UserError: when it is no HDF5 file, or a damaged one.
    """

    def found(file: h5py.File) -> dict[str, StoredArray]:
        arrays: dict[str, StoredArray] = {}

        def keep(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                arrays[name] = StoredArray(path, name, item)

        file.visititems(keep)
        return arrays

    return _safely(path, found)


def top_names(path: Path) -> set[str]:
    """The names of what is in a file outside of any group, and of its groups.

    Raises:
        UserError: when it is no HDF5 file, or a damaged one.
    """
    return _safely(path, set)


def _complaint(dataset: h5py.Dataset, file_size: int) -> str:
    """Why the values are not to be read; empty when they may be."""
    if dataset.dtype.kind != "f":
        return f"holds {dataset.dtype}, not floating-point numbers; it is no array of a model"
    n_bytes = dataset.size * dataset.dtype.itemsize
    if dataset.id.get_create_plist().get_nfilters():
        return "is compressed; unpack the file first: h5repack -f NONE packed.hdf5 weights.hdf5"
    in_file = min(file_size, dataset.id.get_storage_size())
    if dataset.is_virtual or dataset.external or in_file < n_bytes:
        return f"declares {n_bytes:,} bytes that are not in the file; fetch it again"
    return ""


def _safely(path: Path, read: Callable[[h5py.File], Result]) -> Result:
    """What ``read`` makes of the opened file.

    h5py tells of damage by whatever exception the damaged part leads to: OSError, RuntimeError, KeyError, ValueError,
    TypeError, UnicodeDecodeError, ...
    """
    try:
        with path.open("rb"):  # says in plain words why a file cannot be opened
            pass
        with h5py.File(path, "r") as file:
            return read(file)
    except UserError:
        raise
    except Exception as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())[:200]
        raise UserError(f"cannot read {path} as HDF5: {reason}; fetch it again") from error
