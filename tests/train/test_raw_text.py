"""Runs on raw text learn what the same text teaches when it is tokenised already, and every tool cuts it alike."""

import json
from pathlib import Path

import pytest

from elmo_jax import cli
from elmo_jax.checkpoint_files import read_meta
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import read_sentences
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.errors import UserError
from elmo_jax.train.inputs import gather
from elmo_jax.train.pretrain import pretrain
from tests.train.small import changed, config, write_text

STEPS = {"train": {"n_steps": 4}, "evaluation": {"every_steps": 4, "streams": 4}}


def write_raw(path: Path, seed: int) -> Path:
    """Paragraphs of sentences with punctuation, which every tokeniser cuts in its own way."""
    lines = write_text(path, 90, seed).read_text().splitlines()
    sentences = [f"{line.capitalize().replace(' ', ', it isn&t ', 1)}.".replace("&", "'") for line in lines]
    path.write_text("\n".join(" ".join(sentences[i : i + 3]) for i in range(0, 90, 3)) + "\n")
    return path


def raw(folder: Path, **data):
    """A run on raw text in ``folder/run``."""
    folder.mkdir(exist_ok=True)
    texts = {
        which: str(write_raw(folder / f"{which}.raw.txt", seed)) for seed, which in enumerate(("train", "heldout"))
    }
    return changed(config(folder), data=texts | data, **STEPS)


def tokenised(path: str, cut: Segmentation) -> str:
    """The text as a file with one sentence a line and spaces between tokens."""
    lines = [" ".join(sentence or []) for sentence in read_sentences([Path(path)], segmentation=cut)][:-1]
    made = Path(path).with_suffix(".tokenised.txt")
    made.write_text("\n".join(lines) + "\n")
    return str(made)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A complete run on raw text."""
    c = raw(tmp_path_factory.mktemp("raw"), tokenizer="unicode", sentences="unicode")
    assert pretrain(c) == 0
    return c


@pytest.fixture
def perplexity(run, capsys):
    """What `elmo eval --json` says of the run, or the mistake that it names."""

    def evaluate(*arguments: str) -> dict | str:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["eval", run.run_dir, "--json", "--stateless", *arguments])
        out, err = capsys.readouterr()
        return json.loads(out) if stopped.value.code == 0 else err

    return evaluate


def learnt(c) -> dict:
    return read_meta(Path(c.run_dir) / "checkpoints", 4)["leaves"]


def test_raw_text_teaches_what_tokenised_text_does(run, tmp_path):
    cut = Segmentation("unicode", "unicode")
    same = {which: tokenised(getattr(run.data, which), cut) for which in ("train", "heldout")}
    c = changed(run, run_dir=str(tmp_path / "run"), data=same | {"tokenizer": "whitespace", "sentences": "lines"})
    assert pretrain(c) == 0
    assert learnt(c) == learnt(run)
    vocabulary = Vocabulary.load(Path(run.run_dir) / "vocab.txt")
    assert Vocabulary.load(Path(c.run_dir) / "vocab.txt").words == vocabulary.words
    assert {"isn't", "."} < set(vocabulary.words)


def test_the_rules_of_moses_train(tmp_path):
    c = raw(tmp_path, tokenizer="moses", language="de", sentences="unicode")
    assert pretrain(c) == 0
    vocabulary = Vocabulary.load(Path(c.run_dir) / "vocab.txt")
    assert {"'", "isn", ","} < set(vocabulary.words)
    assert vocabulary.tokenizer == "moses de"


# elmo eval


def test_eval_cuts_text_as_the_run_did(run, perplexity):
    expected = perplexity("--text", run.data.heldout)
    in_training = json.loads(Path(run.run_dir, "summary.json").read_text())["heldout"][1]
    assert {name: expected[name] for name in in_training} == in_training
    stated = ["--tokenizer", "unicode", "--sentences", "unicode", "--language", "en"]
    assert perplexity("--text", run.data.heldout, *stated) == expected
    text = tokenised(run.data.heldout, Segmentation("unicode", "unicode"))
    assert perplexity("--text", text, "--tokenized") == expected | {"text": text}


@pytest.mark.parametrize(
    ("option", "value", "trained"),
    [("tokenizer", "whitespace", "unicode"), ("sentences", "lines", "unicode"), ("language", "de", "en")],
)
def test_eval_refuses_to_cut_text_in_another_way(run, perplexity, option, value, trained):
    for more in ([], ["--tokenized"]):
        assert perplexity("--text", run.data.heldout, f"--{option}", value, *more) == (
            f"elmo: --{option} is {value!r}, and the model was trained with config.data.{option} = {trained!r}: leave "
            "it out (--tokenized reads text that is cut like that already)\n"
        )


# A tokeniser that differs


@pytest.mark.parametrize(
    ("field", "value"), [("tokenizer", "moses"), ("sentences", "lines"), ("tokenizer", "whitespace")]
)
def test_a_run_goes_on_only_with_its_own_tokeniser(run, field, value):
    with pytest.raises(
        UserError, match=f"belongs to a run with config.data.{field} = 'unicode', but this .* '{value}'"
    ):
        pretrain(changed(run, data={field: value}, train={"n_steps": 8}))


def test_a_vocabulary_of_another_tokeniser_is_refused(run, tmp_path):
    vocabulary = str(Path(run.run_dir) / "vocab.txt")
    c = raw(tmp_path / "new", tokenizer="moses", language="de", vocabulary=vocabulary)
    message = (
        f"the words of {vocabulary} were made by the tokenizer 'unicode', and this run has 'moses de': set "
        "config.data.tokenizer and config.data.language to the same; for text that is tokenized like that already, use "
        "a copy of the file without vocab.tokenizer.txt"
    )
    for given in (c, changed(c, data={"vocabulary": ""}, init_from=run.run_dir)):
        with pytest.raises(UserError) as caught:
            gather(given, progress=False)
        assert str(caught.value) == message
        assert not Path(given.data.cache_dir).exists()
    same = changed(c, data={"tokenizer": "unicode", "language": "en"})
    assert gather(same, progress=False).vocabulary.words == Vocabulary.load(vocabulary).words


def test_a_vocabulary_that_names_no_tokeniser_is_used(run, tmp_path):
    copy = tmp_path / "copy.txt"
    copy.write_bytes((Path(run.run_dir) / "vocab.txt").read_bytes())
    c = raw(tmp_path / "new", tokenizer="moses", vocabulary=str(copy))
    assert gather(c, progress=False).vocabulary.tokenizer is None


def test_a_language_without_rules_is_told_before_anything_is_read(tmp_path):
    c = raw(tmp_path, tokenizer="moses", language="ar")
    with pytest.raises(UserError, match="language is 'ar': the rules of Moses know as, bn, "):
        pretrain(c)
    assert not Path(c.data.cache_dir).exists()
    assert not Path(c.run_dir).exists()
