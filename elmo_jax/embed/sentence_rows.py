"""Sentences of numbered tokens as the rows that a biLM reads, and what it makes of them back in the order of the text.

Array names end in their dimensions, see ``elmo_jax.model``; B rows are sentences.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Rows(NamedTuple):
    """Sentences with boundaries around them, two positions longer than without.

    Attributes:
        row_BT: what stands there, as a row of a table: 0 is ``<S>``, 1 ``</S>``, token number k is k + 1.
        mask_BT: real positions.
        reverse_BT: the position that the backward direction reads at this place: each sentence is reversed within its
            own length, padding stays at its end (ELMO_SPEC 2.5). It undoes itself.
    """

    row_BT: jax.Array
    mask_BT: jax.Array
    reverse_BT: jax.Array


def with_boundaries(number_BT: jax.Array) -> Rows:
    """The rows of sentences of tokens numbered from 1, zeros behind them; a sentence without tokens is ``<S> </S>``."""
    length_B1 = (number_BT > 0).sum(axis=1, keepdims=True) + 2
    place_T = jnp.arange(number_BT.shape[1] + 2)
    row_BT = jnp.pad(number_BT, [(0, 0), (1, 1)]) + 1
    row_BT = jnp.where(place_T == 0, 0, jnp.where(place_T >= length_B1 - 1, 1, row_BT))
    mask_BT = place_T < length_B1
    return Rows(row_BT, mask_BT, jnp.where(mask_BT, length_B1 - 1 - place_T, place_T))


def reading_order(x_BTP: jax.Array, rows: Rows, n_directions: int) -> jax.Array:
    """``[D, T, B, P]``: the text as each direction reads it."""
    orders = [x_BTP, _reversed(x_BTP, rows)][:n_directions]
    return jnp.stack([x.swapaxes(0, 1) for x in orders])


def text_order(y_DTBP: jax.Array, rows: Rows) -> jax.Array:
    """``[B, T, D P]``: the directions side by side, zeros at padding."""
    forward, *backward = (y.swapaxes(0, 1) for y in y_DTBP)
    y_BTF = jnp.concatenate([forward, *(_reversed(y, rows) for y in backward)], axis=-1)
    return jnp.where(rows.mask_BT[..., None], y_BTF, 0)


def numbered(there: jax.Array) -> jax.Array:
    """1, 2, ... where a token is, in the order of the array; 0 elsewhere."""
    return jnp.where(there, there.reshape(-1).cumsum(dtype=jnp.int32).reshape(there.shape), 0)


def counted(there: jax.Array) -> jax.Array:
    """As ``numbered``, but places without a token have numbers too, and 0 in their stead."""
    return jnp.where(there, jnp.arange(1, there.size + 1, dtype=jnp.int32).reshape(there.shape), 0)


def gathered(characters: jax.Array, number: jax.Array, pad: int) -> jax.Array:
    """The tokens at the front ``[N, C]`` in the order of their numbers, padding behind them.

    Args:
        characters: ``[..., C]``.
        number: ``[...]``, see ``numbered``.
        pad: what rows past the last token are filled with.
    """
    flat = characters.reshape(-1, characters.shape[-1])
    place = jnp.where(number > 0, number - 1, len(flat)).reshape(-1)
    return jnp.full_like(flat, pad).at[place].set(flat, mode="drop")


def _reversed(x_BTP: jax.Array, rows: Rows) -> jax.Array:
    return jnp.take_along_axis(x_BTP, rows.reverse_BT[..., None], axis=1)
