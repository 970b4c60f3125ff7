"""Where the recorded models and texts are that some tests compare with: they are no part of the repository."""

import os
from pathlib import Path

import pytest

BESIDE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str) -> Path:
    """The file or folder ``path`` below ``$ELMO_SHARED``, or below the folder ``shared`` beside the repository.

    Without it the calling test is skipped, with the reason.
    """
    found = Path(os.environ.get("ELMO_SHARED", BESIDE_REPOSITORY)) / path
    if not found.exists():
        pytest.skip(f"{found} is absent: set ELMO_SHARED to the folder that has {path}")
    return found
