"""``elmo export``: every format from any model, who can read it, and what is refused before anything is written."""

import json
import re

import pytest

import elmo_jax
from elmo_jax import cli
from tests.filesystems import contents
from tests.interop.models import VOCABULARY, leaves, make


@pytest.fixture(autouse=True)
def elmo(tmp_path, monkeypatch):
    """A working directory with a model."""
    monkeypatch.chdir(tmp_path)
    make("full, one layer, tanh").save_pretrained("elmo")
    return tmp_path


@pytest.fixture
def export(capsys):
    """Runs ``elmo export`` and gives exit status, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["export", *arguments])
        return stopped.value.code, *capsys.readouterr()

    return run


def bits(path):
    return {name: leaf.tobytes() for name, leaf in leaves(elmo_jax.from_pretrained(path)).items()}


def test_bilm_tf_files_by_default(export, elmo):
    status, out, _ = export("elmo", "out")
    assert status == 0
    assert contents(elmo / "out").keys() == {"weights.hdf5", "options.json", "vocab.txt", "softmax_weights.hdf5"}
    assert out.startswith("out: weights of elmo\n  note: bilm-tf can read this model.\n")


def test_a_pretrained_directory_with_what_the_user_says(export, elmo):
    status, out, _ = export(
        "elmo", "my-elmo", "--format", "pretrained", "--license", "mit", "--language", "lv,de", "--name", "Latvian"
    )
    assert (status, out) == (0, "my-elmo: weights of elmo\n")
    assert bits("my-elmo") == bits("elmo")
    about = {"license": "mit", "language": ["lv", "de"], "name": "Latvian"}
    assert elmo_jax.from_pretrained("my-elmo").about == about
    # What was said is said again when it is exported again.
    export("my-elmo", "again", "--format", "pretrained", "--language", "de")
    assert elmo_jax.from_pretrained("again").about == {**about, "language": ["de"]}


def test_options_may_stand_before_the_directory(export, elmo):
    assert export("elmo", "--format", "pretrained", "one", "--license", "mit")[0] == 0
    assert export("--format", "pretrained", "elmo", "--license", "mit", "two")[0] == 0
    assert bits("one") == bits("two")


def test_what_a_card_leaves_open_is_said(export):
    _, out, _ = export("elmo", "my-elmo", "--format", "pretrained", "--license", "mit")
    assert "note: my-elmo/README.md leaves open what --language would say." in out


def test_one_file_of_half_the_size(export, elmo):
    assert export("elmo", "full.safetensors", "--format", "safetensors")[0] == 0
    assert export("elmo", "half.safetensors", "--format", "safetensors", "--dtype", "bfloat16")[0] == 0
    assert bits("full.safetensors") == bits("elmo")
    assert bits("half.safetensors").keys() == bits("elmo").keys()
    sizes = [(elmo / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.7 * sizes[0]


def test_programs(export, elmo):
    status, out, _ = export("elmo", "program", "--format", "stablehlo", "--log-probs")
    assert status == 0
    assert "program/README.md has code that runs it" in out
    assert {"layers.stablehlo", "log_probs.stablehlo", "vocab.txt"} <= contents(elmo / "program").keys()


def test_a_check_says_who_can_read_it_and_writes_nothing(export, elmo):
    before = contents(elmo)
    status, out, err = export("elmo", "--check")
    assert (status, err) == (0, "")
    assert out == (
        "bilm-tf can read it\nAllenNLP 2.10 cannot read it: model.char_cnn.max_characters_per_token is 9, not 50\n"
    )
    assert contents(elmo) == before


def test_models_without_softmax_or_vocabulary(export, elmo):
    make(vocabulary=None).save_pretrained("bare")
    assert export("bare", "out")[0] == 0
    assert contents(elmo / "out").keys() == {"weights.hdf5", "options.json"}
    assert "n_tokens_vocab" not in json.loads((elmo / "out" / "options.json").read_text())
    for form, output in (("pretrained", "p"), ("safetensors", "s.safetensors"), ("stablehlo", "h")):
        assert export("bare", output, "--format", form)[0] == 0
    assert bits("p") == bits("s.safetensors") == bits("bare")


def test_an_earlier_export_is_replaced_when_told_to(export, elmo):
    make(seed=1).save_pretrained("other")
    for form, output in (("bilm-tf", "b"), ("pretrained", "p"), ("safetensors", "s.safetensors"), ("stablehlo", "h")):
        assert export("elmo", output, "--format", form)[0] == 0
        before = contents(elmo)
        status, _, err = export("other", output, "--format", form)
        assert (status, contents(elmo)) == (2, before)
        assert f"elmo: {output} exists already; name another, or replace it with --overwrite" in err
        assert export("other", output, "--format", form, "--overwrite")[0] == 0
        assert contents(elmo) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["elmo"], "no DIR to write to: name one, or use --check"),
        (["elmo", "out", "--check"], "--check writes nothing: leave DIR out"),
        (["elmo", "out", "--dtype", "float16"], "--dtype has no effect with --format bilm-tf: it is for --format pret"),
        (["elmo", "out", "--format", "stablehlo", "--license", "mit"], "--license has no effect with --format stableh"),
        (["elmo", "out", "--log-probs"], "--log-probs has no effect with --format bilm-tf: it is for --format stable"),
        (["elmo", "out", "--format", "onnx"], "argument --format: invalid choice: 'onnx'"),
        (["elmo", "out", "--format", "safetensors"], "out is to be a safetensors file: its name must end in"),
        (["elmo", "out", "--step", "3"], "elmo is no run: it has no checkpoint of step 3"),
        (["elmo", "elmo"], "elmo exists already"),
        (["elmo", "elmo", "--overwrite"], ".*elmo holds README.md, SHA256SUMS, config.json, and an export replaces"),
        (
            ["elmo", "out", "--format", "pretrained", "--license", "M I T"],
            "the licence is 'M I T': it must be an ident",
        ),
        (
            ["elmo", "out", "--format", "pretrained", "--language", "English"],
            "the language is 'English': it must be an",
        ),
        (
            ["elmo", "out", "--format", "pretrained", "--name", "a\nb"],
            r"the name of the model is 'a\\nb': it must be one",
        ),
        (["gone", "out"], "there is no gone: give a run"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arguments, message, export, elmo):
    before = contents(elmo)
    status, out, err = export(*arguments)
    assert (status, out) == (2, "")
    assert re.match(f"elmo: {message}", err), err
    assert err.count("\n") == 1
    assert contents(elmo) == before


def test_the_words_stay_those_of_the_model(export, elmo):
    export("elmo", "program", "--format", "stablehlo", "--log-probs")
    export("elmo", "files")
    texts = {(elmo / folder / "vocab.txt").read_text() for folder in ("elmo", "program", "files")}
    assert texts == {"".join(f"{word}\n" for word in VOCABULARY.words)}
