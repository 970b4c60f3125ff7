"""One checkpoint on disk: its items, the seal over its JSON, and the proof that what was read is what was saved."""

import contextlib
import functools
import gc
import hashlib
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from elmo_jax.digest import digest, leaves_by_path
from elmo_jax.errors import UserError

Tree = Any
# Leaves by path, of the items "params" and "state".
Items = Mapping[str, Mapping[str, Any]]
FORMAT = 1
# A fresh state is mostly zeros, which take no room on disk, but the weights beside it do.
MAX_GROWTH, SMALL = 20, 1 << 26

_log = logging.getLogger("elmo_jax")


class DamagedError(Exception):
    """A checkpoint that cannot be read, or is not what was saved; the message is the reason."""


def saved_steps(directory: Path) -> list[int]:
    """Steps with a directory, newest first. A save under way has another name until it is complete.

    Raises:
        UserError: when the directory is there and cannot be read.
    """
    try:
        names = [entry.name for entry in directory.iterdir()] if directory.exists() else []
    except OSError as error:
        raise UserError(f"cannot read checkpoints in {directory}: {reason_of(error)}; choose another") from error
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def perplexities(directory: Path) -> dict[int, float]:
    """Perplexity by step, of the checkpoints that were saved with one and whose JSON can be read."""
    found = {}
    for step in saved_steps(directory):
        try:
            found[step] = read_meta(directory, step)["perplexity"]
        except DamagedError:
            continue  # It is named when somebody wants to read it.
    return {step: value for step, value in found.items() if value is not None}


def prepared(tree: Tree) -> dict[str, Any]:
    """Leaves by path as they are handed to the writer: JAX arrays as they are, all else as NumPy copies of its own."""
    return {path: x if isinstance(x, jax.Array) else np.array(x) for path, x in leaves_by_path(tree).items()}


def targets(tree: Tree) -> dict[str, Any]:
    """Leaves by path as they are wanted back: NumPy arrays, or shapes with a sharding."""

    def target(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            return np.asarray(leaf)
        sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return {path: target(leaf) for path, leaf in leaves_by_path(tree).items()}


def nested(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from leaves by path."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return tree


def sealed_meta(step: int, items: Items, meta: dict[str, Any], perplexity: float | None) -> dict[str, Any]:
    """The JSON item: the caller's, the step, a table of all leaves with their digests, and a SHA-256 of it all."""
    document = {"format": FORMAT, "step": step, "perplexity": perplexity, "meta": meta, "leaves": _table(items)}
    return {**document, "sha256": _seal(document)}


def read_meta(directory: Path, step: int) -> dict[str, Any]:
    """What ``sealed_meta`` made.

    Raises:
        DamagedError: when it is absent, unreadable or altered.
        UserError: when a later version of this program wrote it.
    """
    try:
        document = json.loads((directory / str(step) / "meta" / "metadata").read_bytes())
    except FileNotFoundError:
        raise DamagedError("its meta/metadata is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedError(f"its meta/metadata cannot be read: {reason_of(error)}") from None
    if not isinstance(document, dict) or document.pop("sha256", None) != _seal(document):
        raise DamagedError("its meta/metadata was altered")
    if document["step"] != step:
        raise DamagedError(f"it is a copy of checkpoint {document['step']}")
    if document["format"] != FORMAT:
        raise UserError(
            f"checkpoint {step} in {directory} has format {document['format']}, this program reads {FORMAT}; "
            "use the version that wrote it"
        )
    return document


def newest_meta(directory: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and JSON of the newest checkpoint whose JSON is intact, None when there is no checkpoint; reads no arrays.

    Raises:
        UserError: when the JSON of all of them is damaged.
    """
    reasons = []
    for step in saved_steps(directory):
        try:
            return step, read_meta(directory, step)["meta"]
        except DamagedError as damage:
            reasons.append(f"{step} ({damage})")
            _log.warning("checkpoint %d in %s is damaged: %s; trying the one before", step, directory, damage)
    if reasons:
        raise UserError(
            f"no checkpoint in {directory} can be read: {', '.join(reasons)}; "
            "put a copy back, or start again in another run directory"
        )
    return None


def require_same(table: Mapping[str, Any], wanted: Items, source: str) -> None:
    """Compare names, shapes and dtypes before reading: Orbax would cast to the dtype that is asked for.

    Raises:
        UserError: naming the first differences.
    """
    saved = {path: _describe(shape, dtype) for path, (dtype, shape, _) in table.items()}
    asked = {path: _describe(leaf.shape, leaf.dtype) for path, leaf in leaves_by_path(wanted).items()}
    differing = [path for path in sorted({*saved, *asked}) if saved.get(path) != asked.get(path)]
    if differing:
        shown = (f"{p} is {saved.get(p, 'absent')} there and {asked.get(p, 'absent')} here" for p in differing[:3])
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(
            f"{source} does not fit this configuration: {', '.join(shown)}{more}; use the run's own config.json"
        )


def read_arrays(directory: Path, document: Mapping[str, Any], wanted: Items) -> dict[str, dict[str, Any]]:
    """The leaves of the items in ``wanted``, each under the sharding wanted, compared with the table of ``read_meta``.

    Raises:
        DamagedError: when a file is missing or unreadable or any bit differs from what was saved.
    """
    _refuse_growth(directory / str(document["step"]), wanted)
    arguments = {item: ocp.args.StandardRestore(nested(leaves)) for item, leaves in wanted.items()}
    path, failure = directory / str(document["step"]), ""
    with _one_complaint_a_failure(), ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        try:
            found = reader.restore(path, args=ocp.args.Composite(**arguments))
        except jax.errors.JaxRuntimeError:
            raise  # The devices, such as too little memory; not the files.
        # Damage shows as OSError, ValueError, KeyError or a bare Exception, depending on the file.
        except Exception as error:
            failure = reason_of(error)
        if failure:
            gc.collect()
            raise DamagedError(failure)
    items = {item: leaves_by_path(found[item]) for item in wanted}
    table = _table(items)
    for name in sorted({*table, *document["leaves"]}):
        if table.get(name) != document["leaves"].get(name):
            raise DamagedError(f"{name} is not what was saved")
    return items


def _refuse_growth(path: Path, wanted: Items) -> None:
    """Refuse arrays that are far larger than the files they are said to be in: nobody trained them.

    Raises:
        DamagedError: when they are.
    """
    declared = sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaves in wanted.values() for leaf in leaves.values()
    )
    on_disk = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    if declared > SMALL + MAX_GROWTH * on_disk:
        raise DamagedError(f"it declares arrays of {declared:,} bytes, and its files have {on_disk:,}")


def reason_of(error: BaseException) -> str:
    """The first cause of an error as one line of moderate length; the end of a long one says most."""
    while error.__cause__ is not None:
        error = error.__cause__
    name = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
    text = name + " ".join(str(error).split(" [tensorstore_spec")[0].split())
    return text if len(text) <= 200 else f"{text[:60]} ... {text[-130:]}"


@contextlib.contextmanager
def _one_complaint_a_failure() -> Iterator[None]:
    """When one read fails, Orbax drops the others unfinished, and each would complain when it is collected."""
    asyncio_log, level = logging.getLogger("asyncio"), logging.getLogger("asyncio").level
    asyncio_log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
    finally:
        asyncio_log.setLevel(level)


def _abandoned_is_silent(show: Callable[[Any], None], unraisable: Any) -> None:
    """Show what nobody could catch, unless it comes from a read or write beside one that failed.

    Orbax then ends its event loop under the others: each of its coroutines complains when it is collected, and
    TensorStore, from a thread of its own, when it is done later. The failure itself has been raised.
    """
    code = getattr(unraisable.object, "cr_code", None)
    of_orbax = code is not None and "orbax" in Path(code.co_filename).parts
    late = unraisable.exc_type is RuntimeError and str(unraisable.exc_value) == "Event loop is closed"
    if not (of_orbax or late):
        show(unraisable)


sys.unraisablehook = functools.partial(_abandoned_is_silent, sys.unraisablehook)


def _table(items: Items) -> dict[str, list[Any]]:
    """Of every leaf ``[dtype, shape, digest]``, by ``item/path``."""
    digests = digest(items)
    leaves = leaves_by_path(items)
    return {path: [str(leaf.dtype), list(leaf.shape), digests[path]] for path, leaf in leaves.items()}


def _seal(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _describe(shape: Any, dtype: Any) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"
