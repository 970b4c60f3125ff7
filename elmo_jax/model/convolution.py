"""The largest response of each filter over the positions of a token, computed where it can be (ELMO_SPEC 2.3).

The maximum runs over all positions, padding inside the token included. But windows that hold nothing but padding all
respond alike: one of them stands for all. So a chunk of short tokens is convolved over the few positions that its
longest token needs, in one of a few widths, and the result is exactly that over all positions.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from elmo_jax.model.products import product

# Kernels [w, E, F_i] of all filters.
Kernels = Sequence[jax.Array]

# Positions that a chunk is convolved over, besides all of them.
WIDTHS = (16, 20, 24, 32)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def largest_responses(
    kernels: Kernels, char_embed: jax.Array, chars_UC: jax.Array, padding: int | None, dtype: Any
) -> jax.Array:
    """Each filter's largest response to each token, float32 ``[U, F]``.

    The gradient goes to the first of equally large responses.

    Args:
        kernels: ``[w, E, F_i]`` of each filter.
        char_embed: the table of characters, ``[characters, E]``.
        chars_UC: character ids of tokens, padded at their ends.
        padding: the id that fills a token past its end; None where it is not known: then all positions are computed.
        dtype: of the products.
    """

    def largest(width: int) -> jax.Array:
        responses = _responses(kernels, char_embed, chars_UC[:, :width], dtype)
        return jnp.concatenate([y_UCF.max(axis=1) for y_UCF in responses], axis=-1)

    return _in_width(kernels, chars_UC, padding, largest)


def _forward(
    kernels: Kernels, char_embed: jax.Array, chars_UC: jax.Array, padding: int | None, dtype: Any
) -> tuple[jax.Array, Any]:
    def largest(width: int) -> tuple[jax.Array, jax.Array]:
        responses = _responses(kernels, char_embed, chars_UC[:, :width], dtype)
        values = [y_UCF.max(axis=1) for y_UCF in responses]
        # Small numbers: one for each token and filter is kept.
        small = jnp.uint8 if chars_UC.shape[1] <= 256 else jnp.int32
        places = [y_UCF.argmax(axis=1).astype(small) for y_UCF in responses]
        return jnp.concatenate(values, axis=-1), jnp.concatenate(places, axis=-1)

    value_UF, place_UF = _in_width(kernels, chars_UC, padding, largest)
    return value_UF, (kernels, char_embed, chars_UC, place_UF)


def _backward(padding: int | None, dtype: Any, saved: Any, cotangent_UF: jax.Array) -> Any:
    kernels, char_embed, chars_UC, place_UF = saved
    ends = _ends(kernels)

    def gradients(width: int) -> Any:
        def chosen(kernels: Kernels, char_embed: jax.Array) -> jax.Array:
            responses = _responses(kernels, char_embed, chars_UC[:, :width], dtype)
            places = jnp.split(place_UF, ends, axis=-1)
            # Linear in the responses: only the gradient is computed, and all but the chosen places take none.
            return jnp.concatenate([_at_place(y, place) for y, place in zip(responses, places, strict=True)], axis=-1)

        return jax.vjp(chosen, kernels, char_embed)[1](cotangent_UF)

    return *_in_width(kernels, chars_UC, padding, gradients), None


largest_responses.defvjp(_forward, _backward)


def _in_width(kernels: Kernels, chars_UC: jax.Array, padding: int | None, compute: Callable[[int], Any]) -> Any:
    """``compute(width)`` for the first width that holds every token and, for each filter, padding alone after it."""
    full = chars_UC.shape[1]
    widest = max(kernel.shape[0] for kernel in kernels)
    widths = [*(width for width in WIDTHS if widest <= width < full), full]
    if padding is None or len(widths) == 1:
        return compute(full)
    needed = (chars_UC != padding).sum(axis=1).max() + widest
    branch = (needed > jnp.array(widths[:-1], jnp.int32)).sum()
    return jax.lax.switch(branch, [partial(compute, width) for width in widths])


def _responses(kernels: Kernels, char_embed: jax.Array, chars_UC: jax.Array, dtype: Any) -> list[jax.Array]:
    """The response of each filter at every position, ``[U, C - w + 1, F_i]``.

    A convolution is one product of all windows with the kernel: on CPU XLA's own is many times slower inside a loop
    (benchmarks/encoder.py).
    """
    x_UCE = char_embed.astype(dtype)[chars_UC]
    return [_response(x_UCE, kernel) for kernel in kernels]


def _response(x_UCE: jax.Array, kernel_wEF: jax.Array) -> jax.Array:
    width, e, f = kernel_wEF.shape
    n = x_UCE.shape[1] - width + 1
    windows = jnp.concatenate([x_UCE[:, u : u + n] for u in range(width)], axis=-1)
    kernel = kernel_wEF.reshape(width * e, f).astype(x_UCE.dtype)
    return product(windows, kernel)


def _at_place(y_UCF: jax.Array, place_UF: jax.Array) -> jax.Array:
    position_C1 = jnp.arange(y_UCF.shape[1])[:, None]
    return jnp.where(position_C1 == place_UF[:, None], y_UCF, 0).sum(axis=1)


def _ends(kernels: Kernels) -> list[int]:
    """Where one filter's columns end and the next one's begin."""
    ends = [kernels[0].shape[-1]]
    for kernel in kernels[1:-1]:
        ends.append(ends[-1] + kernel.shape[-1])
    return ends if len(kernels) > 1 else []
