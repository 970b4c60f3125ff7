"""The typed configuration of a run: nested frozen dataclasses, checked, and kept as JSON in the run directory.

Field names follow bilm-tf's ``options.json`` where the idea is the same. An experiment is one file in ``configs/`` with
a ``get_config()`` function; a value is changed from the command line by its path::

    python train.py --config configs/elmo_small.py --config.model.lstm.dim=2048 --config.train.batch_size=256
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from elmo_jax.config_rules import needed, rules, unread
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
class Dictionaries:
    """Sizes of the dictionaries that models of ELMoForManyLangs read tokens by (ELMO_SPEC 2.14). 0 = has none."""

    n_words: int = 0
    # Width of the vector of a word, beside the filters.
    word_dim: int = 0
    # Code points and marks, in place of bytes and marks.
    n_characters: int = 0


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

    # What the first layer reads: characters of each word, a table of words, or both (ELMoForManyLangs: not trained).
    input: Literal["characters", "words", "words+characters"] = "characters"
    dictionaries: Dictionaries = field(default_factory=Dictionaries)
    # False: only the forward direction, as bilm-tf has it too.
    bidirectional: bool = True
    # Word input: the softmax and the table of the input are one (full and sampled softmax).
    share_embedding_softmax: bool = False
    char_cnn: CharCNN = field(default_factory=CharCNN)
    lstm: LSTM = field(default_factory=LSTM)
    softmax: Softmax = field(default_factory=Softmax)
    dropout: float = 0.1
    # Where: on the input of the first LSTM layer, on that of the others, before the softmax (all three as published).
    dropout_places: tuple[Literal["input", "between", "output"], ...] = ("input", "between", "output")
    # A fresh mask for every position (as published), or one for all positions of a window (Gal and Ghahramani 2016).
    dropout_mask: Literal["position", "window"] = "position"
    # Of matrix products; "auto": float32 on CPU, else bfloat16. Sums, states of LSTMs and losses are always float32.
    compute_dtype: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions that the text is read in, in the order of the axis D."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @property
    def token_width(self) -> int | None:
        """Ids of a token: of its characters, after that of its word where it has both; None where it is one id."""
        if self.input == "words":
            return None
        sizes, width = self.dictionaries, self.char_cnn.max_characters_per_token
        return width if self.input == "characters" else bool(sizes.n_words) + bool(sizes.n_characters) * width


@dataclass(frozen=True)
class TFDS:
    """A text builder of TensorFlow Datasets, prepared in the array_record format."""

    name: str = "lm1b"
    # Splits, such as "train", "train[:10%]" or "train+validation"; heldout may be empty.
    train: str = "train"
    heldout: str = "test"
    # The text feature; empty = the only one there is.
    feature: str = ""
    # Empty = TFDS_DATA_DIR, else ~/tensorflow_datasets.
    data_dir: str = ""


@dataclass(frozen=True)
class Data:
    """Where the text comes from, and how it is cut into sentences and tokens."""

    # "pydoc" is the documentation every Python carries: text for a first run without a download.
    source: Literal["text", "pydoc", "tfds"] = "text"
    # Globs of text shards (plain, .gz or .zst), several separated by commas; or the folder of one encoded corpus.
    train: str = ""
    heldout: str = ""
    tfds: TFDS = field(default_factory=TFDS)
    # Tokens: as separated by whitespace, Unicode words (UAX 29), or the rules of Moses for a language.
    tokenizer: Literal["whitespace", "unicode", "moses"] = "whitespace"
    # Sentences: one a line, or found within each line by the rules of Unicode (UAX 29).
    sentences: Literal["lines", "unicode"] = "lines"
    # Of the Moses rules: an ISO 639-1 code.
    language: str = "en"
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
    # The gates of the LSTMs are computed again for their gradient, not kept: less memory, a little more time.
    recompute_gates: bool = False
    # "carried": the LSTM state flows from sentence to sentence (as published); "sentence": it starts at zero;
    # "random": it starts at zero at some sentences, each with reset_probability.
    state: Literal["carried", "sentence", "random"] = "carried"
    reset_probability: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Optimizer:
    """The optimiser, from Optax, and its learning rate over the steps."""

    # The default was the best of a comparison (docs/training.md); the published one is PUBLISHED_OPTIMIZER.
    name: Literal["adagrad", "adamw", "adafactor", "lion"] = "adamw"
    # The highest; None = what suits the optimiser (train/optim.py), such as 0.2 for adagrad, as published.
    learning_rate: float | None = None
    # After a linear warm-up; "inverse_sqrt" falls with the square root of the step.
    schedule: Literal["constant", "cosine", "inverse_sqrt"] = "cosine"
    # None = a twentieth of the run, at most 200.
    warmup_steps: int | None = None
    # Cosine: the learning rate at the last step, as a fraction of its peak.
    final_fraction: float = 0.0
    all_clip_norm_val: float = 10.0
    # The loss is multiplied by this before the gradient is taken; None = unroll_steps, as published.
    loss_scale: float | None = None
    initial_accumulator: float = 1.0
    weight_decay: float = 0.0
    b1: float = 0.9
    # None = 0.999 for adamw and 0.99 for lion.
    b2: float | None = None
    # Evaluate, keep as the best and export an exponential moving average of the weights; None = the weights themselves.
    ema_decay: float | None = None


PUBLISHED_OPTIMIZER = Optimizer(name="adagrad", schedule="constant", warmup_steps=0)  # ELMO_SPEC 2.12


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
    # Stop after so many evaluations in a row that are no better than the best before them; 0 = never.
    patience: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """When checkpoints are saved and how many of the newest are kept (the best one is kept besides)."""

    every_steps: int = 1000
    keep: int = 2


@dataclass(frozen=True)
class Watch:
    """Where a run can be watched besides metrics.jsonl, and the window of the profiler."""

    # TensorBoard event files in the run directory, in tensorboard/.
    tensorboard: bool = False
    # Weights & Biases (the extra `wandb`): the name of a project; empty = off.
    wandb_project: str = ""
    # Trace these steps with JAX's profiler into profile/ of the run directory; 0 steps = none.
    profile_first_step: int = 10
    profile_steps: int = 0


@dataclass(frozen=True)
class Config:
    """One run."""

    run_dir: str = "runs/elmo"
    # A model whose weights a new run starts from, such as another run or bilm-tf files; empty = random initialisation.
    init_from: str = ""
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optimizer: Optimizer = field(default_factory=Optimizer)
    parallel: Parallel = field(default_factory=Parallel)
    evaluation: Evaluation = field(default_factory=Evaluation)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    watch: Watch = field(default_factory=Watch)
    log_every_steps: int = 10
    # Stop at the operation that makes a NaN, and refuse transfers between host and device that nobody asked for: slow.
    debug: bool = False
    # Directory of compiled programs, which later runs start from; empty = in the user's cache directory; "off" = none.
    compilation_cache: str = ""

    def validate(self, *, recorded: bool = False) -> "Config":
        """Check every rule between values and return the configuration itself.

        Args:
            recorded: it is that of a run or a model, maybe an older one: fields without an effect and no text are fine.

        Raises:
            UserError: naming the field, its value, the rule and a fix.
        """
        for path, value in leaves(self):
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"config.{path} is {value!r}: must be a finite number")
        for ok, path, rule in rules(self) if recorded else rules(self) + needed(self) + unread(self):
            if not ok:
                raise UserError(f"config.{path} is {get_path(self, path)!r}: {rule}")
        return self


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
