"""Compiled programs kept on disk from process to process, which saves seconds before the first vector."""

import os
from pathlib import Path

import jax


def enable(directory: str | Path | None = None) -> Path:
    """Let JAX keep every program that it compiles, small ones too, and find it again in later processes.

    Nothing in this package does so by itself but commands: it is a setting of the whole process. What the environment
    says goes first: JAX_COMPILATION_CACHE_DIR, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS.

    Args:
        directory: to keep programs in; None for ``elmo_jax/xla`` in the user's cache directory ($XDG_CACHE_HOME, or
            ``~/.cache``). It may be deleted at any time.

    Returns:
        The directory in use.
    """
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    used = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR") or directory or caches / "elmo_jax" / "xla")
    jax.config.update("jax_compilation_cache_dir", str(used))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return used
