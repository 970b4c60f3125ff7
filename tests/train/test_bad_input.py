"""`elmo train` on what users get wrong: one line that names it, exit status 2, no run begun and nothing lost."""

import re
from pathlib import Path

import numpy as np
import pytest

from elmo_jax import cli
from elmo_jax.config import CharCNN, Config, Softmax
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.train.inputs import gather
from elmo_jax.train.origin import Origin
from elmo_jax.train.run_directory import RunDirectory
from tests.filesystems import contents, small_disk
from tests.train.small import changed, config, write_text

WORDS = Vocabulary(["<S>", "</S>", "<UNK>", *(f"w{n}" for n in range(26))], range(29, 0, -1))


@pytest.fixture
def refused(tmp_path, capsys):
    """Runs `elmo train`, which is refused, and gives what it says. Only encoded text may have been added."""

    def train(c: Config, *overrides: str) -> str:
        file = experiment(tmp_path, c)
        before = contents(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["train", "--config", file, *overrides])
        out, err = capsys.readouterr()
        assert stopped.value.code == 2
        assert out == ""
        assert re.fullmatch(r"elmo: [^\n]+\n", err)
        after = contents(tmp_path)
        assert {name: after.get(name) for name in before} == before
        added = set(after) - set(before)
        assert not [name for name in added if not name.startswith("encoded") or ".building-" in name]
        return err.removeprefix("elmo: ").rstrip()

    return train


def write(path: Path, data: str | bytes) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def experiment(folder: Path, c: Config) -> str:
    """An experiment file with this configuration."""
    return write(folder / "experiment.py", f"from elmo_jax.config import *\n\ndef get_config():\n    return {c!r}\n")


def softmax(**values) -> dict[str, Softmax]:
    """The model of the small runs with another softmax."""
    return {"softmax": Softmax(**values)}


# Text

BAD_TEXT = {
    "empty": ("", "{path} holds no tokens (0 empty lines): give text with one sentence a line"),
    "blank": ("\n  \n\t\n", "{path} holds no tokens (3 empty lines): give text with one sentence a line"),
    "latin-1": (b"one two\ncaf\xe9 three\n", "{path}:2: invalid UTF-8 at byte 11 of the file"),
    "utf-16": ("one two\n".encode("utf-16-le"), "{path}:1: NUL byte at byte 1 of the file; text must be UTF-8"),
    "NUL bytes": ("one\n\ntwo\n\0three\n", "{path}:4: NUL byte at byte 9 of the file; text must be UTF-8"),
    "boundary": ("one two\n<S> three </S>\n", "{path}:2: the token <"),
    "no gzip": ("plain text\n", "{path}: the compressed data is truncated or corrupt"),
}


@pytest.mark.parametrize("which", ["train", "heldout"])
@pytest.mark.parametrize("kind", BAD_TEXT)
def test_text_that_cannot_be_read(refused, tmp_path, kind, which):
    data, message = BAD_TEXT[kind]
    path = write(tmp_path / ("bad.gz" if kind == "no gzip" else "bad.txt"), data)
    said = refused(config(tmp_path, data={which: path}))
    assert said.startswith(message.format(path=path))


@pytest.mark.parametrize("which", ["train", "heldout"])
def test_a_glob_without_a_match_is_told_before_anything_is_encoded(refused, tmp_path, which):
    said = refused(config(tmp_path, data={which: str(tmp_path / "shards" / "*.txt")}))
    assert said == f"no text file matches '{tmp_path}/shards/*.txt': check the path"
    assert not (tmp_path / "encoded").exists()


def test_a_directory_in_place_of_its_shards(refused, tmp_path):
    said = refused(config(tmp_path, data={"train": str(tmp_path)}))
    assert said == f"no text file matches '{tmp_path}': it is a directory; write '{tmp_path}/*'"


def test_one_bad_shard_among_good_ones_is_named(refused, tmp_path):
    for name in ("a.txt", "c.txt"):
        write_text(tmp_path / name)
    path = write(tmp_path / "b.txt", b"\xff\n")
    assert refused(config(tmp_path, data={"train": f"{tmp_path}/[abc].txt"})).startswith(f"{path}:1: invalid UTF-8")


def test_less_text_than_rows(refused, tmp_path):
    path = write(tmp_path / "short.txt", "one\ntwo\nthree four\n")
    said = refused(config(tmp_path, data={"train": path}, model=softmax(kind="full")))
    assert said == "8 rows cannot share 3 sentences: each row needs one; lower config.train.batch_size to at most 3"


def long_text(folder: Path) -> str:
    """A token of a megabyte and a line of ten among short ones."""
    return write(folder / "long.txt", f"some {'x' * 10**6} words\n{'word ' * (2 * 10**6)}\n" + "the end\n" * 6)


def test_a_token_of_a_megabyte_and_a_line_of_ten_are_only_long(tmp_path):
    c = config(tmp_path, data={"train": long_text(tmp_path)}, model=softmax(cutoffs=(4,)))
    inputs = gather(c, progress=False)
    assert inputs.corpus.longest_token_bytes == 10**6
    assert inputs.corpus.n_sentences == 8
    assert inputs.vocabulary.counts[inputs.vocabulary.id("word")] == 2 * 10**6
    assert "x" * 10**6 in inputs.vocabulary.ids


@pytest.mark.long
def test_a_run_on_a_token_of_a_megabyte_and_a_line_of_ten(tmp_path, capsys):
    text = {"train": long_text(tmp_path), "heldout": ""}
    c = config(tmp_path, data=text, model=softmax(cutoffs=(4,)), train={"n_steps": 2})
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--config", experiment(tmp_path, c)])
    assert stopped.value.code == 0, capsys.readouterr().err


# Vocabulary

TOP = "<S>\n</S>\n<UNK>\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the\ncat\n", ": has no line <S> and no line </S> and no line <UNK> among its 2; a vocabulary needs <S>, "),
        ("<S>\n</S>\nthe\n", ": has no line <UNK> among its 3; a vocabulary needs <S>, </S>, <UNK>: add the missing"),
        (TOP + "the\ncat\nthe\n", ":6: 'the' is already at line 4; keep one of them"),
        (TOP + "<UNK>\nthe\n", ":4: '<UNK>' is already at line 3; keep one of them"),
        (TOP + "the\n\ncat\n \n", ": empty at lines 5, 7; a vocabulary has one word a line: remove them"),
        (TOP, ": holds only <S>, </S>, <UNK>; add words, or build one with `elmo vocab`"),
        ("", ": has no line <S> and no line </S> and no line <UNK> among its 0"),
        (TOP.encode() + b"caf\xe9\n", ":4: invalid UTF-8 at byte 18 of the file"),
    ],
)
def test_a_file_that_is_no_vocabulary(refused, tmp_path, text, message):
    path = write(tmp_path / "v.txt", text)
    assert refused(config(tmp_path, data={"vocabulary": path})).startswith(path + message)
    assert not (tmp_path / "encoded").exists()


def test_a_vocabulary_that_does_not_exist(refused, tmp_path):
    said = refused(config(tmp_path, data={"vocabulary": str(tmp_path / "v.txt")}))
    assert said == f"cannot read {tmp_path}/v.txt: No such file or directory"


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("1\n2\n", ": 2 counts for 5 words; it needs one a word in the same order: correct or delete it"),
        ("5\n5\n0\nx\n4\n", ": no count at line 4 ('x'); each line is one integer: correct or delete the file"),
        ("5\n5\n0\n-1\n4\n", ": no count at line 4 ('-1')"),
    ],
)
def test_counts_that_are_not_those_of_the_vocabulary(refused, tmp_path, counts, message):
    path = write(tmp_path / "v.txt", TOP + "wa\nwb\n")
    said = refused(config(tmp_path, data={"vocabulary": path}, model=softmax(cutoffs=())))
    assert "needs the counts of the 5 words" in said
    write(tmp_path / "v.counts.txt", counts)
    said = refused(config(tmp_path, data={"vocabulary": path}, model=softmax(cutoffs=())))
    assert said.startswith(f"{tmp_path}/v.counts.txt{message}")


def test_a_vocabulary_without_counts_needs_cutoffs(refused, tmp_path):
    path = write(tmp_path / "v.txt", TOP + "wa\nwb\nwc\n")
    assert refused(config(tmp_path, data={"vocabulary": path}, model=softmax(cutoffs=()))) == (
        f"the adaptive softmax needs the counts of the 6 words: put them, one a line, into {tmp_path}/v.counts.txt "
        "(elmo vocab writes it), or set --config.model.softmax.cutoffs"
    )
    for values in ({"cutoffs": (3, 5)}, {"kind": "full"}, {"kind": "sampled"}):
        c = config(tmp_path, data={"vocabulary": path}, model=softmax(**values))
        assert gather(c, progress=False).config.model.softmax == c.model.softmax


@pytest.mark.parametrize("built", [True, False])
def test_cutoffs_beyond_the_vocabulary(refused, tmp_path, built):
    path = "" if built else write(tmp_path / "v.txt", TOP + "wa\nwb\nwc\n")
    said = refused(config(tmp_path, data={"vocabulary": path}), "--config.model.softmax.cutoffs=(5, 4000)")
    assert re.match(
        r"config\.model\.softmax\.cutoffs is \(5, 4000\): each must be below the \d+ words of the vocabulary", said
    )


def test_no_word_is_frequent_enough(refused, tmp_path):
    said = refused(config(tmp_path), "--config.data.min_count=100000")
    assert said.startswith("no word of ")
    assert "min_count 100000" in said


# Configuration


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.batchsize=8", "config.train has no field 'batchsize'; did you mean 'batch_size'?"),
        ("--config.train.batch_size=eight", "config.train.batch_size is 'eight': it must be a whole number"),
        ("--config.model.dropout=1.5", "config.model.dropout is 1.5: must be at least 0 and below 1"),
        ("--config.train.n_epochs=1e999", "config.train.n_epochs is inf: must be a finite number"),
        ("--config.data.source=pydoc", "config.data.train is '"),
        (
            "--config.train.batch_size=12",
            "config.train.batch_size is 12: it must be divisible by 8 devices; use 8 or 16",
        ),
        (
            "--config.train.gradient_accumulation=2",
            "config.train.batch_size is 8: it must be divisible by 8 devices x 2 gradient accumulation parts; use 16",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_told_before_anything_is_done(refused, tmp_path, override, message):
    assert refused(config(tmp_path), override).startswith(message)
    assert not (tmp_path / "encoded").exists()


# Run directories


def begun(c: Config, name: str = "run") -> RunDirectory:
    """A run that has been training for a while."""
    run = RunDirectory(Path(c.run_dir).with_name(name))
    run.create(c, WORDS)
    (run.checkpoints / "4").mkdir(parents=True)
    (run.checkpoints / "4" / "array").write_bytes(b"weights")
    run.metrics.write_text('{"step": 4}\n')
    return run


@pytest.mark.parametrize(
    ("override", "field", "old", "new"),
    [
        ("--config.train.seed=7", "train.seed", "0", "7"),
        ("--config.model.lstm.dim=9", "model.lstm.dim", "8", "9"),
        ("--config.model.softmax.cutoffs=(5,)", "model.softmax.cutoffs", "(8, 20)", "(5,)"),
        ("--config.data.min_count=2", "data.min_count", "1", "2"),
    ],
)
def test_a_run_directory_of_another_configuration(refused, tmp_path, override, field, old, new):
    c = config(tmp_path)
    run = begun(c)
    assert refused(c, override) == (
        f"{run.path} belongs to a run with config.{field} = {old}, but this command has {new}; "
        "give the same value to continue it, or another --config.run_dir to start anew"
    )


def test_a_directory_that_is_no_run(refused, tmp_path):
    c = config(tmp_path, run_dir=str(tmp_path / "thesis"))
    (tmp_path / "thesis").mkdir()
    write(tmp_path / "thesis" / "thesis.tex", "years of work")
    assert refused(c).startswith(f"{tmp_path}/thesis holds 'thesis.tex' but no config.json: it is not a run directory")
    assert refused(c, f"--config.run_dir={tmp_path}/train.txt") == (
        f"{tmp_path}/train.txt is a file: config.run_dir must name a directory"
    )


def test_a_vocabulary_in_the_run_directory_is_not_replaced_by_another(refused, tmp_path):
    WORDS.save(tmp_path / "run" / "vocab.txt")
    said = refused(config(tmp_path))
    assert said.startswith(f"{tmp_path}/run/vocab.txt is another vocabulary than that of this run")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b"{", "/config.json is not valid JSON ("),
        (
            "config.json",
            b'{"train": {"sed": 1}}',
            "/config.json: config.train has no field 'sed'; did you mean 'seed'?",
        ),
        ("vocab.txt", b"the\n", "/vocab.txt: has no line <S> and no line </S> and no line <UNK> among its 1"),
        ("vocab.txt", None, "/vocab.txt is missing; put a copy back, or start a new run directory"),
    ],
)
def test_a_damaged_run(refused, tmp_path, name, data, message):
    run = begun(config(tmp_path, model=softmax(cutoffs=())))
    (run.path / name).unlink() if data is None else (run.path / name).write_bytes(data)
    assert refused(config(tmp_path, model=softmax(cutoffs=()))).startswith(f"{run.path}{message}")


# Starting from other weights


def test_init_from_what_is_no_model(refused, tmp_path):
    (tmp_path / "thesis").mkdir()
    for given, said in (("thesis", " is no model: it is not a run ("), ("missing", ": give a run (")):
        path = tmp_path / given
        assert f"{path}{said}" in refused(config(tmp_path), f"--config.init_from={path}")
    assert not (tmp_path / "encoded").exists()


@pytest.mark.parametrize(
    ("override", "field", "theirs", "ours"),
    [
        ("--config.model.lstm.dim=9", "lstm.dim", "8", "9"),
        ("--config.model.char_cnn.filters=((1, 4),)", "char_cnn.filters", "((1, 4), (2, 8))", "((1, 4),)"),
        ("--config.model.softmax.cutoffs=(5,)", "softmax.cutoffs", "(8, 20)", "(5,)"),
        ("--config.model.input=words", "input", "'characters'", "'words'"),
        ("--config.model.bidirectional=false", "bidirectional", "True", "False"),
    ],
)
def test_init_from_another_architecture(refused, tmp_path, override, field, theirs, ours):
    c = config(tmp_path)
    other = begun(c, "other")
    assert refused(c, f"--config.init_from={other.path}", override) == (
        f"config.init_from {other.path} has model.{field} = {theirs}, but this run has {ours}; weights fit only "
        f"the same architecture: use --config.model.{field}={theirs}"
    )


def test_init_from_does_not_ask_of_words_how_characters_are_read(tmp_path):
    c = config(tmp_path, model={"input": "words"})
    other = begun(c, "other")
    Origin(str(other.path)).check(changed(c, model={"char_cnn": CharCNN()}), WORDS)


def test_init_from_another_vocabulary(refused, tmp_path):
    c = config(tmp_path)
    other = begun(c, "other")
    Vocabulary(WORDS.words[::-1]).save(tmp_path / "v.txt")
    said = refused(c, f"--config.init_from={other.path}", f"--config.data.vocabulary={tmp_path}/v.txt")
    assert said == (
        f"config.init_from {other.path} has another vocabulary than this run; leave config.data.vocabulary empty to "
        f"use its own ({other.path}/vocab.txt)"
    )


def test_init_from_a_run_without_a_checkpoint(refused, tmp_path):
    other = RunDirectory(tmp_path / "other")
    other.create(config(tmp_path), WORDS)
    said = refused(config(tmp_path), f"--config.init_from={other.path}")
    assert said == f"config.init_from {other.path} has no checkpoint in {other.checkpoints}; train it first"


def test_init_from_brings_its_vocabulary_and_cutoffs(tmp_path):
    other = begun(config(tmp_path), "other")
    inputs = gather(config(tmp_path, init_from=str(other.path), model=softmax(cutoffs=())), progress=False)
    assert inputs.vocabulary.words == WORDS.words
    assert inputs.config.model.softmax.cutoffs == (8, 20)


def test_a_run_goes_on_with_its_own_vocabulary_and_cutoffs_whatever_it_started_from(tmp_path):
    begun(config(tmp_path))
    gone = {"init_from": str(tmp_path / "gone"), "data": {"vocabulary": str(tmp_path / "gone.txt")}}
    inputs = gather(config(tmp_path, model=softmax(cutoffs=()), **gone), progress=False)
    assert inputs.vocabulary.words == WORDS.words
    assert inputs.config.model.softmax.cutoffs == (8, 20)


# Disks


def test_a_read_only_run_directory(refused, tmp_path):
    with small_disk(tmp_path / "disk") as mount:
        old = begun(config(tmp_path, run_dir=str(tmp_path / "disk" / "run")))
        assert mount("remount", "ro")
        said = refused(config(tmp_path, run_dir=f"{tmp_path}/disk/new"))
        assert said == (
            f"cannot write the run directory {tmp_path}/disk/new: {tmp_path}/disk is not writable; "
            "choose another with --config.run_dir=..."
        )
        assert not (tmp_path / "encoded").exists()
        assert "Read-only file system" in refused(config(tmp_path, run_dir=str(old.path)))


def test_a_disk_that_is_full_while_text_is_encoded(refused, tmp_path):
    with small_disk(tmp_path / "disk", "64k"):
        write_text(tmp_path / "train.txt", sentences=5000)
        said = refused(config(tmp_path, data={"cache_dir": str(tmp_path / "disk"), "heldout": ""}))
        assert re.match(
            rf"cannot write the encoded corpus {tmp_path}/disk/text-\w+: No space left on device; make room there, or "
            r"choose another directory \(--config\.data\.cache_dir, or --cache-dir or --output of the elmo command\)$",
            said,
        )


def test_a_disk_that_is_full_when_the_run_begins(refused, tmp_path):
    rng = np.random.default_rng(0)
    write(tmp_path / "train.txt", "\n".join(f"{n:030x}" for n in rng.integers(0, 2**62, 5000)))
    with small_disk(tmp_path / "disk", "64k"):
        run_dir = tmp_path / "disk" / "run"
        run_dir.mkdir()
        said = refused(config(tmp_path, run_dir=str(run_dir)))
        assert said.startswith(f"cannot write {run_dir}/vocab.txt: No space left on device")
