"""The examples of docs/migration.md run, one after the other, as a reader types them."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from elmo_jax.config import Config
from elmo_jax.interop import bilm_tf
from elmo_jax.interop.pretrained import Pretrained
from elmo_jax.train import trained
from tests.reference.numpy_bilm import random_weights
from tests.train.small import MODEL

PAGE = Path(__file__).resolve().parents[1] / "docs" / "migration.md"
BLOCK = re.compile(r"(<!-- not tested: .*? -->\n)?```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The path ``model``, whose tokens have fifty characters as those of the published models."""
    cnn = dataclasses.replace(MODEL.char_cnn, max_characters_per_token=50)
    config = Config(model=dataclasses.replace(MODEL, char_cnn=cnn))
    weights = random_weights(bilm_tf.options(config, 0), np.random.default_rng(0))
    small = Pretrained(config, bilm_tf.parameters(weights, config), None, "random weights")
    monkeypatch.setattr(trained, "load", lambda path, step=None: {"model": small}[str(path)])
    monkeypatch.chdir(tmp_path)
    return small


@pytest.mark.usefixtures("hastily")
def test_every_example_runs(model, capsys):
    namespace = {}
    for skipped, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if not skipped:
            exec(compile(code, str(PAGE), "exec"), namespace)
    printed = capsys.readouterr().out
    assert "[(3, 5, 12), (3, 2, 12)]" in printed
    assert "(2, 3, 50, 4) (2, 5, 6)" in printed
    assert namespace["ids"].shape == (2, 3, 50)
    assert Path("tuned/model.safetensors").is_file()
    # Frozen as the page says, mixed as the page trains.
    before, after = model.params, namespace["tuned"].params
    np.testing.assert_array_equal(after["lstm_0"]["bias"], before["lstm_0"]["bias"])
    assert namespace["tuned"].mixes[0].norm == "tokens+boundaries"
    assert any(namespace["tuned"].mixes[0].weights)


def test_every_link_leads_somewhere():
    text = PAGE.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert link[1:] in anchors if link.startswith("#") else (PAGE.parent / link).is_file(), link
