"""A run may read an encoded corpus, whose text is elsewhere: it is the run that reads the text."""

from pathlib import Path

from elmo_jax.data.corpus import prepare
from elmo_jax.data.text import text_source
from elmo_jax.train import inputs
from tests.train.small import changed, config


def test_a_run_on_encoded_text_is_that_on_the_text(tmp_path: Path):
    on_text = config(tmp_path)
    folders = {
        name: str(prepare(text_source(getattr(on_text.data, name)), tmp_path / "elsewhere", progress=False).directory)
        for name in ("train", "heldout")
    }
    expected = inputs.gather(on_text, progress=False)
    for name in ("train.txt", "heldout.txt"):
        (tmp_path / name).unlink()
    got = inputs.gather(changed(on_text, data=folders), progress=False)
    assert got.identity == expected.identity
    assert str(got.corpus.directory) == folders["train"]
