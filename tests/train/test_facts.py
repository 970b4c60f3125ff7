"""What a run knows of its weights: of the step that they are from, and without the folders of the machine."""

import dataclasses
import json

import pytest

from elmo_jax.config import TFDS, Config, Data
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.train import facts
from elmo_jax.train.run_directory import RunDirectory

WORDS = ["<S>", "</S>", "<UNK>", "the", "cat"]
VOCABULARY = Vocabulary(WORDS, [3, 3, 1, 5, 2])
CONFIG = Config(data=Data(train="/home/me/news-*.txt.gz,/data/wiki.txt"))
CARRIED = {"perplexity": 20.0, "streams": 4}
META = {"step": 12, "report": {"tokens": 480}}


@pytest.fixture
def run(tmp_path):
    """A run that ended with step 12 as its best, and measured step 6 twice."""
    (tmp_path / "run").mkdir()
    run = RunDirectory(tmp_path / "run")
    summary = {"best_step": 12, "heldout": [CARRIED, {"perplexity": 21.0, "streams": 0}]}
    (run.path / "summary.json").write_text(json.dumps(summary))
    lines = [
        {"step": 3, "train/loss": 4.0},
        {"step": 6, "eval/perplexity": 31.0, "eval/streams": 4},
        {"step": 6, "eval/perplexity": 30.0, "eval/streams": 4},
        {"step": 12, "eval/perplexity": 20.5, "eval/streams": 4},
    ]
    run.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return run


def of(run, config=CONFIG, vocabulary=VOCABULARY, step=12):
    return facts.of_run(run, config, vocabulary, step, META)


def test_the_best_step_has_the_results_of_the_end(run):
    assert of(run) == {
        "name": "run",
        "text": "news-*.txt.gz, wiki.txt",
        "tokens_seen": 480,
        "text_tokens": 8,
        "text_sentences": 3,
        "heldout": [CARRIED, {"perplexity": 21.0, "streams": 0}],
    }


def test_another_step_has_what_was_measured_then(run):
    assert of(run, step=6)["heldout"] == [{"perplexity": 30.0, "streams": 4}]
    assert "heldout" not in of(run, step=9)


def test_a_run_that_goes_on_has_no_end(run):
    (run.path / "summary.json").unlink()
    assert of(run)["heldout"] == [{"perplexity": 20.5, "streams": 4}]
    run.metrics.unlink()
    assert "heldout" not in of(run)


@pytest.mark.parametrize("content", ["{", "[]", '{"best_step": 12}', "\x00"])
def test_damaged_results_are_not_known_and_a_warning_says_so(content, run, caplog):
    (run.path / "summary.json").write_text(content)
    assert "heldout" not in of(run)
    assert "the perplexities cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (Data(source="pydoc"), "the documentation that Python carries"),
        (Data(source="tfds", tfds=TFDS("wiki40b/de", "train[:5%]")), "wiki40b/de, split train[:5%], of TensorFlow Dat"),
    ],
)
def test_text_of_other_sources(data, text, run):
    assert of(run, dataclasses.replace(CONFIG, data=data))["text"].startswith(text)


def test_counts_of_another_text_are_not_taken_for_those_of_this(run):
    given = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, vocabulary="v.txt"))
    went_on = dataclasses.replace(CONFIG, init_from="/home/me/runs/first")
    for config, vocabulary in ((given, VOCABULARY), (went_on, VOCABULARY), (CONFIG, Vocabulary(WORDS))):
        assert not {"text_tokens", "text_sentences"} & of(run, config, vocabulary).keys()
    assert of(run, went_on)["init_from"] == "first"


def test_the_language_is_known_where_the_tokeniser_is_of_one(run):
    moses = dataclasses.replace(CONFIG, data=dataclasses.replace(CONFIG.data, tokenizer="moses", language="de"))
    assert of(run, moses)["language"] == ["de"]
