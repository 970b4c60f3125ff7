"""The command line: it teaches, it does what it says, and a mistake is one line, exit status 2 and nothing written."""

import json
import re
import runpy
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from elmo_jax import cli, config_io
from elmo_jax.exit_status import EXPLANATION
from tests.filesystems import contents, small_disk

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ["train", "vocab", "encode", "eval", "export"]

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
def elmo(capsys):
    """Runs a command line in this process and gives its exit status, standard output and standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(arguments)
        out, err = capsys.readouterr()
        return stopped.value.code, out, err

    return run


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
    assert all(re.search(rf"^    {command} +[A-Z]", out, re.MULTILINE) for command in COMMANDS)
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


def test_train_py_is_elmo_train(elmo, capsys, monkeypatch):
    _, wanted, _ = elmo("train", "--help")
    monkeypatch.setattr(sys, "argv", ["train.py", "--help"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert stopped.value.code == 0
    assert capsys.readouterr().out == wanted


# Mistakes on the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND; see elmo --help"),
        (["trian"], "argument COMMAND: invalid choice: 'trian' (choose from "),
        (["train"], "the following arguments are required: --config; see elmo train --help"),
        (["train", "--config"], "argument --config: expected one argument; see elmo train --help"),
        (["vocab", "--output", "v.txt"], "the following arguments are required: --text; see elmo vocab --help"),
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
        (["eval", "nowhere", "--text", "a.txt"], "nowhere is not a run directory: it has no config.json"),
        (
            ["eval", "nowhere", "--text", "a.txt", "--streams", "0"],
            "--streams is 0: it must be at least 1; --stateless",
        ),
        (["eval", "x", "--text", "a", "--streams", "2", "--stateless"], "argument --stateless: not allowed with argu"),
        (["export", "nowhere", "out"], "nowhere is not a run directory: it has no config.json"),
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
    assert out == "sub/vocab.txt: 9 words of 10 tokens in 3 sentences; 0 tokens (0.00 %) are out of it\n"


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
        (["--text", "empty.txt"], "empty.txt: no tokens; give text with one sentence a line"),
        (["--text", "*.gz"], "no text file matches '*.gz': check the path"),
        (["--text", "."], "no text file matches '.': it is a directory; write './*'"),
        (["--text", ","], "no text file is named by ',': give one glob or several separated by commas"),
        (["--text", "latin.txt"], "latin.txt:2: invalid UTF-8 at byte 8 of the file"),
        (["--output", "a.txt/v.txt"], "cannot write a.txt"),
    ],
)
def test_a_vocabulary_that_cannot_be_built_is_refused(mistake, folder, options, message):
    (folder / "empty.txt").write_text("\n \n")
    (folder / "latin.txt").write_bytes(b"one two\n\xe9t\xe9\n")
    assert mistake("vocab", "--text", "a.txt", "--output", "v.txt", *options).startswith(message)


# elmo encode


def test_encode_says_what_it_found_and_does_it_once(elmo, folder):
    status, out, _ = elmo("encode", "--text", "a.txt", "--output", "encoded")
    assert status == 0
    (made,) = (folder / "encoded").iterdir()
    assert made.name.startswith("text-")
    assert out == (
        f"encoded/{made.name}: 10 tokens, 3 sentences, 2 documents, 8 types; 1 empty lines skipped; the longest token "
        "has 4 bytes\n"
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


def test_a_full_disk_is_told_and_leaves_nothing_behind(mistake, folder):
    (folder / "a.txt").write_text(" ".join(f"word{n}" for n in range(10_000)))
    with small_disk(folder / "disk", "16k"):
        message = mistake("vocab", "--text", "a.txt", "--output", "disk/v.txt")
        assert message.startswith("cannot write disk/v.txt: No space left on device")
