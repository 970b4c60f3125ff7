"""Work that follows the data while shapes stay static: a function applied to the first ``n`` rows of a padded array.

Used twice: the distinct types of a batch go through the character encoder, and the targets of a rare cluster through
its part of the adaptive softmax. Rows are taken a chunk at a time, as many chunks as ``n`` needs, and the backward
pass computes each chunk anew, so memory holds the intermediates of one chunk only. Nothing is dropped and nothing
capped.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any


@partial(jax.custom_vjp, nondiff_argnums=(0, 4))
def compact(
    function: Callable[[Tree, Tree], jax.Array], params: Tree, rows: Tree, n: jax.Array, chunk: int
) -> jax.Array:
    """``function(params, rows)`` for the first ``n`` rows, zeros for the rest.

    Args:
        function: maps ``params`` and a tree of arrays ``[rows, ...]`` to one array ``[rows, ...]``, each row by itself.
            It must hold no collective: devices may run different numbers of chunks.
        params: any tree; gradients flow to its floating leaves.
        rows: tree of arrays that share their first dimension R; gradients flow to floating leaves.
        n: int32 scalar, 0 <= n <= R.
        chunk: rows worked off at a time.

    Returns:
        Array ``[R, ...]``.

    Example:
        >>> compact(lambda w, x: x * w, jnp.float32(2.0), jnp.ones((4, 1)), jnp.int32(3), 2).ravel()
        Array([2., 2., 2., 0.], dtype=float32)
    """
    return _forward(function, params, rows, n, chunk)


def _forward(
    function: Callable[[Tree, Tree], jax.Array], params: Tree, rows: Tree, n: jax.Array, chunk: int
) -> jax.Array:
    size = _size(rows)
    chunk = min(chunk, size)
    shape = jax.eval_shape(lambda p, r: function(p, _take(r, 0, chunk)), params, rows)

    def body(i: jax.Array, out: jax.Array) -> jax.Array:
        start = jnp.minimum(i * chunk, size - chunk)
        value = function(params, _take(rows, start, chunk))
        row = start + jnp.arange(chunk)
        return jax.lax.dynamic_update_slice_in_dim(out, _mask(value, row < n), start, 0)

    return jax.lax.fori_loop(0, _n_chunks(n, chunk), body, jnp.zeros((size, *shape.shape[1:]), shape.dtype))


def _forward_rule(function: Any, params: Tree, rows: Tree, n: jax.Array, chunk: int) -> tuple[jax.Array, Tree]:
    return _forward(function, params, rows, n, chunk), (params, rows, n)


def _backward_rule(function: Any, chunk: int, saved: Tree, cotangent: jax.Array) -> Tree:
    params, rows, n = saved
    size = _size(rows)
    chunk = min(chunk, size)
    (p_floats, p_merge), (r_floats, r_merge) = _split(params), _split(rows)

    def body(i: jax.Array, sums: Tree) -> Tree:
        p_sums, r_sums = sums
        start = jnp.minimum(i * chunk, size - chunk)
        row = start + jnp.arange(chunk)
        # The last chunk starts early enough to fit: rows that an earlier chunk has had count once.
        fresh = (row >= i * chunk) & (row < n)
        here = _take(r_merge(r_floats), start, chunk)
        here_floats, here_merge = _split(here)
        _, vjp = jax.vjp(lambda p, r: function(p_merge(p), here_merge(r)), p_floats, here_floats)
        p_grads, r_grads = vjp(_mask(_take(cotangent, start, chunk), fresh))
        r_sums = [
            jax.lax.dynamic_update_slice_in_dim(s, _take(s, start, chunk) + g, start, 0)
            for s, g in zip(r_sums, r_grads, strict=True)
        ]
        return [s + g for s, g in zip(p_sums, p_grads, strict=True)], r_sums

    zeros = ([jnp.zeros_like(p) for p in p_floats], [jnp.zeros_like(r) for r in r_floats])
    p_sums, r_sums = jax.lax.fori_loop(0, _n_chunks(n, chunk), body, zeros)
    return _cotangent(params, p_sums), _cotangent(rows, r_sums), _cotangent(n, [])


compact.defvjp(_forward_rule, _backward_rule)


def _size(rows: Tree) -> int:
    return jax.tree.leaves(rows)[0].shape[0]


def _n_chunks(n: jax.Array, chunk: int) -> jax.Array:
    return (n + chunk - 1) // chunk


def _take(rows: Tree, start: int | jax.Array, chunk: int) -> Tree:
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk, 0), rows)


def _mask(value: jax.Array, keep: jax.Array) -> jax.Array:
    return jnp.where(keep.reshape(-1, *(1,) * (value.ndim - 1)), value, 0)


def _is_float(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def _split(tree: Tree) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Tree]]:
    """The floating leaves of a tree, and the function that puts such leaves back among the others."""
    leaves, structure = jax.tree.flatten(tree)

    def merge(floats: list[jax.Array]) -> Tree:
        parts = iter(floats)
        return jax.tree.unflatten(structure, [next(parts) if _is_float(leaf) else leaf for leaf in leaves])

    return [leaf for leaf in leaves if _is_float(leaf)], merge


def _cotangent(tree: Tree, floats: list[jax.Array]) -> Tree:
    """A cotangent for ``tree``: the given sums for floating leaves, the empty one for integers."""
    leaves, structure = jax.tree.flatten(tree)
    parts = iter(floats)
    filled = [next(parts) if _is_float(leaf) else np.zeros(jnp.shape(leaf), jax.dtypes.float0) for leaf in leaves]
    return jax.tree.unflatten(structure, filled)
