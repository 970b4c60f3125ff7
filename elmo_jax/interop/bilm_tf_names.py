"""One name for each array of bilm-tf: its programs have called the same thing by several (ELMO_SPEC 2.9, T6).

::

    RNN_0/RNN/MultiRNNCell/Cell1/LSTMCell/W_0       weights.hdf5, and what all others become here
    RNN_0/RNN/LSTMCell/W_0                          exported from a model of one layer
    rnn/MultiRNNCell/Cell1/LSTMCell/kernel          exported from a model of one direction
    lm/RNN_0/rnn/multi_rnn_cell/cell_1/lstm_cell/kernel         variable of a TensorFlow checkpoint
"""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from elmo_jax.errors import UserError

Array = TypeVar("Array")

_CELL = re.compile(
    r"(?:RNN_(?P<direction>\d+)/)?(?:RNN|rnn)/"
    r"(?:MultiRNNCell/Cell(?P<layer>\d+)/|multi_rnn_cell/cell_(?P<cell>\d+)/)?"
    r"(?:LSTMCell|lstm_cell)/(?P<part>W_0|kernel|B|bias|W_P_0|projection/kernel)"
)
_PARTS = {"kernel": "W_0", "bias": "B", "projection/kernel": "W_P_0"}


def dataset_name(name: str) -> str:
    """The name in ``weights.hdf5`` of what is called ``name`` somewhere; other names stay as they are.

    Example:
        >>> dataset_name("lm/RNN_1/rnn/lstm_cell/bias")
        'RNN_1/RNN/MultiRNNCell/Cell0/LSTMCell/B'
    """
    name = name.removeprefix("lm/")
    cell = _CELL.fullmatch(name)
    if cell is None:
        return name
    layer, part = cell["layer"] or cell["cell"] or "0", cell["part"]
    return f"RNN_{cell['direction'] or 0}/RNN/MultiRNNCell/Cell{layer}/LSTMCell/{_PARTS.get(part, part)}"


def by_dataset_name(arrays: Mapping[str, Array], source: str) -> dict[str, Array]:
    """``arrays`` under their names in ``weights.hdf5``.

    Raises:
        UserError: when two of them would have one name.
    """
    first: dict[str, str] = {}
    for name in arrays:
        if (other := first.setdefault(dataset_name(name), name)) != name:
            raise UserError(f"{source} has both {other} and {name}, two names of one array; remove the wrong one")
    return {dataset: arrays[name] for dataset, name in first.items()}


def is_model(top_names: Iterable[str]) -> bool:
    """Whether a file with groups of these names holds the LSTMs of a model."""
    return any(re.fullmatch(r"RNN_\d+|RNN|rnn|lm", name) for name in top_names)
