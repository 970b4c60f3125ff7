"""Programs kept on disk: where the environment says, or where it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from elmo_jax.embed import compilation_cache

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """The settings of the test run, and an environment without any."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for name in SETTINGS:
        monkeypatch.delenv(name.upper(), raising=False)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_users_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compilation_cache.enable() == tmp_path / "elmo_jax" / "xla"
    assert [getattr(jax.config, name) for name in SETTINGS] == [str(tmp_path / "elmo_jax" / "xla"), 0.0]
    assert compilation_cache.enable(tmp_path / "mine") == tmp_path / "mine"


def test_the_environment_goes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    seconds = getattr(jax.config, SETTINGS[1])
    assert compilation_cache.enable(tmp_path / "mine") == tmp_path / "theirs"
    assert getattr(jax.config, SETTINGS[1]) == seconds


def test_a_library_user_is_not_surprised():
    """Importing and using the package sets nothing."""
    code = f"import jax, elmo_jax.embed; print([getattr(jax.config, name) for name in {SETTINGS}])"
    environment = {name: value for name, value in os.environ.items() if name.lower() not in SETTINGS}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout == "[None, 1.0]\n"
