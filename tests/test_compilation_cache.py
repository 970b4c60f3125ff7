"""Programs kept on disk: where the environment says, or where it is asked for; they are never a reason to fail."""

import dataclasses
import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import pytest

from elmo_jax import compilation_cache
from elmo_jax.config import Config, Data
from elmo_jax.errors import UserError

SETTINGS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
# Compiles a program that gives its argument's buffer away, and prints the bits of its results.
PROGRAM = """
import jax, jax.numpy as jnp, sys
from elmo_jax import compilation_cache
import logging; logging.basicConfig(format="%(message)s")
compilation_cache.enable(sys.argv[1])
step = jax.jit(lambda state, x: (state + jnp.tanh(x @ state), (x @ state).sum()), donate_argnums=0)
state, x = jax.random.normal(jax.random.key(0), (2, 64, 64))
for _ in range(5):
    state, total = step(state, x)
    print(float(total).hex(), float(jnp.abs(state).sum()).hex())
"""


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """The settings of the test run, and an environment without any."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    for name in SETTINGS:
        monkeypatch.delenv(name.upper(), raising=False)
    # It is replaced to make one line of many.
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def run(directory: Path) -> tuple[str, str]:
    """Standard output and error of ``PROGRAM``."""
    command = [sys.executable, "-c", PROGRAM, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    return done.stdout, done.stderr


def test_the_users_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    used = compilation_cache.enable()
    assert used is not None
    assert used.parent == tmp_path / "elmo_jax" / "xla"
    assert [getattr(jax.config, name) for name in SETTINGS] == [str(used), 0.0]
    assert compilation_cache.enable("") == used
    assert compilation_cache.enable(tmp_path / "mine") == tmp_path / "mine" / used.name


def test_nobody_else_may_write_there(tmp_path):
    used = compilation_cache.enable(tmp_path / "mine")
    assert used is not None
    assert stat.S_IMODE(used.stat().st_mode) == 0o700


def test_a_directory_that_others_could_write_is_for_this_user_alone_from_now_on(tmp_path):
    used = compilation_cache.enable(tmp_path / "mine")
    used.chmod(0o777)
    assert compilation_cache.enable(tmp_path / "mine") == used
    assert stat.S_IMODE(used.stat().st_mode) == 0o700


def test_a_directory_of_another_user_is_not_used(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    before = jax.config.jax_compilation_cache_dir
    assert compilation_cache.enable(tmp_path / "theirs") is None
    assert "belongs to another user, whose programs would be run" in caplog.text
    assert jax.config.jax_compilation_cache_dir == before


def test_what_the_environment_names_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "shared").mkdir(mode=0o755)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "shared"))
    assert compilation_cache.enable() == tmp_path / "shared"
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755


@pytest.mark.parametrize("place", ["runs/a", "runs/a/xla", "runs/b/../a/xla"])
def test_it_is_never_in_a_run_directory(tmp_path, monkeypatch, place):
    """Runs are passed on, and the programs in a cache are executed."""
    monkeypatch.chdir(tmp_path)
    config = Config(run_dir="runs/a", data=Data(source="pydoc"))
    dataclasses.replace(config, compilation_cache="runs/xla").validate()
    dataclasses.replace(config, compilation_cache="off").validate()
    with pytest.raises(UserError, match=r"compilation_cache is .* must not lie in the run directory"):
        dataclasses.replace(config, compilation_cache=place).validate()


def test_the_environment_goes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "theirs"))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "3")
    seconds = getattr(jax.config, SETTINGS[1])
    assert compilation_cache.enable(tmp_path / "mine") == tmp_path / "theirs"
    assert compilation_cache.enable("off") == tmp_path / "theirs"
    assert getattr(jax.config, SETTINGS[1]) == seconds


def test_it_can_be_switched_off(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compilation_cache.enable("off") is None
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        assert compilation_cache.enable() is None
    finally:
        jax.config.update("jax_enable_compilation_cache", True)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_a_warning(tmp_path, caplog):
    (tmp_path / "file").touch()
    before = jax.config.jax_compilation_cache_dir
    assert compilation_cache.enable(tmp_path / "file" / "cache") is None
    assert jax.config.jax_compilation_cache_dir == before
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("compiled programs are not kept: cannot write ")


def test_a_program_found_again_computes_the_same_bits_and_says_nothing(tmp_path):
    first, second = run(tmp_path), run(tmp_path)
    assert first == second
    assert first[1] == ""
    assert any(tmp_path.glob("*/*-cache"))


def test_damaged_programs_are_one_warning(tmp_path):
    whole, _ = run(tmp_path)
    kept = list(tmp_path.glob("*/*-cache"))
    assert len(kept) > 1
    for path in kept:
        path.write_bytes(path.read_bytes()[:50])
    found, said = run(tmp_path)
    assert found == whole
    assert said.count("\n") == 1
    assert said.startswith(f"programs are compiled anew: {kept[0].parent} is damaged or full (Error reading")


def test_a_library_user_is_not_surprised():
    """Importing and using the package sets nothing."""
    code = f"import jax, elmo_jax.embed; print([getattr(jax.config, name) for name in {SETTINGS}])"
    environment = {name: value for name, value in os.environ.items() if name.lower() not in SETTINGS}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout == "[None, 1.0]\n"
