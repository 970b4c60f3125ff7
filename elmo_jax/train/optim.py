"""The optimiser and its learning-rate schedule, from Optax."""

import optax

from elmo_jax.config import Optimizer

# Learning rates where none is configured.
DEFAULT_RATES = {"adagrad": 0.2, "adamw": 0.001}


def peak_rate(config: Optimizer) -> float:
    """The highest learning rate: the configured one, or what suits the optimiser."""
    return DEFAULT_RATES[config.name] if config.learning_rate is None else config.learning_rate


def schedule(config: Optimizer, n_steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then constant or cosine.

    The cosine ends at ``final_fraction`` of the peak, at step ``n_steps``.
    """
    peak, warm = peak_rate(config), config.warmup_steps
    if config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, n_steps - warm), config.final_fraction)
    else:
        after = optax.constant_schedule(peak)
    if warm == 0:
        return after
    # The first step moves already: step k of the warm-up has the rate (k + 1) / (warm + 1) of the peak.
    return optax.join_schedules([optax.linear_schedule(peak / (warm + 1), peak, warm), after], [warm])


def make_optimizer(config: Optimizer, n_steps: int) -> optax.GradientTransformation:
    """Clipping by global norm, then Adagrad or AdamW.

    Adagrad is as bilm-tf has it (Duchi et al. 2011: ``w -= rate * g / sqrt(acc)`` with no epsilon; ELMO_SPEC 2.12).
    With AdamW (Loshchilov and Hutter 2019) matrices decay and biases do not.

    Args:
        config: the optimiser's fields.
        n_steps: length of the run, for the cosine schedule.
    """
    rate = schedule(config, n_steps)
    if config.name == "adagrad":
        update = optax.adagrad(rate, initial_accumulator_value=config.initial_accumulator, eps=0.0)
    else:
        update = optax.adamw(rate, config.b1, config.b2, weight_decay=config.weight_decay, mask=_is_matrix)
    return optax.chain(optax.clip_by_global_norm(config.all_clip_norm_val), update)


def _is_matrix(params: optax.Params) -> optax.Params:
    return {
        name: _is_matrix(part) if isinstance(part, dict) else not name.endswith("bias") for name, part in params.items()
    }
