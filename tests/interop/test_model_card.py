"""Model cards: the hub can read them, they say what is known, and that the rest is not."""

import dataclasses
import re

import pytest

from elmo_jax.config import Data, Optimizer, Train
from elmo_jax.errors import UserError
from elmo_jax.interop import model_card
from tests.interop.models import KINDS, leaves, make

huggingface_hub = pytest.importorskip("huggingface_hub")

ABOUT = {
    "name": 'Latvian: "news"',
    "license": "cc-by-4.0",
    "language": ["lv", "en"],
    "text": "news|*.txt",
    "text_tokens": 1_234_567,
    "text_sentences": 54_321,
    "tokens_seen": 7_654_321,
    "heldout": [
        {"perplexity": 39.7, "perplexity_forward": 38.1, "perplexity_backward": 41.2, "streams": 32}
        | {"state": "carried", "predictions": 1_000, "words": 900, "oov": 9, "oov_rate": 0.01},
        {"perplexity": 45.2, "perplexity_forward": 45.2, "streams": 0, "predictions": 1_000, "oov_rate": 0.01},
    ],
    "import": {"from": "weights.hdf5"},
}
SUMS = {"config.json": (1_234, "ab" * 32)}


def card(model) -> tuple[dict, str]:
    """Front matter and body, as the hub's own client reads them."""
    found = huggingface_hub.ModelCard(model_card.card(model, "folder", SUMS))
    return found.data.to_dict(), found.text


@pytest.fixture(scope="module")
def known():
    model = make(step=4_000, about=ABOUT)
    config = dataclasses.replace(
        model.config,
        data=Data(tokenizer="unicode"),
        train=Train(batch_size=64, state="random"),
        optimizer=Optimizer(name="lion", ema_decay=0.999),
    )
    return card(dataclasses.replace(model, config=config))


def test_the_front_matter_is_what_the_hub_wants(known):
    assert known[0] == {
        "language": ["lv", "en"],
        "license": "cc-by-4.0",
        "library_name": "elmo_jax",
        "pipeline_tag": "feature-extraction",
        "tags": ["elmo", "jax", "flax", "word-embeddings", "language-model", "character-input"],
        "metrics": ["perplexity"],
    }


@pytest.mark.parametrize(
    "line",
    [
        '# Latvian: "news"',
        r"| text | news\|*.txt |",
        "| tokens of the text | 1,234,567 |",
        "| sentences of the text | 54,321 |",
        "| tokens seen | 7,654,321 |",
        "| steps | 4,000, each of 64 rows of 20 tokens |",
        "| LSTM state | from zero at a sentence with probability 0.1 |",
        "| carried over 32 streams | 39.70 | 38.10 | 41.20 | 1,000 | 1.00 % |",
        "| stateless | 45.20 | 45.20 | - | 1,000 | 1.00 % |",
        '| import | {"from": "weights.hdf5"} |',
        f"| `config.json` | 1,234 | `{'ab' * 32}` |",
        "| vocabulary | 25 words |",
    ],
)
def test_the_body_has_what_is_known(line, known):
    assert line in known[1].splitlines()


def test_numbers_of_parameters_add_up(known):
    [line] = [line for line in known[1].splitlines() if line.startswith("| parameters |")]
    whole, *parts = (int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", line))
    assert whole == sum(parts) == sum(leaf.size for leaf in leaves(make()).values())


def test_what_is_not_known_is_said_to_be_not_known():
    data, text = card(make("full, one layer, tanh", vocabulary=None))
    assert data["license"] == "unknown"
    assert not {"language", "metrics"} & data.keys()
    assert "# folder" in text.splitlines()
    for name in ("text", "tokens of the text", "sentences of the text", "tokens seen", "started from"):
        assert f"| {name} | not known |" in text
    assert "| settings | not known" in text
    assert "| tokeniser | not known" in text
    assert "The perplexity on held-out text is not known." in text
    assert "| softmax | none: vectors only |" in text
    assert "elmo eval" not in text
    # Nobody chose the values of our defaults.
    assert "adamw" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_card_for_every_kind(kind):
    _, text = card(make(kind))
    for title in ("Use", "Training", "Evaluation", "Limits", "Files", "Citation"):
        assert f"## {title}" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize("kind", ["adaptive", "words, shared, forward only"])
def test_its_code_runs(kind, tmp_path, monkeypatch):
    make(kind).save_pretrained(tmp_path / "folder")
    monkeypatch.chdir(tmp_path)
    [code] = re.findall(r"```python\n(.*?)```", (tmp_path / "folder" / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})


def test_wrong_facts_of_others_do_no_harm():
    about = {"heldout": "none", "text_tokens": "many", "language": 3, "license": None, "tokens_seen": None}
    data, text = card(make(about=about))
    assert data["license"] == "unknown"
    assert "| tokens of the text | not known |" in text


def test_what_a_user_says_is_checked():
    said = model_card.fields("  An ELMo ", "apache-2.0", "en, pt-BR")
    assert said == {"name": "An ELMo", "license": "apache-2.0", "language": ["en", "pt-BR"]}
    assert model_card.fields() == {}
    for wrong in ({"name": " "}, {"license": "Apache 2.0"}, {"license": "a\nb: c"}, {"language": "en,,de"}):
        with pytest.raises(UserError, match="must be"):
            model_card.fields(**wrong)
