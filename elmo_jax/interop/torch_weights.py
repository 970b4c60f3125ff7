"""Weights of PyTorch: a state dict read as data and never as code, and its modules as leaves of our parameter tree.

AllenNLP and ELMoForManyLangs are built of the same modules (ELMO_SPEC 2.9, 2.14), which differ from ours in layout:

* kernels are transposed, those of convolutions are ``[filters, characters, width]``;
* the gates of an LSTM are in the order i, f, j, o, ours i, j, f, o, and the forget bias 1 is in its bias;
* a highway layer has one kernel, the transform above the gate, and its gate weighs the *untransformed* part.
"""

import contextlib
import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from elmo_jax.config import LSTM
from elmo_jax.data.compression import most_unpacked
from elmo_jax.errors import UserError

Array = npt.NDArray[np.float32]

# In a shape: any size.
ANY = -1


def read(file: Path | IO[bytes], name: str) -> dict[str, Array]:
    """The tensors of a file of ``torch.save``, as float32 arrays by their names.

    Args:
        file: path or stream of a state dict.
        name: of the file, in errors.

    Raises:
        UserError: when PyTorch is missing, the file is damaged, or it holds anything but tensors: a pickle can run any
            code, so what would need it is not loaded.
    """
    try:
        import torch
    except ImportError as error:
        raise UserError(f"{name} is a file of PyTorch, which is missing: pip install 'elmo-jax[torch]'") from error
    n_bytes = _refuse_growth(file, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old files are read by way of deprecated classes
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file ends in errors of every kind
        refused = re.search(r"GLOBAL (\S+) (?:was not an allowed global|whose module)", str(error))
        if refused:
            raise UserError(
                f"{name} holds {refused[1]}, which is no tensor: loading it could run code, so it is not loaded; save "
                "the state dict of the model alone"
            ) from error
        # PyTorch's advice around the reason is to load such files all the same.
        reason = " ".join(re.sub(r"(?s).*WeightsUnpickler error:|Check the documentation.*", "", str(error)).split())
        raise UserError(
            f"{name} is damaged, or no file of weights that PyTorch reads as plain data ({reason[:120]}): fetch it "
            "again, or save the state dict of the model with torch.save"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise UserError(f"{name} holds no weights by name; give the file of a state dict")
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    # A view may repeat a number as often as it likes, and so may names.
    if sum(4 * tensor.numel() for tensor in tensors.values()) > most_unpacked(n_bytes):
        raise UserError(f"{name} declares more numbers than it holds: it is no file of weights; fetch it again")
    return {key: tensor.detach().to(torch.float32).numpy() for key, tensor in tensors.items()}


def _refuse_growth(file: Path | IO[bytes], name: str) -> int:
    """Refuse a zip file whose parts are larger than itself, which PyTorch never writes; the bytes of the file.

    Raises:
        UserError: when it does, or cannot be read.
    """
    try:
        with file.open("rb") if isinstance(file, Path) else contextlib.nullcontext(file) as stream:
            n_bytes = stream.seek(0, io.SEEK_END)
            unpacked = 0
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as archive:
                    unpacked = sum(part.file_size for part in archive.infolist())
            stream.seek(0)
    except (OSError, ValueError, zipfile.BadZipFile):
        return 0  # PyTorch says what is wrong with it
    if unpacked > n_bytes:
        raise UserError(f"{name} would grow to {unpacked:,} bytes: it is no file of weights; fetch it again")
    return n_bytes


class Weights:
    """The arrays of a state dict below a prefix.

    Args:
        arrays: all of the state dict, by name.
        prefix: of the names that are meant.
        origin: the file, in errors.
    """

    def __init__(self, arrays: Mapping[str, Array], prefix: str, origin: str) -> None:
        self.arrays, self.prefix, self.origin = arrays, prefix, origin

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self.arrays

    def below(self, prefix: str) -> "Weights":
        """Those below a further prefix."""
        return Weights(self.arrays, self.prefix + prefix, self.origin)

    def count(self, pattern: str) -> int:
        """How many of ``pattern.format(0)``, ``pattern.format(1)``, ... there are before the first that is missing."""
        number = 0
        while pattern.format(number) in self:
            number += 1
        return number

    def take(self, name: str, *shape: int) -> Array:
        """The array of a name.

        Args:
            name: below the prefix.
            shape: that it must have; ``ANY`` fits every size.

        Raises:
            UserError: when it is missing, has another shape, or holds values that are not finite.
        """
        full, array = self.prefix + name, self.arrays.get(self.prefix + name)
        expected = str(shape).replace(str(ANY), "any")
        if array is None:
            raise UserError(f"{self.origin} has no {full} {expected}; is it the whole model?")
        if len(array.shape) != len(shape) or any(e not in (ANY, n) for n, e in zip(array.shape, shape, strict=True)):
            raise UserError(f"{self.origin}: {full} is {array.shape}, the rest of the model needs {expected}")
        if not np.isfinite(array).all():
            raise UserError(f"{self.origin}: {full} holds values that are not finite; the training of it failed")
        return array

    def linear(self, name: str, n_in: int, n_out: int) -> dict[str, Array]:
        """``kernel [in, out]`` and ``bias [out]`` of a linear layer."""
        return {
            "kernel": _transposed(self.take(f"{name}.weight", n_out, n_in)),
            "bias": self.take(f"{name}.bias", n_out),
        }

    def convolution(self, name: str, dim: int) -> dict[str, Array]:
        """``kernel [width, dim, filters]`` and ``bias [filters]`` of a convolution over characters."""
        weight = self.take(f"{name}.weight", ANY, dim, ANY)
        kernel = np.ascontiguousarray(weight.transpose(2, 1, 0))
        return {"kernel": kernel, "bias": self.take(f"{name}.bias", len(weight))}

    def highway(self, name: str, width: int) -> dict[str, Array]:
        """The leaves of a highway layer: the gate of ours weighs the transformed part, so its sign is turned."""
        transform, gate = np.split(self.take(f"{name}.weight", 2 * width, width), 2)
        transform_bias, gate_bias = np.split(self.take(f"{name}.bias", 2 * width), 2)
        return {
            "carry_kernel": -_transposed(gate),
            "carry_bias": -gate_bias,
            "transform_kernel": _transposed(transform),
            "transform_bias": transform_bias.copy(),
        }


def lstm_shapes(weights: Weights) -> LSTM:
    """A stack of LSTMs in two directions as the shapes of its arrays tell it; what they do not tell is as published."""
    p, c = weights.take("forward_layer_0.state_projection.weight", ANY, ANY).shape
    if p >= c:
        raise UserError(
            f"{weights.prefix}forward_layer_0 projects {c} cells to {p}: only a projection to fewer can be read"
        )
    return LSTM(dim=c, projection_dim=p, n_layers=weights.count("forward_layer_{}.input_linearity.weight"))


def lstm_layers(weights: Weights, lstm: LSTM) -> dict[str, dict[str, Array]]:
    """``lstm_{l}`` of the parameter tree, both directions side by side."""
    return {f"lstm_{l}": _layer(weights, l, lstm.dim, lstm.projection_dim) for l in range(lstm.n_layers)}


def _layer(weights: Weights, number: int, c: int, p: int) -> dict[str, Array]:
    directions = []
    for direction in ("forward", "backward"):
        cell = weights.below(f"{direction}_layer_{number}.")
        bias = _gates(cell.take("state_linearity.bias", 4 * c))
        bias[2 * c : 3 * c] -= 1  # ours adds the forget bias itself
        directions.append(
            {
                "input_kernel": _transposed(_gates(cell.take("input_linearity.weight", 4 * c, p))),
                "recurrent_kernel": _transposed(_gates(cell.take("state_linearity.weight", 4 * c, p))),
                "bias": bias,
                "projection": _transposed(cell.take("state_projection.weight", p, c)),
            }
        )
    return {name: np.stack([leaves[name] for leaves in directions]) for name in directions[0]}


def _gates(rows: Array) -> Array:
    """Rows for the gates i, f, j, o in the order i, j, f, o."""
    i, f, j, o = np.split(rows, 4)
    return np.concatenate([i, j, f, o])


def _transposed(matrix: Array) -> Array:
    return np.ascontiguousarray(matrix.T)
