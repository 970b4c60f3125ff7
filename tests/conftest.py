"""The devices and precision of all tests, set before jax is imported: eight virtual CPU devices, float32 products."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # Eight devices share a few cores: a slow machine is not a deadlock.
        "--xla_cpu_collective_call_warn_stuck_timeout_seconds=120",
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
    ]
).strip()

# Tests compile the same small programs again and again: once is enough.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# Timings never decide a test.
settings.register_profile("elmo_jax", deadline=None)
settings.load_profile("elmo_jax")


@pytest.fixture(scope="module")
def hastily():
    """Compile in half the time, for modules whose many programs run once each."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def elmo(capsys):
    """Runs a command line in this process and gives its exit status, standard output and standard error."""
    from elmo_jax import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run
