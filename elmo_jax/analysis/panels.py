"""How each metric is drawn: its title, its scale, and whether it is smoothed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """How a metric is drawn.

    Attributes:
        title: says what it is, with its unit.
        log: on a logarithmic scale.
        smooth: the mean over neighbouring lines is drawn above the faint values.
        from_zero: the scale begins at 0.
        dense: there are so many values that none is marked.
    """

    title: str
    log: bool = False
    smooth: bool = False
    from_zero: bool = False
    dense: bool = True


PANELS = {
    "eval/perplexity": Panel("Held-out perplexity", log=True, dense=False),
    "eval/perplexity_forward": Panel("Held-out perplexity, forward", log=True, dense=False),
    "eval/perplexity_backward": Panel("Held-out perplexity, backward", log=True, dense=False),
    "train/loss": Panel("Training loss (nats)", smooth=True),
    "train/perplexity": Panel("Training perplexity", log=True, smooth=True),
    "train/perplexity_forward": Panel("Training perplexity, forward", log=True, smooth=True),
    "train/perplexity_backward": Panel("Training perplexity, backward", log=True, smooth=True),
    "train/learning_rate": Panel("Learning rate"),
    "train/gradient_norm": Panel("Gradient norm before clipping", log=True, smooth=True),
    "train/update_norm": Panel("Update norm", log=True, smooth=True),
    "train/parameter_norm": Panel("Parameter norm"),
    "train/clipped_share": Panel("Share of steps clipped", smooth=True, from_zero=True),
    "speed/tokens_per_second": Panel("Speed (tokens/s)", smooth=True, from_zero=True),
    **{
        f"time/{part}": Panel(f"Share of time: {part}", smooth=True, from_zero=True)
        for part in ("input", "step", "evaluation", "checkpoint", "other")
    },
}
DEFAULT = (
    "eval/perplexity",
    "train/perplexity",
    "train/learning_rate",
    "train/gradient_norm",
    "speed/tokens_per_second",
)


def panel_of(metric: str) -> Panel:
    """The panel of a metric; one that is unknown here is smoothed and bears its own name."""
    return PANELS.get(metric, Panel(metric, smooth=True))
