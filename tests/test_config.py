"""Configurations: what ships loads, every kind of field can be set, and every mistake is named in one line."""

import dataclasses
import json
import math
from pathlib import Path

import pytest

from elmo_jax import config_io
from elmo_jax.config import Config, Data, Model, Softmax, Train, get_path, leaves
from elmo_jax.config_rules import needed, rules, unread
from elmo_jax.errors import UserError
from elmo_jax.interop.bilm_tf import shapes
from elmo_jax.train.optim import peak_rate

EXPERIMENTS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
CONFIG = Config(data=Data(train="corpus/*.txt"))


def stem(file):
    return file.stem


def message_of(function, *arguments) -> str:
    """What the UserError says that the call raises: one line."""
    with pytest.raises(UserError) as raised:
        function(*arguments)
    message = str(raised.value)
    assert "\n" not in message
    return message


def overridden(path: str, text: str) -> Config:
    return config_io.override(CONFIG, path, text).validate()


# What ships


@pytest.mark.parametrize("file", EXPERIMENTS, ids=stem)
def test_an_experiment_that_ships_is_found_by_name_and_by_path_and_is_valid(file):
    config = config_io.experiment(file.stem)
    assert config == config_io.experiment(str(file))
    assert config.run_dir == f"runs/{file.stem}"
    if config.data.source == "text":
        config = config_io.override(config, "data.train", "corpus/*.txt")
    assert config_io.from_json(config_io.to_json(config)) == config.validate()


def test_a_text_experiment_says_that_it_needs_text():
    message = message_of(config_io.experiment("elmo_small").validate)
    assert message == (
        "config.data.train is '': source 'text' needs a glob of text shards: --config.data.train='corpus/*.txt'"
    )


@pytest.mark.parametrize(
    ("name", "parameters"), [("elmo_small", 13_593_296), ("elmo_medium", 28_027_728), ("elmo_original", 93_600_848)]
)
def test_the_published_models_have_the_published_sizes(name, parameters):
    assert sum(map(math.prod, shapes(config_io.experiment(name)).values())) == parameters


def test_the_published_hyperparameters_are_the_defaults():
    for name in ("elmo_small", "elmo_medium", "elmo_original"):
        config = config_io.experiment(name)
        optimizer, train = config.optimizer, config.train
        assert (optimizer.name, peak_rate(optimizer), optimizer.initial_accumulator) == ("adagrad", 0.2, 1.0)
        assert (optimizer.all_clip_norm_val, config.model.dropout) == (10.0, 0.1)
        assert (config.model.lstm.cell_clip, config.model.lstm.proj_clip) == (3.0, 3.0)
        assert (train.unroll_steps, train.n_epochs, train.state) == (20, 10, "carried")


# Overrides


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("model.lstm.dim", "1024", 1024),
        ("log_every_steps", "1_000", 1000),
        ("model.dropout", "0.25", 0.25),
        ("optimizer.learning_rate", "1e-3", 1e-3),
        ("optimizer.all_clip_norm_val", "5", 5.0),
        ("model.lstm.use_skip_connections", "false", False),
        ("model.lstm.use_skip_connections", "True", True),
        ("model.lstm.cell_clip", "none", None),
        ("model.lstm.cell_clip", "null", None),
        ("model.lstm.cell_clip", "2", 2.0),
        ("train.n_steps", "None", None),
        ("train.n_steps", "100", 100),
        ("model.softmax.cutoffs", "(10, 20)", (10, 20)),
        ("model.softmax.cutoffs", "[10, 20]", (10, 20)),
        ("model.softmax.cutoffs", "10,20", (10, 20)),
        ("model.softmax.cutoffs", "()", ()),
        ("model.char_cnn.filters", "((1, 8), (2, 16))", ((1, 8), (2, 16))),
        ("model.char_cnn.filters", "[[1, 8]]", ((1, 8),)),
        ("model.softmax.kind", "sampled", "sampled"),
        ("parallel.mode", "pmap", "pmap"),
        ("run_dir", "2024", "2024"),
        ("run_dir", "none", "none"),
        ("run_dir", "True", "True"),
        ("data.train", "a.txt,b.txt", "a.txt,b.txt"),
        ("data.train", "'quoted'", "'quoted'"),
        ("data.heldout", "", ""),
    ],
)
def test_every_kind_of_field_can_be_set(path, text, value):
    config = overridden(path, text)
    assert get_path(config, path) == value
    assert type(get_path(config, path)) is type(value)
    assert [name for name, old in leaves(CONFIG) if get_path(config, name) != old] in ([], [path])
    assert config_io.from_json(config_io.to_json(config)) == config


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("modle.lstm.dim", "config has no field 'modle'; did you mean 'model'?"),
        ("train.batchsize", "config.train has no field 'batchsize'; did you mean 'batch_size'?"),
        ("evaluation.zzz", "config.evaluation has no field 'zzz'; it has every_steps, streams, max_tokens, patience"),
        ("", "config has no field ''; it has run_dir, "),
        ("model", "config.model is a group of fields; set one of them, such as --config.model.input=..."),
        ("model.lstm", "config.model.lstm is a group of fields; set one of them, such as --config.model.lstm.dim=..."),
        (
            "train.seed.value",
            "config.train.seed has no field 'value': it is a value, set it with --config.train.seed=...",
        ),
    ],
)
def test_a_path_that_names_no_field_is_refused(path, message):
    assert message_of(overridden, path, "1").startswith(message)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("train.batch_size", "12.0", "config.train.batch_size is 12.0: it must be a whole number"),
        ("train.batch_size", "many", "config.train.batch_size is 'many': it must be a whole number"),
        ("train.batch_size", "true", "config.train.batch_size is True: it must be a whole number"),
        ("train.batch_size", "none", "config.train.batch_size is None: it must be a whole number"),
        ("train.batch_size", "", "config.train.batch_size is '': it must be a whole number"),
        ("train.batch_size", "{[]: 1}", "config.train.batch_size is '{[]: 1}': it must be a whole number"),
        ("train.n_steps", "ten", "config.train.n_steps is 'ten': it must be a whole number"),
        ("optimizer.learning_rate", "fast", "config.optimizer.learning_rate is 'fast': it must be a number"),
        ("optimizer.learning_rate", "nan", "config.optimizer.learning_rate is 'nan': it must be a number"),
        ("model.lstm.use_skip_connections", "1", "use_skip_connections is 1: it must be true or false"),
        ("model.softmax.kind", "fll", "kind is 'fll': it must be one of 'adaptive', 'full', 'sampled'"),
        ("parallel.mode", "none", "mode is 'none': it must be one of 'shard_map', 'pmap'"),
        ("model.softmax.cutoffs", "5", "config.model.softmax.cutoffs is 5: it must be a list"),
        ("model.softmax.cutoffs", "(5, 'x')", "config.model.softmax.cutoffs[1] is 'x': it must be a whole number"),
        ("model.char_cnn.filters", "((1, 2, 3),)", "config.model.char_cnn.filters[0] is (1, 2, 3): it must have 2"),
        ("model.char_cnn.filters", "((1, 2.5),)", "filters[0][1] is 2.5: it must be a whole number"),
    ],
)
def test_text_that_does_not_fit_the_type_of_the_field_is_refused(path, text, message):
    assert message in message_of(overridden, path, text)


# Rules

OUT_OF_RANGE = [
    ("model.char_cnn.embedding.dim", "0", "must be at least 1"),
    ("model.char_cnn.filters", "()", "needs at least one (width, number) pair, such as ((1, 32),)"),
    ("model.char_cnn.filters", "((1, 0),)", "each (width, number) pair must be at least (1, 1)"),
    ("model.char_cnn.max_characters_per_token", "6", "must be at least 3 and at least the widest filter (7)"),
    ("model.char_cnn.n_highway", "-1", "must be 0 or more"),
    ("model.lstm.dim", "0", "must be at least 1"),
    ("model.lstm.projection_dim", "4097", "must be between 1 and lstm.dim (4096); equal means no projection"),
    ("model.lstm.n_layers", "0", "must be at least 1"),
    ("model.lstm.cell_clip", "0", "must be above 0, or none"),
    ("model.lstm.proj_clip", "-3", "must be above 0, or none"),
    ("model.dropout", "1", "must be at least 0 and below 1"),
    ("model.softmax.cutoffs", "(20, 20)", "must be positive and increasing, such as (4000, 40000)"),
    ("model.softmax.factor", "0.5", "must be at least 1"),
    ("model.softmax.n_negative_samples_batch", "0", "must be at least 1"),
    ("model.dropout_places", "('input', 'input')", "names a place twice; name each once"),
    (
        "model.dropout_places",
        "()",
        "drops nothing in 2 layer(s); to train without dropout set --config.model.dropout=0",
    ),
    ("model.dictionaries.n_words", "-1", "must be 0 (no words) or more"),
    ("model.dictionaries.n_characters", "-1", "must be 0 (no characters) or more"),
    ("model.dictionaries.word_dim", "5", "must be above 0 where there are words, and 0 without (0)"),
    ("data.train", "", "source 'text' needs a glob of text shards: --config.data.train='corpus/*.txt'"),
    ("data.min_count", "0", "must be at least 1"),
    ("data.max_vocabulary", "3", "must leave room for <S>, </S>, <UNK> and a word: at least 4"),
    ("train.batch_size", "0", "must be at least 1"),
    ("train.unroll_steps", "0", "must be at least 1"),
    ("train.n_epochs", "0", "must be above 0"),
    ("train.n_steps", "0", "must be at least 1, or none"),
    ("train.gradient_accumulation", "3", "must be at least 1 and divide train.batch_size (128)"),
    ("train.reset_probability", "1.5", "must be between 0 and 1"),
    ("train.seed", "-1", "must be between 0 and 2147483647"),
    ("optimizer.learning_rate", "0", "must be above 0, or none"),
    ("optimizer.warmup_steps", "-1", "must be 0 or more, or none"),
    ("optimizer.final_fraction", "1.5", "must be between 0 and 1"),
    ("optimizer.all_clip_norm_val", "0", "must be above 0"),
    ("optimizer.loss_scale", "0", "must be above 0, or none"),
    ("optimizer.initial_accumulator", "0", "must be above 0"),
    ("optimizer.weight_decay", "-0.1", "must be 0 or more"),
    ("optimizer.ema_decay", "1", "must be above 0 and below 1, or none"),
    ("optimizer.b1", "1", "must be at least 0 and below 1"),
    ("optimizer.b2", "-0.5", "must be at least 0 and below 1, or none"),
    ("evaluation.every_steps", "0", "must be at least 1"),
    ("evaluation.streams", "-1", "must be 0 (stateless) or more"),
    ("evaluation.max_tokens", "-1", "must be 0 (all) or more"),
    ("evaluation.patience", "-1", "must be 0 (never) or more"),
    ("evaluation.patience", "3", "stopping early needs held-out text: set config.data.heldout, or 0"),
    ("watch.profile_first_step", "0", "must be at least 1"),
    ("watch.profile_steps", "-1", "must be 0 (no profile) or more"),
    ("checkpoint.every_steps", "0", "must be at least 1"),
    ("checkpoint.keep", "0", "must be at least 1"),
    ("log_every_steps", "0", "must be at least 1"),
]


@pytest.mark.parametrize(("path", "text", "rule"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_with_its_path_and_the_rule(path, text, rule):
    config = config_io.override(CONFIG, path, text)
    assert message_of(config.validate) == f"config.{path} is {get_path(config, path)!r}: {rule}"


# Settings under which the last field is not read, its default, and what reads it.
UNREAD = [
    (
        {"model.dropout": "0", "model.dropout_places": "('input',)"},
        "('input', 'between', 'output')",
        "config.model.dropout above 0",
    ),
    ({"model.dropout": "0", "model.dropout_mask": "window"}, "'position'", "config.model.dropout above 0"),
    ({"model.softmax.kind": "full", "model.softmax.cutoffs": "(9,)"}, "()", "config.model.softmax.kind=adaptive"),
    ({"model.softmax.kind": "full", "model.softmax.factor": "2"}, "4.0", "config.model.softmax.kind=adaptive"),
    ({"model.softmax.n_negative_samples_batch": "9"}, "8192", "config.model.softmax.kind=sampled"),
    ({"data.language": "de"}, "'en'", "config.data.tokenizer=moses"),
    ({"train.reset_probability": "0.5"}, "0.1", "config.train.state=random"),
    (
        {"optimizer.schedule": "inverse_sqrt", "optimizer.final_fraction": "0.1"},
        "0.0",
        "config.optimizer.schedule=cosine",
    ),
    ({"optimizer.name": "adamw", "optimizer.initial_accumulator": "0.1"}, "1.0", "config.optimizer.name=adagrad"),
    (
        {"optimizer.name": "adagrad", "optimizer.weight_decay": "0.1"},
        "0.0",
        "config.optimizer.name=adamw, adafactor or lion",
    ),
    ({"optimizer.name": "adafactor", "optimizer.b1": "0.5"}, "0.9", "config.optimizer.name=adamw or lion"),
    ({"optimizer.name": "adagrad", "optimizer.b2": "0.5"}, "None", "config.optimizer.name=adamw or lion"),
]

# Fields set together, the one that the message is about, and what it says of it.
CONFLICTS = [
    ({"data.source": "pydoc"}, "data.train", "source 'pydoc' reads no files; to train on this text set"),
    ({"data.source": "tfds"}, "data.train", "source 'tfds' reads the splits in config.data.tfds; to train"),
    (
        {"data.source": "pydoc", "data.train": "", "data.heldout": "a.txt"},
        "data.heldout",
        "source 'pydoc' reads no files and has held-out text of its own; leave it empty",
    ),
    ({"data.source": "tfds", "data.train": "", "data.tfds.name": ""}, "data.tfds.name", "source 'tfds' needs the name"),
    (
        {"data.source": "tfds", "data.train": "", "data.tfds.train": ""},
        "data.tfds.train",
        "source 'tfds' needs a split",
    ),
    (
        {"data.source": "pydoc", "data.train": "", "data.tokenizer": "unicode"},
        "data.source",
        "the embedded text is cut into sentences and tokens already",
    ),
    (
        {"model.input": "words+characters"},
        "model.dictionaries",
        "must have words or characters with model.input 'words+characters'",
    ),
    (
        {"model.input": "words+characters", "model.dictionaries.n_characters": "9"},
        "model.input",
        "that is for models of ELMoForManyLangs, which give vectors; train with",
    ),
    ({"model.share_embedding_softmax": "true"}, "model.share_embedding_softmax", "characters have no table of words"),
    (
        {"model.share_embedding_softmax": "true", "model.input": "words"},
        "model.share_embedding_softmax",
        "the clusters of an adaptive softmax have widths of their own",
    ),
    (
        {"model.dropout_places": "('between',)", "model.lstm.n_layers": "1"},
        "model.dropout_places",
        "drops nothing in 1 layer(s)",
    ),
    (
        {"run_dir": "runs/a", "compilation_cache": "runs/b/../a/xla"},
        "compilation_cache",
        "must not lie in the run directory (runs/a): runs are passed on",
    ),
    *(
        (fields, list(fields)[-1], f"only {reader} reads it: leave it at {default}, or set that")
        for fields, default, reader in UNREAD
    ),
]


def changed_by(fields: dict[str, str]) -> Config:
    config = CONFIG
    for path, text in fields.items():
        config = config_io.override(config, path, text)
    return config


@pytest.mark.parametrize(("fields", "path", "rule"), CONFLICTS)
def test_fields_that_contradict_each_other_are_refused(fields, path, rule):
    config = changed_by(fields)
    assert message_of(config.validate).startswith(f"config.{path} is {get_path(config, path)!r}: {rule}")


def all_rules(config: Config) -> list[tuple[bool, str, str]]:
    return rules(config) + needed(config) + unread(config)


def test_every_rule_is_tested():
    broken = set()
    for fields in [*({path: text} for path, text, _ in OUT_OF_RANGE), *(fields for fields, _, _ in CONFLICTS)]:
        broken |= {number for number, (holds, _, _) in enumerate(all_rules(changed_by(fields))) if not holds}
    assert broken == set(range(len(all_rules(CONFIG))))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("model.char_cnn.max_characters_per_token", "7"),
        ("model.char_cnn.n_highway", "0"),
        ("model.lstm.projection_dim", "4096"),
        ("model.dropout", "0"),
        ("model.softmax.factor", "1"),
        ("data.max_vocabulary", "4"),
        ("train.gradient_accumulation", "128"),
        ("train.n_epochs", "0.01"),
        ("train.seed", "2147483647"),
        ("evaluation.streams", "0"),
    ],
)
def test_the_last_value_within_the_range_is_good(path, text):
    overridden(path, text)


@pytest.mark.parametrize(
    "fields",
    [
        {"optimizer.schedule": "cosine", "optimizer.final_fraction": "1"},
        {"optimizer.name": "lion", "optimizer.b1": "0", "optimizer.b2": "0", "optimizer.weight_decay": "0.1"},
        {"optimizer.name": "adagrad", "optimizer.initial_accumulator": "0.1"},
        {"model.softmax.kind": "sampled", "model.softmax.n_negative_samples_batch": "1"},
        {"train.state": "random", "train.reset_probability": "0.5"},
        {"data.tokenizer": "moses", "data.language": "de"},
        {"model.dropout_places": "('input',)", "model.dropout_mask": "window", "model.lstm.n_layers": "1"},
    ],
    ids=lambda fields: " ".join(fields.values()),
)
def test_a_field_is_good_where_it_is_read(fields):
    changed_by(fields).validate()


FLOATS = [path for path, value in leaves(CONFIG) if isinstance(value, float)] + [
    "optimizer.loss_scale",
    "optimizer.learning_rate",
]


@pytest.mark.parametrize("path", FLOATS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_every_number_is_finite(path, value):
    tree = json.loads(config_io.to_json(CONFIG))
    *groups, name = path.split(".")
    node = tree
    for group in groups:
        node = node[group]
    node[name] = value
    message = message_of(config_io.from_json, json.dumps(tree), "runs/a/config.json")
    assert message == f"runs/a/config.json: config.{path} is {value!r}: must be a finite number"


def test_a_number_too_large_for_a_float_is_refused():
    message = message_of(overridden, "train.n_epochs", "1e999")
    assert message == "config.train.n_epochs is inf: must be a finite number"


# The JSON of a run directory


def test_json_holds_every_field_and_comes_back_equal():
    config = dataclasses.replace(
        CONFIG,
        run_dir="runs/é ü",
        model=Model(softmax=Softmax(cutoffs=(10, 20))),
        train=Train(n_steps=7, n_epochs=0.5),
    )
    text = config_io.to_json(config)
    assert json.loads(text)["model"]["char_cnn"]["filters"][6] == [7, 1024]
    assert config_io.from_json(text) == config


def test_a_field_without_effect_is_let_be_in_the_record_of_a_run():
    """As earlier versions wrote it, whose defaults were others."""
    config = config_io.override(CONFIG, "train.reset_probability", "0.5")
    assert "only config.train.state=random reads it" in message_of(config.validate)
    assert config_io.from_json(config_io.to_json(config)) == config


def test_a_run_directory_and_its_config_file_are_both_loaded(tmp_path):
    (tmp_path / "config.json").write_text(config_io.to_json(CONFIG), encoding="utf-8")
    assert config_io.load(tmp_path) == config_io.load(tmp_path / "config.json") == CONFIG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not valid JSON (Expecting value: line 1 column 1 (char 0)); restore it or start a new run directory"),
        (config_io.to_json(CONFIG)[:100], "is not valid JSON ("),
        ("[" * 100_000, "is not valid JSON ("),
        ("[1]", ": config is [1]: it must be an object with the fields run_dir, "),
        ('{"model": 3}', ": config.model is 3: it must be an object with the fields input, "),
        ('{"run_dirs": "a"}', ": config has no field 'run_dirs'; did you mean 'run_dir'?"),
        ('{"train": {"batch": 3}}', ": config.train has no field 'batch'; did you mean 'batch_size'?"),
        ('{"train": {"batch_size": "3"}}', ": config.train.batch_size is '3': it must be a whole number"),
        ('{"train": {"batch_size": null}}', ": config.train.batch_size is None: it must be a whole number"),
        ('{"model": {"dropout": 2}}', ": config.model.dropout is 2.0: must be at least 0 and below 1"),
        ('{"run_dir": 5}', ": config.run_dir is 5: it must be text"),
        ('{"model": {"softmax": {"kind": []}}}', ": config.model.softmax.kind is []: it must be one of "),
    ],
)
def test_a_damaged_config_file_is_named_with_what_is_wrong(tmp_path, text, message):
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    found = message_of(config_io.load, tmp_path)
    assert found.startswith(str(file))
    assert message in found


def test_a_config_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "config.json"
    file.write_bytes(b'{"run_dir": "\xff"}')
    assert message_of(config_io.load, tmp_path).startswith(f"cannot read {file}: ")


def test_what_is_no_run_directory_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        assert message_of(config_io.load, path) == (
            f"{path} is not a run directory: it has no config.json; give the directory that training wrote"
        )


# Experiment files

EXPERIMENT = "from elmo_jax.config import *\n\ndef get_config():\n    return {}\n"


def test_an_experiment_of_ones_own(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(EXPERIMENT.format("Config(train=Train(n_epochs=3), data=Data(train='a.txt'))"))
    config = config_io.experiment(str(file))
    assert config == Config(train=Train(n_epochs=3.0), data=Data(train="a.txt"))
    assert type(config.train.n_epochs) is float
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef get_config(:\n", ":2: SyntaxError: invalid syntax"),
        ("x = 1\n  y = 2\n", ":2: IndentationError: unexpected indent"),
        ("import elmo_jax.nothing\n", ":1: ModuleNotFoundError: No module named 'elmo_jax.nothing'"),
        ("a = 1\nb = a / 0\n", ":2: ZeroDivisionError: division by zero"),
        (EXPERIMENT.format("Config(batch_size=3)"), ":4: TypeError: "),
        (EXPERIMENT.format("Config().validate()"), ":4: UserError: config.data.train is ''"),
        ("def get_config():\n    raise ValueError('one\\ntwo')\n", ":2: ValueError: one two"),
        ("", " has no get_config() that returns an elmo_jax.config.Config"),
        ("def get_config():\n    return {'train': 1}\n", " has no get_config() that returns an elmo_jax.config.Config"),
        (
            EXPERIMENT.format("Config(train=Train(batch_size='32'))"),
            ": config.train.batch_size is '32': it must be a whole number",
        ),
        (EXPERIMENT.format("Config(train=Train(state='carrid'))"), ": config.train.state is 'carrid': it must be one"),
        (EXPERIMENT.format("Config(train=None)"), ": config.train is None: it must be an object with the fields"),
    ],
)
def test_a_mistake_in_an_experiment_is_named_with_file_and_line(tmp_path, text, message):
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert message_of(config_io.experiment, str(file)).startswith(f"{file}{message}")


def test_an_experiment_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_bytes(b"x = '\xff'\n")
    assert message_of(config_io.experiment, str(file)).startswith(f"{file}")


def test_an_experiment_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    message = message_of(config_io.experiment, "elmo_smal")
    assert message.startswith("no configuration 'elmo_smal': give a Python file or one of elmo_medium, ")
    assert all(file.stem in message for file in EXPERIMENTS)
    assert message_of(config_io.experiment, str(tmp_path)).startswith(f"no configuration {str(tmp_path)!r}")


def test_an_experiment_that_is_not_python_is_refused(tmp_path):
    file = tmp_path / "config.json"
    file.write_text("{}")
    assert message_of(config_io.experiment, str(file)) == (
        f"{file} is not a Python file; a configuration is a .py file with get_config()"
    )
