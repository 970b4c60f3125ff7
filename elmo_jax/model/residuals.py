"""What a gradient needs of the forward pass, parted into what belongs to the rows and what belongs to the parameters.

``jax.vjp`` keeps both. When a function is applied to chunk after chunk of rows, the first part is to be stored for every
chunk, and the second, weights in the dtype of the products above all, once.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal

Tree = Any


class Residuals:
    """Parts the residuals of ``function(params, rows)``.

    Args:
        function: of two trees; differentiated in all their leaves.
        params: arrays or shapes.
        rows: arrays or shapes.
    """

    def __init__(self, function: Callable[[Tree, Tree], jax.Array], params: Tree, rows: Tree) -> None:
        self._function = function
        traced = jax.make_jaxpr(lambda p, r: jax.tree.leaves(jax.vjp(function, p, r)[1]))(params, rows)
        n_params = len(jax.tree.leaves(params))
        touched = set(traced.jaxpr.invars[n_params:])
        for equation in traced.jaxpr.eqns:
            if any(not isinstance(x, Literal) and x in touched for x in equation.invars):
                touched.update(equation.outvars)
        self._of_rows = [not isinstance(x, Literal) and x in touched for x in traced.jaxpr.outvars]

    def of_rows(self, params: Tree, rows: Tree) -> tuple[jax.Array, list[jax.Array]]:
        """The value of the function, and what its gradient needs that depends on these rows."""
        value, pullback = jax.vjp(self._function, params, rows)
        leaves = jax.tree.leaves(pullback)
        return value, [leaf for leaf, kept in zip(leaves, self._of_rows, strict=True) if kept]

    def pullback(self, params: Tree, rows: Tree) -> Callable[[list[jax.Array], jax.Array], tuple[Tree, Tree]]:
        """``(residuals of rows, cotangent) -> gradients of params and rows``.

        Args:
            params: those of ``of_rows``.
            rows: any of the right shapes: nothing of the result depends on their values.
        """
        _, pullback = jax.vjp(self._function, params, rows)
        leaves, structure = jax.tree.flatten(pullback)

        def apply(of_rows: list[jax.Array], cotangent: jax.Array) -> tuple[Tree, Tree]:
            stored = iter(of_rows)
            parts = [next(stored) if kept else leaf for leaf, kept in zip(leaves, self._of_rows, strict=True)]
            gradients: tuple[Tree, Tree] = jax.tree.unflatten(structure, parts)(cotangent)
            return gradients

        return apply
