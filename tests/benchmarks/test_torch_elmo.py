"""The peer: the same network as ours, on the same text."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the peer of the benchmarks needs PyTorch")
# The only implementation of projected LSTMs on CPU says so.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

SENTENCES = ["the cat sat on the mat", "a dog and a cat", "the extraordinarily long-winded dog", "it sat"] * 20


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads wait for one another for long on a machine that does other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def text_file(tmp_path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("\n".join(SENTENCES), encoding="utf-8")
    return file


def options(form: str, **changes) -> argparse.Namespace:
    network = {"form": form, "size": "tiny", "batch": 4, "unroll": 5, "dtype": "float32", "device": "cpu"}
    softmax = {"samples": 6, "cutoffs": [6, 9], "tail_dims": [16, 16]}
    return argparse.Namespace(**{**network, **softmax, "compile": None, **changes})


@pytest.fixture
def trainer(text_file):
    from torch_elmo import Trainer
    from torch_elmo_data import Text

    return lambda form, **changes: Trainer(options(form, **changes), Text([text_file]))


def our_parameters(n_words: int, kind: str) -> dict[str, int]:
    import jax

    from elmo_jax.config_io import experiment
    from elmo_jax.model.bilm import BiLM, smallest_inputs
    from elmo_jax.model.clusters import Clusters

    config = experiment("elmo_tiny").model
    config = dataclasses.replace(config, softmax=dataclasses.replace(config.softmax, kind=kind))
    model = BiLM(config, Clusters(n_words, (6, 9) if kind == "adaptive" else ()))
    shapes = jax.eval_shape(
        lambda key: model.init(key, *smallest_inputs(config), method="everything")["params"], jax.random.key(0)
    )
    sizes = {name: sum(x.size for x in jax.tree.leaves(part)) for name, part in shapes.items()}
    return {
        "encoder": sizes["encoder"],
        "directions": sum(size for name, size in sizes.items() if name.startswith("lstm")),
        "softmax": sizes["softmax"],
    }


@pytest.mark.parametrize(("form", "kind"), [("as_written", "sampled"), ("strongest", "adaptive")])
def test_every_part_has_as_many_parameters_as_ours(trainer, text_file, form, kind):
    from torch_elmo_data import Text

    model = trainer(form).model
    found = {
        name: sum(x.numel() for x in part.parameters() if x.requires_grad) for name, part in model.named_children()
    }
    assert found == our_parameters(len(Text([text_file]).words), kind)


@pytest.mark.parametrize("form", ["as_written", "strongest"])
def test_the_loss_of_one_sentence_falls(trainer, text_file, form):
    import torch

    text_file.write_text("the cat sat on the mat\n" * 60, encoding="utf-8")
    torch.manual_seed(0)
    trained = trainer(form, cutoffs=[4], tail_dims=[16])
    losses = [float(trained.step()) for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_adaptive_softmax_is_that_of_pytorch():
    import torch
    from torch_elmo_model import AdaptiveSoftmax

    ours = AdaptiveSoftmax(8, 20, (5, 9), (4, 2))
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 9], div_value=2.0, head_bias=True)
    theirs.head.load_state_dict(ours.head.state_dict())
    for tail, other in zip(ours.tails, theirs.tail, strict=True):
        for linear, its in zip(tail, other, strict=True):
            its.weight.data.copy_(linear.weight.data)
    hidden = torch.randn(2, 30, 8)
    for targets in (torch.randint(20, (2, 30)), torch.full((2, 30), 7), torch.full((2, 30), 2)):
        loss = theirs(hidden.flatten(0, 1), targets.flatten()).loss
        assert torch.allclose(ours(hidden, targets), loss, rtol=1e-5, atol=0)


def test_words_encoded_once_and_cut_are_encoded_exactly(trainer, text_file):
    import torch
    from torch_elmo_data import Distinct, Text, every_position

    model, text = trainer("as_written").model.double(), Text([text_file])
    window = next(text.windows(4, 5))
    with torch.no_grad():
        plain = model.encode(every_position(*window))
        batch = Distinct(text, chunk=3, widest=4)(*window)
        assert len(batch.chunks) > 1
        assert max(chunk.width for chunk in batch.chunks) < 50
        assert torch.allclose(model.encode(batch), plain, rtol=0, atol=1e-12)


def test_text_is_read_as_ours_is(text_file, tmp_path):
    from torch_elmo_data import Text

    from elmo_jax.data.characters import character_rows
    from elmo_jax.data.corpus import encode, open_corpus
    from elmo_jax.data.text import read_sentences
    from elmo_jax.data.vocab import build_from_corpus

    encode(read_sentences([text_file]), tmp_path / "corpus")
    corpus, text = open_corpus(tmp_path / "corpus"), Text([text_file])
    assert text.words == build_from_corpus(corpus, 1, 800_000).words
    types = np.arange(corpus.n_types)
    rows = character_rows(corpus.type_bytes, corpus.type_offsets, types, 50)
    spelt = {corpus.word(i): row.tolist() for i, row in zip(types.tolist(), rows, strict=True)}
    ours = {word: row.tolist() for word, row in zip(text.words, text.spellings, strict=True) if word in spelt}
    assert ours == spelt


def test_both_directions_read_the_same_predictions(text_file):
    from torch_elmo_data import Text

    text = Text([text_file])
    predictions = sum(len(sentence) - 1 for sentence in text.sentences)
    seen = 0
    for inputs, targets in text.windows(1, 7):
        # Within a row what is predicted is read next, or a sentence ends there.
        ends = np.isin(targets[:, :-1], (0, 1))
        assert np.all(ends | (inputs[:, 1:] == targets[:, :-1]))
        assert not np.isin(inputs[0], 1).any()
        assert not np.isin(inputs[1], 0).any()
        seen += inputs[0].size
        if seen > predictions - 7:
            break
    assert seen == predictions // 7 * 7
