"""Work that follows the data while shapes stay static: a function applied to some rows of a padded array.

The distinct types of a batch go through the character encoder so, and the targets of a rare cluster through its part
of the adaptive softmax. Rows are taken a chunk at a time, as many chunks as there are rows to take, so memory holds the
intermediates of one chunk only. Nothing is dropped and nothing capped. ``compact`` computes each chunk anew in its
backward pass; ``weighted_sum`` has the gradient of a sum, whose weights are known, ready with the sum.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
Function = Callable[[Tree, Tree], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0, 4))
def compact(
    function: Function, params: Tree, rows: Tree, n: jax.Array, chunk: int, first: jax.Array | int = 0
) -> jax.Array:
    """``function(params, rows)`` for ``n`` rows from ``first`` on, zeros for the others.

    Args:
        function: maps ``params`` and a tree of arrays ``[rows, ...]`` to one array ``[rows, ...]``, each row by itself.
            It must hold no collective: devices may run different numbers of chunks.
        params: any tree; gradients flow to its floating leaves.
        rows: tree of arrays that share their first dimension R; gradients flow to floating leaves.
        n: int32 scalar, 0 <= n <= R.
        chunk: rows worked off at a time.
        first: int32 scalar, 0 <= first <= R - n.

    Returns:
        Array ``[R, ...]``.

    Example:
        >>> compact(lambda w, x: x * w, jnp.float32(2.0), jnp.ones((4, 1)), jnp.int32(3), 2).ravel()
        Array([2., 2., 2., 0.], dtype=float32)
    """
    shape = jax.eval_shape(lambda p, r: function(p, take(r, 0, min(chunk, _size(rows)))), params, rows)

    def body(part: tuple[jax.Array, jax.Array], out: jax.Array) -> jax.Array:
        start, fresh = part
        value = function(params, take(rows, start, len(fresh)))
        return put(out, jnp.where(_column(fresh, value), value, take(out, start, len(fresh))), start)

    return over_chunks(body, jnp.zeros((_size(rows), *shape.shape[1:]), shape.dtype), _size(rows), n, chunk, first)


def _compact_forward(
    function: Function, params: Tree, rows: Tree, n: jax.Array, chunk: int, first: jax.Array | int
) -> tuple[jax.Array, Tree]:
    return compact(function, params, rows, n, chunk, first), (params, rows, n, first)


def _compact_backward(function: Function, chunk: int, saved: Tree, cotangent: jax.Array) -> Tree:
    params, rows, n, first = saved
    _, p_sums, r_sums = _with_gradients(function, params, rows, cotangent, n, chunk, first)
    return cotangent_of(params, p_sums), cotangent_of(rows, r_sums), cotangent_of(n, []), cotangent_of(first, [])


compact.defvjp(_compact_forward, _compact_backward)


def weighted_sum(
    function: Function, params: Tree, rows: Tree, weight_R: jax.Array, n: Any, chunk: int, first: Any = 0
) -> tuple[jax.Array, jax.Array]:
    """``(function(params, rows) * weight).sum()`` over ``n`` rows from ``first`` on, and the value of every row.

    Where its gradient is wanted, it is computed together with the sum, a chunk at a time: nothing is computed twice,
    and no intermediate outlives its chunk.

    Args:
        function: as that of ``compact``, with one number a row.
        params: as those of ``compact``.
        rows: as those of ``compact``.
        weight_R: float32, factor of each row.
        n: int32 scalar, rows.
        chunk: rows worked off at a time.
        first: int32 scalar.

    Returns:
        The sum, float32, and the values ``[R]`` without weights, zero for other rows. The values are a report: no
        gradient flows through them.
    """
    total, value_R = _weighted_sum(function, params, rows, weight_R, n, chunk, first)
    return total, jax.lax.stop_gradient(value_R)


@partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def _weighted_sum(
    function: Function, params: Tree, rows: Tree, weight_R: jax.Array, n: Any, chunk: int, first: Any
) -> tuple[jax.Array, jax.Array]:
    value_R = compact(function, params, rows, n, chunk, first)
    return (value_R * weight_R).sum(), value_R


def _sum_forward(
    function: Function, params: Tree, rows: Tree, weight_R: jax.Array, n: Any, chunk: int, first: Any
) -> tuple[tuple[jax.Array, jax.Array], Tree]:
    value_R, p_sums, r_sums = _with_gradients(function, params, rows, weight_R, n, chunk, first)
    saved = (
        cotangent_of(params, p_sums),
        cotangent_of(rows, r_sums),
        value_R,
        cotangent_of(n, []),
        cotangent_of(first, []),
    )
    return ((value_R * weight_R).sum(), value_R), saved


def _sum_backward(function: Function, chunk: int, saved: Tree, cotangents: Tree) -> Tree:
    return scaled(saved, cotangents[0])


_weighted_sum.defvjp(_sum_forward, _sum_backward)


def scaled(gradients: Tree, factor: jax.Array) -> Tree:
    """Every floating leaf times the factor, in its own dtype."""
    return jax.tree.map(lambda x: x * factor.astype(x.dtype) if _is_float(x) else x, gradients)


def over_chunks(
    body: Callable[[tuple[jax.Array, jax.Array], Tree], Tree], value: Tree, size: int, n: Any, chunk: int, first: Any
) -> Tree:
    """``value = body((start, fresh), value)`` for each chunk of the rows ``first .. first + n`` of ``size``.

    ``start`` is the first row of the chunk, ``fresh`` says which of its rows are due. The last chunk starts early
    enough to fit, and rows that are not in the range or that an earlier chunk has had are not fresh.
    """
    chunk = min(chunk, size)

    def step(i: jax.Array, value: Tree) -> Tree:
        begin = first + i * chunk
        start = jnp.minimum(begin, size - chunk)
        row = start + jnp.arange(chunk)
        return body((start, (row >= begin) & (row < first + n)), value)

    return jax.lax.fori_loop(0, (n + chunk - 1) // chunk, step, value)


def take(rows: Tree, start: int | jax.Array, chunk: int) -> Tree:
    """Rows ``start .. start + chunk`` of every leaf."""
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, start, chunk, 0), rows)


def put(rows: jax.Array, chunk: jax.Array, start: jax.Array) -> jax.Array:
    """``rows`` with those from ``start`` on replaced."""
    return jax.lax.dynamic_update_slice_in_dim(rows, chunk, start, 0)


def add(rows: jax.Array, chunk: jax.Array, start: jax.Array) -> jax.Array:
    """``rows`` with the chunk added from ``start`` on."""
    return put(rows, take(rows, start, len(chunk)) + chunk, start)


def _with_gradients(
    function: Function, params: Tree, rows: Tree, cotangent: jax.Array, n: jax.Array, chunk: int, first: Any
) -> tuple[jax.Array, list[jax.Array], list[jax.Array]]:
    """Values of the rows in range, and gradients of their product with the cotangent, for floating leaves."""
    (p_floats, p_merge), (r_floats, r_merge) = _split(params), _split(rows)

    def body(part: tuple[jax.Array, jax.Array], sums: Tree) -> Tree:
        start, fresh = part
        values, p_sums, r_sums = sums
        here_floats, here_merge = _split(take(r_merge(r_floats), start, len(fresh)))
        value, vjp = jax.vjp(lambda p, r: function(p_merge(p), here_merge(r)), p_floats, here_floats)
        slope = take(cotangent, start, len(fresh))
        p_grads, r_grads = vjp(jnp.where(_column(fresh, slope), slope, 0).astype(value.dtype))
        values = add(values, jnp.where(_column(fresh, value), value, 0), start)
        r_sums = [add(s, g, start) for s, g in zip(r_sums, r_grads, strict=True)]
        return values, [s + g for s, g in zip(p_sums, p_grads, strict=True)], r_sums

    zeros = (jnp.zeros_like(cotangent), [jnp.zeros_like(p) for p in p_floats], [jnp.zeros_like(r) for r in r_floats])
    sums: tuple[jax.Array, list[jax.Array], list[jax.Array]] = over_chunks(body, zeros, _size(rows), n, chunk, first)
    return sums


def _size(rows: Tree) -> int:
    return jax.tree.leaves(rows)[0].shape[0]


def _column(flag: jax.Array, like: jax.Array) -> jax.Array:
    return flag.reshape(-1, *(1,) * (like.ndim - 1))


def _is_float(leaf: jax.Array) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def floats(tree: Tree) -> list[jax.Array]:
    """The floating leaves of a tree."""
    return [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]


def _split(tree: Tree) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Tree]]:
    """The floating leaves of a tree, and the function that puts such leaves back among the others."""
    leaves, structure = jax.tree.flatten(tree)

    def merge(floats: list[jax.Array]) -> Tree:
        parts = iter(floats)
        return jax.tree.unflatten(structure, [next(parts) if _is_float(leaf) else leaf for leaf in leaves])

    return floats(tree), merge


def cotangent_of(tree: Tree, floats: list[jax.Array]) -> Tree:
    """A cotangent for ``tree``: the given sums for floating leaves, the empty one for integers."""
    leaves, structure = jax.tree.flatten(tree)
    parts = iter(floats)
    filled = [next(parts) if _is_float(leaf) else np.zeros(jnp.shape(leaf), jax.dtypes.float0) for leaf in leaves]
    return jax.tree.unflatten(structure, filled)
