"""Work that follows the data while shapes stay static: a function applied to the first ``n`` rows of a padded array.

Used twice: the distinct types of a batch go through the character encoder, and the targets of a rare cluster through
its part of the adaptive softmax. Rows are taken a chunk at a time, as many chunks as ``n`` needs. The backward pass
computes each chunk anew, so that memory holds the intermediates of one chunk only, or has them kept. Nothing is dropped
and nothing capped.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from elmo_jax.model.residuals import Residuals

Tree = Any


@partial(jax.custom_vjp, nondiff_argnums=(0, 4, 5))
def compact(
    function: Callable[[Tree, Tree], jax.Array], params: Tree, rows: Tree, n: jax.Array, chunk: int, keep: bool = False
) -> jax.Array:
    """``function(params, rows)`` for the first ``n`` rows, zeros for the rest.

    Args:
        function: maps ``params`` and a tree of arrays ``[rows, ...]`` to one array ``[rows, ...]``, each row by itself.
            It must hold no collective: devices may run different numbers of chunks.
        params: any tree; gradients flow to its floating leaves.
        rows: tree of arrays that share their first dimension R; gradients flow to floating leaves.
        n: int32 scalar, 0 <= n <= R.
        chunk: rows worked off at a time.
        keep: for gradients, keep what ``jax.vjp`` of the function keeps for all R rows, instead of computing it anew.

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
    chunks = _Chunks(rows, n, chunk)

    def body(i: jax.Array, out: jax.Array) -> jax.Array:
        return chunks.put(out, i, function(params, chunks.take(rows, i)))

    return jax.lax.fori_loop(0, chunks.number, body, chunks.room(function, params, rows))


def _forward_rule(
    function: Any, params: Tree, rows: Tree, n: jax.Array, chunk: int, keep: bool
) -> tuple[jax.Array, Tree]:
    if not keep:
        return _forward(function, params, rows, n, chunk), (params, rows, n, None)
    chunks = _Chunks(rows, n, chunk)
    residuals = Residuals(function, params, chunks.take(rows, 0))
    like = jax.eval_shape(residuals.of_rows, params, chunks.take(rows, 0))[1]
    kept = [jax.lax.empty((chunks.most, *leaf.shape), leaf.dtype) for leaf in like]

    def body(i: jax.Array, loop: Tree) -> Tree:
        out, kept = loop
        value, new = residuals.of_rows(params, chunks.take(rows, i))
        kept = [jax.lax.dynamic_update_index_in_dim(all_, one, i, 0) for all_, one in zip(kept, new, strict=True)]
        return chunks.put(out, i, value), kept

    out, kept = jax.lax.fori_loop(0, chunks.number, body, (chunks.room(function, params, rows), kept))
    return out, (params, rows, n, kept)


def _backward_rule(function: Any, chunk: int, keep: bool, saved: Tree, cotangent: jax.Array) -> Tree:
    params, rows, n, kept = saved
    chunks = _Chunks(rows, n, chunk)
    if keep:
        residuals = Residuals(function, params, chunks.take(rows, 0))
        pullback = residuals.pullback(params, chunks.take(rows, 0))

    def gradients(i: jax.Array, d_value: jax.Array) -> tuple[Tree, Tree]:
        if keep:
            return pullback([jax.lax.dynamic_index_in_dim(leaf, i, 0, keepdims=False) for leaf in kept], d_value)
        grads: tuple[Tree, Tree] = jax.vjp(function, params, chunks.take(rows, i))[1](d_value)
        return grads

    def body(i: jax.Array, sums: Tree) -> Tree:
        p_sums, r_sums = sums
        p_grads, r_grads = map(_floats, gradients(i, chunks.take_fresh(cotangent, i)))
        r_sums = [chunks.add(total, i, new) for total, new in zip(r_sums, r_grads, strict=True)]
        return [total + new for total, new in zip(p_sums, p_grads, strict=True)], r_sums

    zeros = tuple([jnp.zeros_like(leaf) for leaf in _floats(tree)] for tree in (params, rows))
    p_sums, r_sums = jax.lax.fori_loop(0, chunks.number, body, zeros)
    return _cotangent(params, p_sums), _cotangent(rows, r_sums), _cotangent(n, [])


compact.defvjp(_forward_rule, _backward_rule)


class _Chunks:
    """Where the chunks of padded rows lie. The last one starts early enough to fit, on rows of the one before it."""

    def __init__(self, rows: Tree, n: jax.Array, chunk: int) -> None:
        self._size = jax.tree.leaves(rows)[0].shape[0]
        self._n, self._chunk = n, min(chunk, self._size)
        self.number = (n + self._chunk - 1) // self._chunk
        self.most = -(-self._size // self._chunk)

    def take(self, rows: Tree, i: int | jax.Array) -> Tree:
        """The rows of chunk ``i``."""
        return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, self._start(i), self._chunk, 0), rows)

    def take_fresh(self, x: jax.Array, i: jax.Array) -> jax.Array:
        """Those of an array, zero where an earlier chunk has had the row and past the rows in use."""
        row = self._rows(i)
        return _mask(self.take(x, i), (row >= i * self._chunk) & (row < self._n))

    def put(self, out: jax.Array, i: jax.Array, value: jax.Array) -> jax.Array:
        """``out`` with the values of chunk ``i``, zero past the rows in use."""
        return jax.lax.dynamic_update_slice_in_dim(out, _mask(value, self._rows(i) < self._n), self._start(i), 0)

    def add(self, total: jax.Array, i: jax.Array, new: jax.Array) -> jax.Array:
        """``total`` with ``new`` added at the rows of chunk ``i``."""
        return jax.lax.dynamic_update_slice_in_dim(total, self.take(total, i) + new, self._start(i), 0)

    def room(self, function: Callable[[Tree, Tree], jax.Array], params: Tree, rows: Tree) -> jax.Array:
        """Zeros for the values of all rows."""
        value = jax.eval_shape(function, params, jax.eval_shape(lambda: self.take(rows, 0)))
        return jnp.zeros((self._size, *value.shape[1:]), value.dtype)

    def _start(self, i: int | jax.Array) -> jax.Array:
        return jnp.minimum(i * self._chunk, self._size - self._chunk)

    def _rows(self, i: jax.Array) -> jax.Array:
        return self._start(i) + jnp.arange(self._chunk)


def _mask(value: jax.Array, keep: jax.Array) -> jax.Array:
    return jnp.where(keep.reshape(-1, *(1,) * (value.ndim - 1)), value, 0)


def _is_float(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def _floats(tree: Tree) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]


def _cotangent(tree: Tree, floats: list[jax.Array]) -> Tree:
    """A cotangent for ``tree``: the given sums for floating leaves, the empty one for integers."""
    leaves, structure = jax.tree.flatten(tree)
    parts = iter(floats)
    filled = [next(parts) if _is_float(leaf) else np.zeros(jnp.shape(leaf), jax.dtypes.float0) for leaf in leaves]
    return jax.tree.unflatten(structure, filled)
