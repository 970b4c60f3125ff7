"""What tests of foreign models share."""

import pytest

from tests.interop import state_dicts


@pytest.fixture
def without_torch(request, monkeypatch):
    """Files of PyTorch are stood in for, but in tests that ask for ``with_torch``."""
    if "with_torch" not in request.fixturenames:
        state_dicts.stand_in(monkeypatch)


@pytest.fixture
def with_torch():
    """Skips the test, with the reason, where PyTorch is not installed."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
