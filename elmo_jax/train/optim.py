"""The optimiser and its learning-rate schedule, from Optax."""

import jax
import jax.numpy as jnp
import optax

from elmo_jax.config import Optimizer

# Learning rates where none is configured.
DEFAULT_RATES = {"adagrad": 0.2, "adamw": 0.001, "adafactor": 0.01, "lion": 0.0001}


def peak_rate(config: Optimizer) -> float:
    """The highest learning rate: the configured one, or what suits the optimiser."""
    return DEFAULT_RATES[config.name] if config.learning_rate is None else config.learning_rate


def warmup_steps(config: Optimizer, n_steps: int) -> int:
    """Steps of the warm-up: the configured ones, or a twentieth of the run, at most 200."""
    return min(200, n_steps // 20) if config.warmup_steps is None else config.warmup_steps


def schedule(config: Optimizer, n_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then constant, cosine or inverse square root.

    The cosine ends at ``final_fraction`` of the peak, at step ``n_steps``. The inverse square root is that of Vaswani
    et al. (2017): ``peak * sqrt(warmup_steps / step)``, where no warm-up counts as one step.
    """
    peak, warm = peak_rate(config), warmup_steps(config, n_steps)
    after = {
        "constant": optax.constant_schedule(peak),
        "cosine": optax.cosine_decay_schedule(peak, max(1, n_steps - warm), config.final_fraction),
        "inverse_sqrt": lambda step: peak * (1 + jnp.maximum(step, 0) / max(1, warm)) ** -0.5,
    }[config.schedule]
    if warm == 0:
        return after
    # The first step moves already: step k of the warm-up has the rate (k + 1) / (warm + 1) of the peak.
    return optax.join_schedules([optax.linear_schedule(peak / (warm + 1), peak, warm), after], [warm])


def make_optimizer(config: Optimizer, n_steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then the optimiser.

    Adagrad is as bilm-tf has it (Duchi et al. 2011: ``w -= rate * g / sqrt(acc)`` with no epsilon; ELMO_SPEC 2.12).
    With AdamW (Loshchilov and Hutter 2019), Adafactor (Shazeer and Stern 2018) and Lion (Chen et al. 2023) matrices
    decay and biases do not: each step takes ``rate * weight_decay`` of a matrix away. Adafactor scales its steps by the
    size of each parameter, and has no memory of gradients.

    Args:
        config: the optimiser's fields.
        n_steps: length of the run, for the warm-up and the cosine schedule.
    """
    rate, decay = schedule(config, n_steps), {"weight_decay": config.weight_decay, "mask": _is_matrix}
    update = {
        "adagrad": lambda: optax.chain(
            scale_by_inverse_root(config.initial_accumulator), optax.scale_by_learning_rate(rate)
        ),
        "adamw": lambda: optax.adamw(rate, config.b1, 0.999 if config.b2 is None else config.b2, **decay),
        # Optax adds the decay of Adafactor after the learning rate.
        "adafactor": lambda: optax.adafactor(
            rate,
            weight_decay_rate=(lambda step: rate(step) * config.weight_decay) if config.weight_decay else None,
            weight_decay_mask=_is_matrix,
        ),
        "lion": lambda: optax.lion(rate, config.b1, 0.99 if config.b2 is None else config.b2, **decay),
    }[config.name]()
    return optax.chain(clip_by_global_norm(config.all_clip_norm_val), update)


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Gradients whose global norm is above ``limit`` are scaled down to it.

    The scale is one number and its product with the gradients part of whatever uses them. ``optax.clip_by_global_norm``
    divides each of them by the norm, which XLA does not repeat for every use: it keeps a clipped copy of all gradients.
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        scale = limit / jnp.maximum(optax.tree.norm(updates), limit)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_inverse_root(initial: float) -> optax.GradientTransformation:
    """Gradients over the root of the sum of their squares so far: ``optax.scale_by_rss`` without its epsilon.

    ``optax.scale_by_rss`` takes ``rsqrt``, and as updates are used twice (added to the parameters, and for their norm),
    that becomes a loop of its own, which XLA on CPU runs ten times slower than a root and a division (JAX 0.10.2).
    """

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, optax.ScaleByRssState)
        sums = jax.tree.map(lambda g, total: total + g * g, updates, state.sum_of_squares)
        scaled = jax.tree.map(lambda g, total: g * jnp.sqrt(jnp.where(total > 0, 1 / total, 0)), updates, sums)
        return scaled, optax.ScaleByRssState(sums)

    return optax.GradientTransformation(
        lambda params: optax.ScaleByRssState(optax.tree.full_like(params, initial)), update
    )


def _is_matrix(params: optax.Params) -> optax.Params:
    return {
        name: _is_matrix(part) if isinstance(part, dict) else not name.endswith("bias") for name, part in params.items()
    }
