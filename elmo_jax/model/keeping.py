"""``compact`` whose gradient computes nothing twice: what it needs of the forward pass is kept, chunk by chunk.

``jax.vjp`` keeps what belongs to the rows, such as activations, and what belongs to the parameters, such as weights in
the dtype of the products. The first is stored for every chunk, the second is had once for all.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, jaxpr_as_fun

from elmo_jax.model.compact import Function, Tree, add, compact, cotangent_of, floats, over_chunks, take


@partial(jax.custom_vjp, nondiff_argnums=(0, 4))
def keeping(function: Function, params: Tree, rows: Tree, n: jax.Array, chunk: int) -> jax.Array:
    """As ``compact``, with room for the intermediates of all rows."""
    return compact(function, params, rows, n, chunk)


def _forward(function: Function, params: Tree, rows: Tree, n: jax.Array, chunk: int) -> tuple[jax.Array, Tree]:
    size = len(jax.tree.leaves(rows)[0])
    chunk = min(chunk, size)
    residuals = _Residuals(function, params, take(rows, 0, chunk))
    value, like = jax.eval_shape(residuals.of_rows, params, take(rows, 0, chunk))
    kept = [jax.lax.empty((-(-size // chunk), *leaf.shape), leaf.dtype) for leaf in like]

    def body(part: tuple[jax.Array, jax.Array], loop: Tree) -> Tree:
        start, fresh = part
        out, kept = loop
        value, new = residuals.of_rows(params, take(rows, start, chunk))
        out = add(out, _masked(value, fresh), start)
        place = _number(start, chunk)
        return out, [
            jax.lax.dynamic_update_index_in_dim(every, one, place, 0) for every, one in zip(kept, new, strict=True)
        ]

    out = jnp.zeros((size, *value.shape[1:]), value.dtype)
    out, kept = over_chunks(body, (out, kept), size, n, chunk, 0)
    return out, (params, rows, n, kept)


def _backward(function: Function, chunk: int, saved: Tree, cotangent: jax.Array) -> Tree:
    params, rows, n, kept = saved
    size = len(cotangent)
    chunk = min(chunk, size)
    pullback = _Residuals(function, params, take(rows, 0, chunk)).pullback(params, take(rows, 0, chunk))

    def body(part: tuple[jax.Array, jax.Array], sums: Tree) -> Tree:
        start, fresh = part
        p_sums, r_sums = sums
        here = [jax.lax.dynamic_index_in_dim(leaf, _number(start, chunk), 0, keepdims=False) for leaf in kept]
        p_grads, r_grads = map(floats, pullback(here, _masked(take(cotangent, start, chunk), fresh)))
        r_sums = [add(total, new, start) for total, new in zip(r_sums, r_grads, strict=True)]
        return [total + new for total, new in zip(p_sums, p_grads, strict=True)], r_sums

    zeros = tuple([jnp.zeros_like(leaf) for leaf in floats(tree)] for tree in (params, rows))
    p_sums, r_sums = over_chunks(body, zeros, size, n, chunk, 0)
    return cotangent_of(params, p_sums), cotangent_of(rows, r_sums), cotangent_of(n, [])


keeping.defvjp(_forward, _backward)


class _Residuals:
    """``jax.vjp`` of ``function(params, rows)``, traced once, and its residuals, parted."""

    def __init__(self, function: Function, params: Tree, rows: Tree) -> None:
        def forward(params: Tree, rows: Tree) -> tuple[jax.Array, list[jax.Array]]:
            value, pullback = jax.vjp(function, params, rows)
            leaves, self._structure = jax.tree.flatten(pullback)
            return value, leaves

        traced = jax.make_jaxpr(forward)(params, rows)
        self._forward = jaxpr_as_fun(traced)
        touched = set(traced.jaxpr.invars[len(jax.tree.leaves(params)) :])
        for equation in traced.jaxpr.eqns:
            if any(not isinstance(x, Literal) and x in touched for x in equation.invars):
                touched.update(equation.outvars)
        self._of_rows = [not isinstance(x, Literal) and x in touched for x in traced.jaxpr.outvars[1:]]

    def of_rows(self, params: Tree, rows: Tree) -> tuple[jax.Array, list[jax.Array]]:
        """The value of the function, and what its gradient needs that depends on these rows."""
        value, *leaves = self._forward(*jax.tree.leaves((params, rows)))
        return value, [leaf for leaf, kept in zip(leaves, self._of_rows, strict=True) if kept]

    def pullback(self, params: Tree, rows: Tree) -> Callable[[list[jax.Array], jax.Array], tuple[Tree, Tree]]:
        """``(residuals of rows, cotangent) -> gradients of params and rows``; only the shapes of ``rows`` matter."""
        _, *leaves = self._forward(*jax.tree.leaves((params, rows)))

        def apply(of_rows: list[jax.Array], cotangent: jax.Array) -> tuple[Tree, Tree]:
            stored = iter(of_rows)
            parts = [next(stored) if kept else leaf for leaf, kept in zip(leaves, self._of_rows, strict=True)]
            gradients: tuple[Tree, Tree] = jax.tree.unflatten(self._structure, parts)(cotangent)
            return gradients

        return apply


def _number(start: jax.Array, chunk: int) -> jax.Array:
    """Which chunk starts there; the last one may start early."""
    return (start + chunk - 1) // chunk


def _masked(x: jax.Array, fresh: jax.Array) -> jax.Array:
    """``x`` where fresh, else 0."""
    return jnp.where(fresh.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)
