"""elmo_jax: pretraining of bidirectional character language models (ELMo) in JAX and Flax, and using any of them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elmo_jax.interop.pretrained import Pretrained

__all__ = ["__version__", "from_pretrained"]

__version__ = "0.1.0"


def from_pretrained(model: str | Path, step: int | None = None) -> "Pretrained":
    """The model at a path, or on Hugging Face's hub: weights, configuration, vocabulary and what is known of them.

    Args:
        model: a run directory (its best weights), a pretrained directory, files of other programs, or the id of a model
            on the hub, ``"organisation/name"`` or ``"organisation/name@revision"``; what is on disk comes first.
        step: of a run: the checkpoint to take instead of the best.

    Returns:
        What every tool takes: ``Embedder(model)``, ``model.save_pretrained(directory)``, ...

    Raises:
        UserError: when there is no such model, or it is damaged.

    Example:
        >>> model = elmo_jax.from_pretrained("runs/quickstart")
        >>> model.config.model.lstm.projection_dim
        64
    """
    from elmo_jax.train import trained

    return trained.load(Path(model), step)
