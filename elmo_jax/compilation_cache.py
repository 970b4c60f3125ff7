"""Compiled programs kept on disk from process to process, which saves seconds to minutes before the first result."""

import hashlib
import logging
import os
import platform
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax

log = logging.getLogger(__name__)

# In place of a directory: keep nothing.
OFF = "off"


def enable(directory: str | Path | None = None) -> Path | None:
    """Let JAX keep every program that it compiles, small ones too, and find it again in later processes.

    Nothing in this package does so by itself but commands: it is a setting of the whole process. What the environment
    says goes first: JAX_COMPILATION_CACHE_DIR, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS, and
    JAX_ENABLE_COMPILATION_CACHE=false, which switches it off. A place that cannot be written, or programs that cannot
    be read, are one warning, and programs are compiled as if there were no cache.

    Args:
        directory: to keep programs in, those of each kind of processor in a directory of their own; None or "" for
            ``elmo_jax/xla`` in the user's cache directory ($XDG_CACHE_HOME, or ``~/.cache``); "off" for nowhere. It may
            be deleted at any time. It is made for this user alone; one that belongs to another user is not used. What
            JAX_COMPILATION_CACHE_DIR names is taken as it is.

    Returns:
        The directory in use; None when there is none.
    """
    if not jax.config.jax_enable_compilation_cache:  # type: ignore[attr-defined]
        return None
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if directory == OFF and not given:
        return None
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    used = Path(given) if given else Path(directory or caches / "elmo_jax" / "xla") / _processor()
    try:
        used.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not given:
            _refuse_shared(used)
        tempfile.TemporaryFile(dir=used).close()
    except OSError as error:
        log.warning("compiled programs are not kept: cannot write %s: %s", used, error.strerror or error)
        return None
    _warn_once(used)
    jax.config.update("jax_compilation_cache_dir", str(used))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return used


def _refuse_shared(directory: Path) -> None:
    """Let nobody else write to a directory of our own: it holds code that will be run.

    Raises:
        OSError: when it belongs to another user.
    """
    status = directory.stat()
    if status.st_uid != os.getuid():
        raise OSError("it belongs to another user, whose programs would be run")
    if status.st_mode & 0o077:
        directory.chmod(0o700)


def _processor() -> str:
    """A name for the kind of processor: programs for one may use instructions that another one lacks."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return f"{platform.machine()}-{hashlib.blake2b(features.encode(), digest_size=4).hexdigest()}"


def _warn_once(directory: Path) -> None:
    """Let one line stand for JAX's warnings, two lines for each program that it cannot read or write."""
    show, told = warnings.showwarning, False

    def showwarning(message: Any, *about: Any, **more: Any) -> None:
        nonlocal told
        if "persistent compilation cache" not in str(message):
            show(message, *about, **more)
        elif not told:
            told = True
            log.warning("programs are compiled anew: %s is damaged or full (%s); delete it", directory, message)

    warnings.showwarning = showwarning
