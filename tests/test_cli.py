"""The command line: it teaches, it does what it says, and a mistake is one line, exit status 2 and nothing written."""

import gzip
import io
import json
import re
import runpy
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from elmo_jax import config_io
from elmo_jax.data import encoding
from elmo_jax.data.corpus import open_corpus
from elmo_jax.data.report import corpus_report
from elmo_jax.exit_status import EXPLANATION
from tests.filesystems import contents, small_disk

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    "train",
    "plot",
    "eval",
    "embed",
    "tokens",
    "score",
    "substitutes",
    "models",
    "import",
    "export",
    "vocab",
    "encode",
    "prepare-lm1b",
]

TEXT = "the cat sat\nthe dog sat\n\nthe cat ran away\n"
VOCABULARY = ["<S>", "</S>", "<UNK>", "the", "cat", "sat", "away", "dog", "ran"]
COUNTS = [3, 3, 0, 3, 2, 2, 1, 1, 1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working directory with one shard of text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


@pytest.fixture
def mistake(elmo, folder):
    """Runs a command line that is refused, as all of them are, and gives what it says."""

    def run(*arguments: str) -> str:
        before = contents(folder)
        status, out, err = elmo(*arguments)
        assert status == 2
        assert out == ""
        assert re.fullmatch(r"elmo: [^\n]+\n", err)
        assert "Traceback" not in err
        assert contents(folder) == before
        return err.removeprefix("elmo: ").rstrip()

    return run


# Help


def test_help_lists_the_commands_with_an_example_and_the_exit_status(elmo):
    status, out, err = elmo("--help")
    assert (status, err) == (0, "")
    assert all(re.search(rf"^    {command}\s+[A-Z]", out, re.MULTILINE) for command in COMMANDS)
    assert "elmo train --config quickstart" in out
    assert EXPLANATION in out
    assert re.search(r"^  75 +another process trains in this run directory", out, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example_and_every_option(elmo, command):
    status, out, err = elmo(command, "--help")
    assert (status, err) == (0, "")
    example = re.search(rf"^  elmo {command} [^\n]+$", out, re.MULTILINE)
    assert example
    assert all(option in out for option in re.findall(r"--[a-z-]+(?=[ =\n]|$)", example[0]) if option != "--config")
    undescribed = re.findall(r"^  (--[a-z-]+(?: [A-Z:]+)?)$(?!\n {6})", out, re.MULTILINE)
    assert not undescribed


def test_help_is_fast_because_it_imports_no_jax():
    program = (
        "import sys, contextlib\n"
        "from elmo_jax import cli\n"
        "for words in (['--help'], ['train', '--help'], ['eval', '--help']):\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        cli.main(words)\n"
        "print('imported:', *{'jax', 'flax', 'orbax', 'numpy', 'h5py'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nimported:\n")


def test_the_configuration_imports_nothing_heavy():
    heavy = "{'jax', 'flax', 'optax', 'orbax', 'numpy', 'h5py', 'tensorflow', 'pandas', 'torch', 'tqdm'}"
    program = (
        "import sys, elmo_jax.config, elmo_jax.config_io, elmo_jax.cli\n"
        "elmo_jax.cli.make_parser()\n"
        f"print('imported:', *{heavy} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("imported:\n", "")


def test_train_py_is_elmo_train(elmo, capsys, monkeypatch):
    _, wanted, _ = elmo("train", "--help")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == wanted


# SIGTERM


@pytest.mark.parametrize(
    "arguments", [("vocab", "--text", "a.txt", "--output", "v.txt"), ("encode", "--text", "a.txt", "--output", "cache")]
)
def test_sigterm_leaves_nothing_half_made(elmo, folder, monkeypatch, arguments):
    def terminated(*about):
        signal.raise_signal(signal.SIGTERM)

    (folder / "cache").mkdir()
    before, handler = contents(folder), signal.getsignal(signal.SIGTERM)
    # Late: the columns of the corpus are written.
    monkeypatch.setattr(encoding, "write_header", terminated)
    status, out, _ = elmo(*arguments)
    assert (status, out) == (143, "")
    assert contents(folder) == before
    assert signal.getsignal(signal.SIGTERM) == handler


# Mistakes on the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see elmo --help"),
        (["trian"], "argument COMMAND: invalid choice: 'trian' (choose from "),
        (["train"], "the following arguments are required: --config; see elmo train --help"),
        (["train", "--config"], "argument --config: expected one argument; see elmo train --help"),
        (["vocab", "--output", "v.txt"], "one of the arguments --text --tfds is required; see elmo vocab --help"),
        (["vocab", "--text", "a.txt", "--output", "v.txt", "--min-count", "x"], "argument --min-count: invalid int"),
        (["train", "--config", "quickstart", "--batch", "4"], "unknown argument '--batch'; see --help"),
        (["train", "--config", "quickstart", "extra"], "unknown argument 'extra'; see --help"),
        (["encode", "--text", "a.txt", "--output", "e", "--frce"], "unknown argument '--frce'; see --help"),
        (["train", "--config", "quickstart", "--config.train.seed"], "--config.train.seed needs a value: "),
        (
            ["train", "--config", "quickstart", "--config.train.seed", "--config.train.n_steps=5"],
            "--config.train.seed needs a value: --config.train.seed=...",
        ),
        (["train", "--config", "quickstart", "--config.=5"], "config has no field ''; it has run_dir, "),
        (
            ["train", "--config", "quickstart", "--config.train.sed=5"],
            "config.train has no field 'sed'; did you mean 'seed'?",
        ),
        (["train", "--config", "quickstart", "--config.train.seed", "-1"], "config.train.seed is -1: must be between"),
        (["train", "--config", "quickstart", "--config.data.heldout", "a\nb"], "config.data.heldout is 'a\\nb': "),
        (["train", "--config", "quikstart"], "no configuration 'quikstart': give a Python file or one of elmo_medium"),
        (["train", "--config", "quick\nstart"], "no configuration 'quick\\nstart': "),
        (["vocab", "--text", "a.txt", "--output", "v", "--config.train.seed=1"], "--config.train.seed belongs to elmo"),
        (["encode", "--text", "no\nfile", "--output", "e"], "no text file matches 'no file': check the path"),
        (["eval", "nowhere", "--text", "a.txt"], "there is no nowhere: give a run (config.json, checkpoints/)"),
        (
            ["eval", "nowhere", "--text", "a.txt", "--streams", "0"],
            "--streams is 0: it must be at least 1; --stateless",
        ),
        (["eval", "x", "--text", "a", "--streams", "2", "--stateless"], "argument --stateless: not allowed with argu"),
        (["export", "nowhere", "out"], "there is no nowhere: give a run (config.json, checkpoints/)"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(mistake, arguments, message):
    assert mistake(*arguments).startswith(message)


# elmo train --show-config


def test_show_config_prints_the_configuration_and_does_nothing_else(elmo, folder):
    before = contents(folder)
    status, out, err = elmo(
        "train", "--config", "quickstart", "--show-config", "--config.train.seed=7", "--config.run_dir", "runs/x"
    )
    assert (status, err) == (0, "")
    assert contents(folder) == before
    config = config_io.from_json(out)
    assert (config.train.seed, config.run_dir, config.data.source) == (7, "runs/x", "pydoc")


def test_the_last_of_two_values_counts(elmo):
    _, out, _ = elmo(
        "train", "--config", "quickstart", "--config.train.seed=1", "--config.train.seed=2", "--show-config"
    )
    assert json.loads(out)["train"]["seed"] == 2


# elmo vocab


def test_vocab_writes_words_by_falling_count_and_their_counts(elmo, folder):
    status, out, _ = elmo("vocab", "--text", "a.txt", "--output", "sub/vocab.txt")
    assert status == 0
    assert (folder / "sub/vocab.txt").read_text().splitlines() == VOCABULARY
    assert (folder / "sub/vocab.counts.txt").read_text().splitlines() == list(map(str, COUNTS))
    assert (folder / "sub/vocab.tokenizer.txt").read_text() == "whitespace\n"
    first, empty, *_ = out.splitlines()
    assert first == "sub/vocab.txt: 9 words of 10 tokens in 3 sentences; 0 tokens (0.00 %) are out of it"
    assert empty == ""
    assert {path.name for path in folder.iterdir()} == {"a.txt", "sub"}
    assert {path.name for path in (folder / "sub").iterdir()} == {
        "vocab.txt",
        "vocab.counts.txt",
        "vocab.tokenizer.txt",
    }


def test_vocab_leaves_the_encoded_text_where_it_is_told(elmo, folder):
    assert elmo("vocab", "--text", "a.txt", "--output", "v.txt", "--cache-dir", "encoded")[0] == 0
    (made,) = (folder / "encoded").iterdir()
    before = contents(made)
    assert str(made.relative_to(folder)) in elmo("encode", "--text", "a.txt", "--output", "encoded")[1]
    assert contents(folder / "encoded") == {made.name: None, **{f"{made.name}/{k}": v for k, v in before.items()}}


def test_vocab_counts_several_shards_like_an_independent_count(elmo, folder):
    (folder / "b.txt").write_text("the the  <UNK>\té\r\n" * 5, encoding="utf-8")
    assert elmo("vocab", "--text", "a.txt,b*.txt", "--output", "v.txt")[0] == 0
    words = (folder / "v.txt").read_text(encoding="utf-8").splitlines()
    counts = map(int, (folder / "v.counts.txt").read_text().splitlines())
    text = (folder / "a.txt").read_text() + (folder / "b.txt").read_text(encoding="utf-8")
    sentences = [line.split() for line in text.splitlines() if line.split()]
    expected = Counter(word for sentence in sentences for word in ["<S>", "</S>", *sentence])
    assert dict(zip(words, counts, strict=True)) == expected
    assert words[3:] == sorted(set(words[3:]), key=lambda word: (-expected[word], word))


@pytest.mark.parametrize(
    ("options", "n_words", "unknown", "said"),
    [
        (["--min-count", "2"], 6, 3, "6 words of 10 tokens in 3 sentences; 3 tokens (30.00 %) are out of it"),
        (["--max-size", "4"], 4, 7, "4 words of 10 tokens in 3 sentences; 7 tokens (70.00 %) are out of it"),
        (["--min-count", "2", "--max-size", "5"], 5, 5, "5 tokens (50.00 %) are out of it"),
    ],
)
def test_words_left_out_are_counted_as_unknown(elmo, folder, options, n_words, unknown, said):
    status, out, _ = elmo("vocab", "--text", "a.txt", "--output", "v.txt", *options)
    assert status == 0
    assert said in out
    assert (folder / "v.txt").read_text().splitlines() == VOCABULARY[:n_words]
    assert (folder / "v.counts.txt").read_text().splitlines() == list(map(str, [3, 3, unknown, *COUNTS[3:n_words]]))


@pytest.mark.parametrize(
    ("options", "words", "tokenizer"),
    [
        (["--tokenizer", "unicode"], "! . Don't Go They they", "unicode"),
        (["--tokenizer", "moses"], "! . Don Go They they 't", "moses en"),
        (["--tokenizer", "moses", "--language", "de"], "! ' . Don Go They t they", "moses de"),
        (["--sentences", "unicode"], "Don't Go! They they.", "whitespace"),
    ],
)
@pytest.mark.parametrize("command", ["vocab", "encode"])
def test_raw_text_is_cut_as_it_is_told(elmo, folder, command, options, words, tokenizer):
    (folder / "raw.txt").write_text("They Don't Go! they.\n")
    status, out, _ = elmo(command, "--text", "raw.txt", "--output", "made.txt", *options)
    n_sentences = 2 if "--sentences" in options else 1
    assert status == 0
    if command == "vocab":
        assert sorted((folder / "made.txt").read_text().splitlines()[3:]) == sorted(words.split())
        assert (folder / "made.tokenizer.txt").read_text() == f"{tokenizer}\n"
        assert f" in {n_sentences} sentences;" in out
    else:
        assert f" tokens, {n_sentences} sentences, 1 documents, {len(words.split())} types;" in out


def test_vocab_replaces_a_file_only_by_force(elmo, mistake, folder):
    (folder / "v.txt").write_text("mine\n")
    assert mistake("vocab", "--text", "a.txt", "--output", "v.txt") == (
        "v.txt exists; choose another --output, or give --force to replace it"
    )
    assert elmo("vocab", "--text", "a.txt", "--output", "v.txt", "--force")[0] == 0
    assert (folder / "v.txt").read_text().splitlines() == VOCABULARY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--min-count", "0"], "--min-count is 0: it must be at least 1"),
        (["--min-count", "-5"], "--min-count is -5: it must be at least 1"),
        (["--max-size", "2"], "--max-size is 2: it must leave room for <S>, </S>, <UNK> and a word: at least 4"),
        (
            ["--min-count", "4"],
            "no word of 6 is left with min_count 4 and max_vocabulary 800000: lower min_count (the ",
        ),
        (["--text", "empty.txt"], "empty.txt holds no tokens (2 empty lines): give text with one sentence a line"),
        (["--text", "*.none"], "no text file matches '*.none': check the path"),
        (["--text", "."], "no text file matches '.': it is a directory; write './*'"),
        (["--text", ","], "no text file is named by ',': give one glob or several separated by commas"),
        (["--text", "latin.txt"], "latin.txt:2: invalid UTF-8 at byte 8 of the file"),
        (["--output", "a.txt/v.txt"], "cannot write a.txt"),
        (["--tokenizer", "spacy"], "argument --tokenizer: invalid choice: 'spacy' (choose from "),
        (["--tokenizer", "moses", "--language", "xx"], "language is 'xx': the rules of Moses know as, bn, ca, cs, de,"),
        (
            ["--language", "de"],
            "--language is 'de': only the rules of Moses know languages; leave it out, or give --to",
        ),
        (["--text", "cut.txt.gz"], "cut.txt.gz: the compressed data is truncated or corrupt ("),
        (["--text", "cut.txt.zst"], "cut.txt.zst: the compressed data is truncated or corrupt ("),
    ],
)
def test_a_vocabulary_that_cannot_be_built_is_refused(mistake, folder, options, message):
    (folder / "empty.txt").write_text("\n \n")
    (folder / "latin.txt").write_bytes(b"one two\n\xe9t\xe9\n")
    (folder / "cut.txt.gz").write_bytes(gzip.compress(b"words\n")[:-1])
    (folder / "cut.txt.zst").write_bytes(zstandard.compress(b"words\n")[:-1])
    assert mistake("vocab", "--text", "a.txt", "--output", "v.txt", *options).startswith(message)


# elmo encode


def test_encode_says_what_it_found_and_does_it_once(elmo, folder):
    status, out, _ = elmo("encode", "--text", "a.txt", "--output", "encoded")
    assert status == 0
    (made,) = (folder / "encoded").iterdir()
    assert made.name.startswith("text-")
    assert out == (
        f"encoded/{made.name}: 10 tokens, 3 sentences, 2 documents, 6 types; 1 empty lines skipped; the longest token "
        f"has 4 bytes\n\n{REPORT}"
    )
    before = contents(folder)
    assert elmo("encode", "--text", "a.txt", "--output", "encoded")[:2] == (0, out)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("text", "output", "message"),
    [
        ("missing.txt", "encoded", "no text file matches 'missing.txt': check the path"),
        ("a.txt", "a.txt", "cannot write the encoded corpus a.txt/text-"),
    ],
)
def test_text_that_cannot_be_encoded_is_refused(mistake, text, output, message):
    assert mistake("encode", "--text", text, "--output", output).startswith(message)


# The report of elmo vocab and elmo encode

REPORT = """\
sentences                 3 in 2 documents; 1 empty lines
  tokens of a sentence    mean 3.3, median 3; 95 % have up to 4, 99 % up to 4, all up to 4
  repeat an earlier one   0.00 %
tokens                    10
  characters of a token   mean 3.1, median 3; 95 % have up to 4, 99 % up to 4, all up to 4
  bytes of a character    1.000
  cropped after 48 bytes  0.00 %
  not ASCII               0.00 %
  words with punctuation  0.00 % (one of .,;:!? at the end)
types                     6 (0.6000 a token)
  occur once              50.00 %
  cropped after 48 bytes  0.00 %

vocabulary  unknown here  in new text (estimated)
     all 9        0.00 %                  30.00 %

most frequent tokens
  3 times  the
  2 times  cat
  2 times  sat
  1 times  dog
  1 times  ran
  1 times  away
longest tokens
  4 bytes  away
  3 bytes  the
  3 bytes  sat
  3 bytes  ran
  3 bytes  dog
longest sentences
  4 tokens  number 3  the cat ran away
  3 tokens  number 1  the cat sat
  3 tokens  number 2  the dog sat
"""

REPORTING = [["vocab", "--text", "a.txt", "--output", "v.txt"], ["encode", "--text", "a.txt", "--output", "encoded"]]


@pytest.mark.parametrize("command", REPORTING)
def test_the_report_is_printed_and_written(elmo, folder, command):
    status, out, _ = elmo(*command, "--report", "sub/report.json")
    assert status == 0
    assert out.partition("\n\n")[2] == REPORT
    # What is in it is told by tests/data/test_report.py.
    (corpus,) = map(open_corpus, made_by(elmo, folder))
    expected = json.dumps(corpus_report(corpus, progress=False).as_dict(), indent=2) + "\n"
    assert (folder / "sub/report.json").read_text(encoding="utf-8") == expected
    assert [path.name for path in (folder / "sub").iterdir()] == ["report.json"]


def made_by(elmo, folder) -> list[Path]:
    assert elmo("encode", "--text", "a.txt", "--output", "encoded")[0] == 0
    return list((folder / "encoded").iterdir())


@pytest.mark.parametrize("command", REPORTING)
def test_the_report_counts_tokens_cropped_at_the_limit(elmo, folder, command):
    _, out, _ = elmo(*command, "--report", "report.json", "--max-characters", "5")
    assert "  cropped after 3 bytes   10.00 %\n" in out
    assert "note: 10.00 % of tokens are cropped: raise --config.model.char_cnn.max_characters_per_token" in out
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (found["cropped_share"], found["cropped_types_share"], found["max_characters"]) == (0.1, 1 / 6, 5)


@pytest.mark.parametrize("command", REPORTING)
def test_the_report_replaces_a_file_only_by_force(elmo, mistake, folder, command):
    (folder / "report.json").write_text("mine\n")
    assert mistake(*command, "--report", "report.json") == (
        "report.json exists; choose another --report, or give --force to replace a file"
    )
    assert elmo(*command, "--report", "report.json", "--force")[0] == 0
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["tokens"] == 10


@pytest.mark.parametrize("command", REPORTING)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "a.txt/report.json"], "cannot write a.txt/report.json: {folder}/a.txt is no directory that can"),
        (["--report", ".", "--force"], ". exists; choose another --report"),
        (["--max-characters", "2"], "--max-characters is 2: it must be at least 3, two marks and a byte"),
    ],
)
def test_a_report_that_cannot_be_given_is_refused_at_once(mistake, folder, command, options, message):
    assert mistake(*command, *options).startswith(message.format(folder=folder))


@pytest.mark.parametrize("report", ["v.txt", "../{folder}/v.counts.txt", "sub/../v.txt"])
def test_the_report_may_not_replace_the_vocabulary(mistake, folder, report):
    message = mistake(*REPORTING[0], "--report", report.format(folder=folder.name))
    assert message.endswith("is a file of the vocabulary; choose another --report")


def test_a_report_is_printed_where_its_characters_are_unknown(elmo, folder, monkeypatch):
    (folder / "a.txt").write_text("caf\u00e9 \x1b[31m\n", encoding="utf-8")
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    assert elmo("encode", "--text", "a.txt", "--output", "encoded")[0] == 0
    ascii_only.seek(0)
    out = ascii_only.read()
    assert "1 times  caf\\xe9\n" in out
    assert "1 times  \\ufffd[31m\n" in out  # nothing moves the cursor


# Disks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vocab", "--text", "a.txt", "--output", "disk/v.txt"], r"cannot write disk/v\..*: Read-only file system"),
        (
            ["vocab", "--text", "a.txt", "--output", "disk/old.txt", "--force"],
            r"cannot write disk/old\..*: Read-only file system",
        ),
        (["encode", "--text", "a.txt", "--output", "disk"], r"cannot write the encoded corpus disk/.*: Read-only file"),
    ],
)
def test_a_disk_that_cannot_be_written_is_told(mistake, folder, arguments, message):
    with small_disk(folder / "disk") as mount:
        (folder / "disk/old.txt").write_text("mine\n")
        (folder / "disk/old.counts.txt").write_text("1\n")
        assert mount("remount", "ro")
        assert re.match(message, mistake(*arguments))


def test_a_full_disk_is_told_and_leaves_nothing_behind(elmo, mistake, folder):
    (folder / "a.txt").write_text(" ".join(f"word{n}" for n in range(10_000)))
    assert elmo("encode", "--text", "a.txt", "--output", "encoded")[0] == 0
    with small_disk(folder / "disk", "16k"):
        command = ["vocab", "--text", "a.txt", "--output", "disk/v.txt"]
        message = mistake(*command)
        assert message.startswith(f"cannot write the encoded corpus {folder}/disk/.elmo-vocab-")
        assert "No space left on device" in message
        message = mistake(*command, "--cache-dir", "encoded")
        assert message.startswith("cannot write disk/v.txt: No space left on device")
