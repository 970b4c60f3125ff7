"""Benchmarks are scripts: they import one another by their file names."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """The folders of the scripts on the path, and none of their modules left behind."""
    before = set(sys.modules)
    for folder in (BENCHMARKS / "peers", BENCHMARKS):
        monkeypatch.syspath_prepend(str(folder))
    yield BENCHMARKS
    names = {file.stem for file in BENCHMARKS.rglob("*.py")}
    for name in names & (set(sys.modules) - before):
        del sys.modules[name]
