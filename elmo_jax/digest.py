"""The bits of every array of a tree as one number, the same under every sharding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


def leaves_by_path(tree: Tree) -> dict[str, Any]:
    """The leaves of any tree by a path of names, indices and fields: ``{"encoder/cnn_0/kernel": ...}``.

    Raises:
        ValueError: when two leaves have the same path, which takes a key with a slash in it.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        raise ValueError("two leaves of the tree have the same path: keys must not contain '/'")
    return named


def digest(tree: Tree) -> dict[str, int]:
    """A 32-bit digest of every leaf, by its path: the sum over its words ``w_i`` of ``mix(w_i + K i)``, modulo 2**32.

    ``mix`` is a bijection (the finaliser of MurmurHash3, Appleby 2011), so a change within one word always changes the
    digest, and any other change does but for one in 2**32. A sum of integers depends neither on their order nor on how
    the array is spread over devices. A word has 32 bits; elements that are narrower are a word each.

    Args:
        tree: of JAX or NumPy arrays of any shape, dtype and sharding.

    Example:
        >>> digest({"a": np.zeros(2, np.float32)}) == digest({"a": jnp.zeros(2)})
        True
    """
    groups: dict[frozenset[Any], dict[str, Any]] = {}
    for path, leaf in leaves_by_path(tree).items():
        if isinstance(leaf, jax.Array):
            groups.setdefault(frozenset(leaf.sharding.device_set), {})[path] = leaf
        else:
            groups.setdefault(frozenset(), {})[path] = _host_words(np.asarray(leaf))
    # One computation takes only arrays of the same devices; all are dispatched before the first is waited for.
    dispatched = [(list(group), _digests(list(group.values()))) for group in groups.values()]
    values = {path: int(value) for paths, row in dispatched for path, value in zip(paths, np.asarray(row), strict=True)}
    return {path: values[path] for path in sorted(values)}


def _host_words(array: np.ndarray) -> np.ndarray:
    """The bits as flat unsigned integers of at most 32 bits: JAX would round 64-bit numbers unless told otherwise."""
    return np.ascontiguousarray(array).reshape(-1).view(f"u{min(array.dtype.itemsize, 4)}")


@jax.jit
def _digests(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_digest(leaf) for leaf in leaves])


def _digest(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    word = {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        position = position * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    h = words + position * jnp.uint32(0x9E3779B1)
    h = (h ^ (h >> 16)) * jnp.uint32(0x85EBCA6B)
    h = (h ^ (h >> 13)) * jnp.uint32(0xC2B2AE35)
    return (h ^ (h >> 16)).sum(dtype=jnp.uint32)
