"""The typed configuration of a run: nested frozen dataclasses, checked, and kept as JSON in the run directory.

Field names follow bilm-tf's ``options.json`` where the idea is the same. An experiment is one file in ``configs/`` with
a ``get_config()`` function; a value is changed from the command line by its path::

    python train.py --config configs/elmo_small.py --config.model.lstm.dim=2048 --config.train.batch_size=256
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from elmo_jax.errors import UserError

# Filters of all published ELMo models: (width in characters, number of filters).
PUBLISHED_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


@dataclass(frozen=True)
class CharEmbedding:
    """Embedding of one character (a UTF-8 byte or one of five marks)."""

    dim: int = 16


@dataclass(frozen=True)
class CharCNN:
    """The encoder of a token from its characters (ELMO_SPEC 2.3)."""

    activation: Literal["relu", "tanh"] = "relu"
    embedding: CharEmbedding = field(default_factory=CharEmbedding)
    filters: tuple[tuple[int, int], ...] = PUBLISHED_FILTERS
    max_characters_per_token: int = 50
    n_highway: int = 2

    @property
    def n_filters(self) -> int:
        """All filters together: the width of the encoder before its projection."""
        return sum(number for _, number in self.filters)


@dataclass(frozen=True)
class LSTM:
    """The stack of projected LSTM layers, one per direction (ELMO_SPEC 2.4 and 2.5). ``None`` clips nothing."""

    dim: int = 4096
    projection_dim: int = 512
    n_layers: int = 2
    cell_clip: float | None = 3.0
    proj_clip: float | None = 3.0
    use_skip_connections: bool = True


@dataclass(frozen=True)
class Softmax:
    """The output distribution: ``adaptive`` (Grave et al. 2017), ``full`` or ``sampled`` (bilm-tf)."""

    kind: Literal["adaptive", "full", "sampled"] = "adaptive"
    # Adaptive: sizes at which clusters end, such as (4000, 40000); empty = chosen from the vocabulary counts.
    cutoffs: tuple[int, ...] = ()
    # Adaptive: each further cluster's width is divided by this once more.
    factor: float = 4.0
    # Sampled: words drawn per direction and step.
    n_negative_samples_batch: int = 8192


@dataclass(frozen=True)
class Model:
    """Everything that decides the shapes of the parameters, dropout and the dtype of the products."""

    char_cnn: CharCNN = field(default_factory=CharCNN)
    lstm: LSTM = field(default_factory=LSTM)
    softmax: Softmax = field(default_factory=Softmax)
    dropout: float = 0.1
    # Of all matrix products; "auto" is bfloat16 on accelerators and float32 on CPU. Their sums, the states of the LSTMs
    # and the losses are always float32.
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True)
class Data:
    """Where the text comes from. Text is one sentence a line, tokens separated by whitespace."""

    # "pydoc" is the documentation every Python carries: text for a first run without a download.
    source: Literal["text", "pydoc"] = "text"
    # Globs of text shards, several separated by commas.
    train: str = ""
    heldout: str = ""
    # A vocabulary file with its counts beside it; empty = built from the training text.
    vocabulary: str = ""
    min_count: int = 1
    max_vocabulary: int = 800_000
    # What the shuffle moves as one piece.
    unit: Literal["sentence", "document"] = "sentence"
    # Directory of encoded corpora; empty = "encoded" beside the run directory.
    cache_dir: str = ""


@dataclass(frozen=True)
class Train:
    """Length and shape of the training."""

    # Rows (streams) of the whole run over all devices, and tokens of a window.
    batch_size: int = 128
    unroll_steps: int = 20
    n_epochs: float = 10.0
    # Takes the place of n_epochs when set.
    n_steps: int | None = None
    # Rows of a device are worked off in this many parts, for memory; the gradient is that of the whole.
    gradient_accumulation: int = 1
    # "carried": the LSTM state flows from sentence to sentence (as published); "sentence": it starts at zero.
    state: Literal["carried", "sentence"] = "carried"
    seed: int = 0


@dataclass(frozen=True)
class Optimizer:
    """Adagrad as published or AdamW, with an optional warm-up and cosine decay."""

    name: Literal["adagrad", "adamw"] = "adagrad"
    # The highest; None = 0.2 for adagrad, as published, and 0.001 for adamw.
    learning_rate: float | None = None
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    # Cosine: the learning rate at the last step, as a fraction of its peak.
    final_fraction: float = 0.0
    all_clip_norm_val: float = 10.0
    # The loss is multiplied by this before the gradient is taken; None = unroll_steps, as published.
    loss_scale: float | None = None
    initial_accumulator: float = 1.0
    weight_decay: float = 0.0
    b1: float = 0.9
    b2: float = 0.999


@dataclass(frozen=True)
class Parallel:
    """How the step is spread over devices."""

    mode: Literal["shard_map", "pmap"] = "shard_map"


@dataclass(frozen=True)
class Evaluation:
    """Held-out evaluation during training and at its end."""

    every_steps: int = 1000
    # Streams of the carried perplexity; 0 = stateless (the LSTM state is reset at every sentence).
    streams: int = 32
    # Held-out predictions used per evaluation during training; 0 = all. The last evaluation always uses all.
    max_tokens: int = 200_000


@dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are saved and how many of the newest are kept (the best one is kept besides)."""

    every_steps: int = 1000
    keep: int = 2


@dataclass(frozen=True)
class Config:
    """One run."""

    run_dir: str = "runs/elmo"
    # A run directory whose weights a new run starts from; empty = random initialisation.
    init_from: str = ""
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optimizer: Optimizer = field(default_factory=Optimizer)
    parallel: Parallel = field(default_factory=Parallel)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log_every_steps: int = 10

    def validate(self) -> "Config":
        """Check every rule between values and return the configuration itself.

        Raises:
            UserError: naming the field, its value, the rule and a fix.
        """
        for path, value in leaves(self):
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"config.{path} is {value!r}: must be a finite number")
        for ok, path, rule in _rules(self):
            if not ok:
                raise UserError(f"config.{path} is {get_path(self, path)!r}: {rule}")
        return self


def _rules(c: Config) -> list[tuple[bool, str, str]]:
    cnn, lstm, train, opt = c.model.char_cnn, c.model.lstm, c.train, c.optimizer
    widest = max((width for width, _ in cnn.filters), default=0)
    cutoffs = c.model.softmax.cutoffs
    positive = "must be at least 1"
    return [
        (cnn.embedding.dim >= 1, "model.char_cnn.embedding.dim", positive),
        (
            len(cnn.filters) >= 1,
            "model.char_cnn.filters",
            "needs at least one (width, number) pair, such as ((1, 32),)",
        ),
        (
            all(w >= 1 and n >= 1 for w, n in cnn.filters),
            "model.char_cnn.filters",
            "each (width, number) pair must be at least (1, 1)",
        ),
        (
            cnn.max_characters_per_token >= max(3, widest),
            "model.char_cnn.max_characters_per_token",
            f"must be at least 3 and at least the widest filter ({widest})",
        ),
        (cnn.n_highway >= 0, "model.char_cnn.n_highway", "must be 0 or more"),
        (lstm.dim >= 1, "model.lstm.dim", positive),
        (
            1 <= lstm.projection_dim <= lstm.dim,
            "model.lstm.projection_dim",
            f"must be between 1 and lstm.dim ({lstm.dim}); equal means no projection",
        ),
        (lstm.n_layers >= 1, "model.lstm.n_layers", positive),
        (lstm.cell_clip is None or lstm.cell_clip > 0, "model.lstm.cell_clip", "must be above 0, or none"),
        (lstm.proj_clip is None or lstm.proj_clip > 0, "model.lstm.proj_clip", "must be above 0, or none"),
        (0 <= c.model.dropout < 1, "model.dropout", "must be at least 0 and below 1"),
        (
            all(a < b for a, b in zip((0, *cutoffs), cutoffs, strict=False)),
            "model.softmax.cutoffs",
            "must be positive and increasing, such as (4000, 40000)",
        ),
        (c.model.softmax.factor >= 1, "model.softmax.factor", "must be at least 1"),
        (c.model.softmax.n_negative_samples_batch >= 1, "model.softmax.n_negative_samples_batch", positive),
        (
            c.data.source != "text" or bool(c.data.train),
            "data.train",
            "source 'text' needs a glob of text shards: --config.data.train='corpus/*.txt'",
        ),
        (
            c.data.source != "pydoc" or not c.data.train,
            "data.train",
            "source 'pydoc' reads no files; to train on this text set --config.data.source=text",
        ),
        (
            c.data.source != "pydoc" or not c.data.heldout,
            "data.heldout",
            "source 'pydoc' reads no files and has held-out text of its own; leave it empty or set "
            "--config.data.source=text",
        ),
        (c.data.min_count >= 1, "data.min_count", positive),
        (
            c.data.max_vocabulary >= 4,
            "data.max_vocabulary",
            "must leave room for <S>, </S>, <UNK> and a word: at least 4",
        ),
        (train.batch_size >= 1, "train.batch_size", positive),
        (train.unroll_steps >= 1, "train.unroll_steps", positive),
        (train.n_epochs > 0, "train.n_epochs", "must be above 0"),
        (train.n_steps is None or train.n_steps >= 1, "train.n_steps", "must be at least 1, or none"),
        (
            train.gradient_accumulation >= 1 and train.batch_size % train.gradient_accumulation == 0,
            "train.gradient_accumulation",
            f"must be at least 1 and divide train.batch_size ({train.batch_size})",
        ),
        (0 <= train.seed < 2**31, "train.seed", "must be between 0 and 2147483647"),
        (opt.learning_rate is None or opt.learning_rate > 0, "optimizer.learning_rate", "must be above 0, or none"),
        (opt.warmup_steps >= 0, "optimizer.warmup_steps", "must be 0 or more"),
        (0 <= opt.final_fraction <= 1, "optimizer.final_fraction", "must be between 0 and 1"),
        (opt.all_clip_norm_val > 0, "optimizer.all_clip_norm_val", "must be above 0"),
        (opt.loss_scale is None or opt.loss_scale > 0, "optimizer.loss_scale", "must be above 0, or none"),
        (opt.initial_accumulator > 0, "optimizer.initial_accumulator", "must be above 0"),
        (opt.weight_decay >= 0, "optimizer.weight_decay", "must be 0 or more"),
        (0 <= opt.b1 < 1, "optimizer.b1", "must be at least 0 and below 1"),
        (0 <= opt.b2 < 1, "optimizer.b2", "must be at least 0 and below 1"),
        (c.evaluation.every_steps >= 1, "evaluation.every_steps", positive),
        (c.evaluation.streams >= 0, "evaluation.streams", "must be 0 (stateless) or more"),
        (c.evaluation.max_tokens >= 0, "evaluation.max_tokens", "must be 0 (all) or more"),
        (c.checkpoint.every_steps >= 1, "checkpoint.every_steps", positive),
        (c.checkpoint.keep >= 1, "checkpoint.keep", positive),
        (c.log_every_steps >= 1, "log_every_steps", positive),
    ]


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path and value of every field that is no group of fields."""
    for name in (f.name for f in fields(node)):
        value = getattr(node, name)
        if is_dataclass(value):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def get_path(config: Any, path: str) -> Any:
    """The value at a dotted path: ``get_path(config, "model.lstm.dim")``."""
    for name in path.split("."):
        config = getattr(config, name)
    return config
