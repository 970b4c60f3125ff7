"""Rules between the values of a configuration."""

from operator import attrgetter
from os.path import abspath
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elmo_jax.config import Config


# Whether a rule holds, the path of the field it is about, and what to say when it does not.
Rule = tuple[bool, str, str]

POSITIVE = "must be at least 1"


def rules(config: "Config") -> list[Rule]:
    """The rules of every configuration; ``needed`` and ``unread`` are those of one that a run is about to use."""
    return [
        *_architecture(config),
        *_softmax(config),
        *_data(config),
        *_training(config),
        *_intervals(config),
    ]


def _architecture(c: "Config") -> list[Rule]:
    cnn, lstm = c.model.char_cnn, c.model.lstm
    widest = max((width for width, _ in cnn.filters), default=0)
    places = c.model.dropout_places
    return [
        *_dictionaries(c),
        (cnn.embedding.dim >= 1, "model.char_cnn.embedding.dim", POSITIVE),
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
        (lstm.dim >= 1, "model.lstm.dim", POSITIVE),
        (
            1 <= lstm.projection_dim <= lstm.dim,
            "model.lstm.projection_dim",
            f"must be between 1 and lstm.dim ({lstm.dim}); equal means no projection",
        ),
        (lstm.n_layers >= 1, "model.lstm.n_layers", POSITIVE),
        (lstm.cell_clip is None or lstm.cell_clip > 0, "model.lstm.cell_clip", "must be above 0, or none"),
        (lstm.proj_clip is None or lstm.proj_clip > 0, "model.lstm.proj_clip", "must be above 0, or none"),
        (0 <= c.model.dropout < 1, "model.dropout", "must be at least 0 and below 1"),
        (len(set(places)) == len(places), "model.dropout_places", "names a place twice; name each once"),
        (
            c.model.dropout <= 0 or bool(set(places) - ({"between"} if lstm.n_layers == 1 else set())),
            "model.dropout_places",
            f"drops nothing in {lstm.n_layers} layer(s); to train without dropout set --config.model.dropout=0",
        ),
    ]


def _dictionaries(c: "Config") -> list[Rule]:
    sizes, used = c.model.dictionaries, c.model.input == "words+characters"
    return [
        (sizes.n_words >= 0, "model.dictionaries.n_words", "must be 0 (no words) or more"),
        (sizes.n_characters >= 0, "model.dictionaries.n_characters", "must be 0 (no characters) or more"),
        (
            (sizes.n_words > 0) == (sizes.word_dim > 0) and sizes.word_dim >= 0,
            "model.dictionaries.word_dim",
            f"must be above 0 where there are words, and 0 without ({sizes.n_words})",
        ),
        (
            used == (sizes.n_words + sizes.n_characters > 0),
            "model.dictionaries",
            "must have words or characters with model.input 'words+characters', and neither without",
        ),
    ]


def _softmax(c: "Config") -> list[Rule]:
    cutoffs, shared = c.model.softmax.cutoffs, c.model.share_embedding_softmax
    return [
        (
            all(a < b for a, b in zip((0, *cutoffs), cutoffs, strict=False)),
            "model.softmax.cutoffs",
            "must be positive and increasing, such as (4000, 40000)",
        ),
        (c.model.softmax.factor >= 1, "model.softmax.factor", "must be at least 1"),
        (c.model.softmax.n_negative_samples_batch >= 1, "model.softmax.n_negative_samples_batch", POSITIVE),
        (
            not shared or c.model.input == "words",
            "model.share_embedding_softmax",
            "characters have no table of words to share: set --config.model.input=words, or false",
        ),
        (
            not shared or c.model.softmax.kind != "adaptive",
            "model.share_embedding_softmax",
            "the clusters of an adaptive softmax have widths of their own: set --config.model.softmax.kind=sampled or "
            "full, or false",
        ),
    ]


def _data(c: "Config") -> list[Rule]:
    own = {"pydoc": "source 'pydoc' reads no files", "tfds": "source 'tfds' reads the splits in config.data.tfds"}
    files = own.get(c.data.source, "")
    return [
        (
            not files or not c.data.train,
            "data.train",
            f"{files}; to train on this text set --config.data.source=text",
        ),
        (
            not files or not c.data.heldout,
            "data.heldout",
            f"{files} and has held-out text of its own; leave it empty or set --config.data.source=text",
        ),
        (
            c.data.source != "tfds" or bool(c.data.tfds.name),
            "data.tfds.name",
            "source 'tfds' needs the name of a text builder: --config.data.tfds.name=lm1b",
        ),
        (
            c.data.source != "tfds" or bool(c.data.tfds.train),
            "data.tfds.train",
            "source 'tfds' needs a split: --config.data.tfds.train=train",
        ),
        (
            c.data.source != "pydoc" or (c.data.tokenizer, c.data.sentences) == ("whitespace", "lines"),
            "data.source",
            "the embedded text is cut into sentences and tokens already: leave config.data.tokenizer at 'whitespace' "
            "and config.data.sentences at 'lines'",
        ),
        (c.data.min_count >= 1, "data.min_count", POSITIVE),
        (
            c.data.max_vocabulary >= 4,
            "data.max_vocabulary",
            "must leave room for <S>, </S>, <UNK> and a word: at least 4",
        ),
    ]


def _training(c: "Config") -> list[Rule]:
    train, opt = c.train, c.optimizer
    return [
        (train.batch_size >= 1, "train.batch_size", POSITIVE),
        (train.unroll_steps >= 1, "train.unroll_steps", POSITIVE),
        (train.n_epochs > 0, "train.n_epochs", "must be above 0"),
        (train.n_steps is None or train.n_steps >= 1, "train.n_steps", "must be at least 1, or none"),
        (
            train.gradient_accumulation >= 1 and train.batch_size % train.gradient_accumulation == 0,
            "train.gradient_accumulation",
            f"must be at least 1 and divide train.batch_size ({train.batch_size})",
        ),
        (0 <= train.reset_probability <= 1, "train.reset_probability", "must be between 0 and 1"),
        (0 <= train.seed < 2**31, "train.seed", "must be between 0 and 2147483647"),
        (opt.learning_rate is None or opt.learning_rate > 0, "optimizer.learning_rate", "must be above 0, or none"),
        (opt.warmup_steps is None or opt.warmup_steps >= 0, "optimizer.warmup_steps", "must be 0 or more, or none"),
        (0 <= opt.final_fraction <= 1, "optimizer.final_fraction", "must be between 0 and 1"),
        (opt.all_clip_norm_val > 0, "optimizer.all_clip_norm_val", "must be above 0"),
        (opt.loss_scale is None or opt.loss_scale > 0, "optimizer.loss_scale", "must be above 0, or none"),
        (opt.initial_accumulator > 0, "optimizer.initial_accumulator", "must be above 0"),
        (opt.weight_decay >= 0, "optimizer.weight_decay", "must be 0 or more"),
        (0 <= opt.b1 < 1, "optimizer.b1", "must be at least 0 and below 1"),
        (opt.b2 is None or 0 <= opt.b2 < 1, "optimizer.b2", "must be at least 0 and below 1, or none"),
        (opt.ema_decay is None or 0 < opt.ema_decay < 1, "optimizer.ema_decay", "must be above 0 and below 1, or none"),
    ]


def _intervals(c: "Config") -> list[Rule]:
    has_heldout = {"text": bool(c.data.heldout), "pydoc": True, "tfds": bool(c.data.tfds.heldout)}[c.data.source]
    return [
        (c.evaluation.every_steps >= 1, "evaluation.every_steps", POSITIVE),
        (c.evaluation.streams >= 0, "evaluation.streams", "must be 0 (stateless) or more"),
        (c.evaluation.max_tokens >= 0, "evaluation.max_tokens", "must be 0 (all) or more"),
        (c.evaluation.patience >= 0, "evaluation.patience", "must be 0 (never) or more"),
        (
            c.evaluation.patience == 0 or has_heldout,
            "evaluation.patience",
            "stopping early needs held-out text: set config.data.heldout, or 0",
        ),
        (c.watch.profile_first_step >= 1, "watch.profile_first_step", POSITIVE),
        (c.watch.profile_steps >= 0, "watch.profile_steps", "must be 0 (no profile) or more"),
        (c.checkpoint.every_steps >= 1, "checkpoint.every_steps", POSITIVE),
        (c.checkpoint.keep >= 1, "checkpoint.keep", POSITIVE),
        (c.log_every_steps >= 1, "log_every_steps", POSITIVE),
    ]


def needed(c: "Config") -> list[Rule]:
    """What a configuration cannot train without; that of a model need not say what text it has read."""
    return [
        (
            c.data.source != "text" or bool(c.data.train),
            "data.train",
            "source 'text' needs a glob of text shards: --config.data.train='corpus/*.txt'",
        ),
        (
            c.model.input != "words+characters",
            "model.input",
            "that is for models of ELMoForManyLangs, which give vectors; train with 'characters' or 'words'",
        ),
        (
            not (c.compilation_cache and Path(abspath(c.compilation_cache)).is_relative_to(abspath(c.run_dir))),
            "compilation_cache",
            f"must not lie in the run directory ({c.run_dir}): runs are passed on, and what it holds is executed",
        ),
    ]


def unread(c: "Config") -> list[Rule]:
    """A field that nothing reads under the other settings keeps its default: whoever sets it expects an effect."""
    optimizer, softmax = c.optimizer.name, c.model.softmax.kind
    moments, dropped = optimizer in ("adamw", "lion"), c.model.dropout > 0
    # The field, whether it is read, and what would have it read.
    table = [
        ("model.dropout_places", dropped, "config.model.dropout above 0"),
        ("model.dropout_mask", dropped, "config.model.dropout above 0"),
        ("model.softmax.cutoffs", softmax == "adaptive", "config.model.softmax.kind=adaptive"),
        ("model.softmax.factor", softmax == "adaptive", "config.model.softmax.kind=adaptive"),
        ("model.softmax.n_negative_samples_batch", softmax == "sampled", "config.model.softmax.kind=sampled"),
        ("data.language", c.data.tokenizer == "moses", "config.data.tokenizer=moses"),
        ("train.reset_probability", c.train.state == "random", "config.train.state=random"),
        ("optimizer.final_fraction", c.optimizer.schedule == "cosine", "config.optimizer.schedule=cosine"),
        ("optimizer.initial_accumulator", optimizer == "adagrad", "config.optimizer.name=adagrad"),
        ("optimizer.weight_decay", optimizer != "adagrad", "config.optimizer.name=adamw, adafactor or lion"),
        ("optimizer.b1", moments, "config.optimizer.name=adamw or lion"),
        ("optimizer.b2", moments, "config.optimizer.name=adamw or lion"),
    ]
    default, value = type(c)(), {path: attrgetter(path) for path, _, _ in table}
    return [
        (
            read or value[path](c) == value[path](default),
            path,
            f"only {reader} reads it: leave it at {value[path](default)!r}, or set that",
        )
        for path, read, reader in table
    ]
