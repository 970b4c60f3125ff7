"""Fixtures that run command lines in this process."""

import re

import pytest

from tests.filesystems import contents


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mistake(elmo, folder):
    """Runs a command line that is refused and leaves everything as it was; gives what it says."""

    def run(*arguments: str) -> str:
        before = contents(folder)
        status, out, err = elmo(*arguments)
        assert (status, out) == (2, "")
        assert re.fullmatch(r"elmo: [^\n]+\n", err)
        assert contents(folder) == before
        return err.removeprefix("elmo: ").rstrip()

    return run
