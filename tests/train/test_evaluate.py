"""Perplexity is what the definition says, on any number of rows and devices."""

import jax
import numpy as np
import pytest

from elmo_jax.config import Config, Softmax, Train
from elmo_jax.data.corpus import prepare
from elmo_jax.data.text import text_source
from elmo_jax.data.vocab import build_from_corpus
from elmo_jax.interop import bilm_tf
from elmo_jax.model.bilm import BiLM, smallest_inputs
from elmo_jax.model.clusters import Clusters
from elmo_jax.parallel import DataParallel
from elmo_jax.train import evaluate
from elmo_jax.train.evaluate import Evaluator
from tests.model.parameters import random_parameters
from tests.reference.numpy_bilm import NumpyBiLM, log_softmax
from tests.train.small import MODEL, changed, write_text


def make_case(folder, length=4, **model_changes):
    """Random weights under a full softmax, a vocabulary without the rarest words, and 23 sentences."""
    corpus = prepare(text_source(str(write_text(folder / "text.txt", 23))), folder / "encoded", progress=False)
    vocabulary = build_from_corpus(corpus, 2, 1000)
    config = Config(model=changed(MODEL, softmax=Softmax("full"), **model_changes), train=Train(unroll_steps=length))
    model = BiLM(config.model, Clusters(len(vocabulary)))
    params = random_parameters(model, *smallest_inputs(config.model), method="everything", scale=0.7)["params"]
    sentences = [line.split() for line in (folder / "text.txt").read_text().splitlines()]
    return config, model, params, vocabulary, corpus, sentences


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """The model of the other tests."""
    return make_case(tmp_path_factory.mktemp("text"))


def measured(case, streams, n_devices=1):
    config, model, params, vocabulary, corpus, _ = case
    devices = DataParallel(devices=jax.devices()[:n_devices])
    return Evaluator(model, config, vocabulary, devices)(params, corpus, streams=streams)


def by_definition(case, streams):
    """Negative log-likelihood of each direction of the model from the NumPy reference, stream by stream.

    A direction of a sentence reads its opening boundary and its words in turn, and predicts the words and the closing
    boundary. Sentence s belongs to stream ``s % streams``; without streams each sentence starts from the zero state.
    """
    config, _, params, vocabulary, _, sentences = case
    options = bilm_tf.options(config, len(vocabulary))
    reference = NumpyBiLM(options, bilm_tf.datasets(params, config), vocabulary.words)
    kernel, bias = bilm_tf.softmax_datasets(params).values()
    totals = []
    for direction, (first, last) in enumerate([("<S>", "</S>"), ("</S>", "<S>")][: reference.D]):
        total = 0.0
        rows = [sentences[r::streams] for r in range(streams)] if streams else [[s] for s in sentences]
        for row in rows:
            read, predicted = [], []
            for sentence in row:
                words = sentence if direction == 0 else sentence[::-1]
                read += [first, *words]
                predicted += [*words, last]
            state = reference.initial_state(1)
            e_TP = np.stack([reference.token_encoding(token) for token in read])
            # The reference reverses the backward direction itself.
            in_text_order = e_TP if direction == 0 else e_TP[::-1]
            y_LTP = reference.stack(
                in_text_order, state["cell"][0, :, direction], state["hidden"][0, :, direction], direction
            )
            top_TP = y_LTP[-1] if direction == 0 else y_LTP[-1][::-1]
            log_prob_TV, _ = log_softmax(np.concatenate([top_TP, top_TP], axis=-1), kernel, bias)
            total -= sum(log_prob_TV[t, vocabulary.id(word)] for t, word in enumerate(predicted))
        totals.append(total)
    return totals


@pytest.mark.parametrize("streams", [0, 1, 3])
def test_equals_the_definition_computed_by_independent_code(case, streams):
    found = measured(case, streams)
    forward, backward = by_definition(case, streams)
    assert found.nll == {"forward": pytest.approx(forward, rel=2e-5), "backward": pytest.approx(backward, rel=2e-5)}
    sentences, vocabulary = case[5], case[3]
    words = [word for sentence in sentences for word in sentence]
    assert found.count == len(words) + len(sentences)
    assert found.oov == sum(word not in vocabulary.ids for word in words) > 0
    assert found.average == pytest.approx(np.sqrt(np.prod(list(found.by_direction.values()))))
    assert found.streams == streams


@pytest.mark.parametrize(
    ("length", "model"),
    [
        (1, {"input": "words", "share_embedding_softmax": True, "lstm": {"n_layers": 3, "dim": 6}}),
        (7, {"bidirectional": False, "char_cnn": {"max_characters_per_token": 70, "n_highway": 0}}),
        (30, {"input": "words", "bidirectional": False, "lstm": {"n_layers": 1, "use_skip_connections": False}}),
    ],
    ids=["words, shared", "forward only", "words, forward only"],
)
def test_of_other_models_and_windows_too(tmp_path, length, model):
    case = make_case(tmp_path, length, **model)
    found = measured(case, 3)
    wanted = dict(zip(case[0].model.directions, by_definition(case, 3), strict=True))
    assert found.nll == {name: pytest.approx(nll, rel=2e-5) for name, nll in wanted.items()}
    assert found.average == pytest.approx(np.exp(sum(wanted.values()) / len(wanted) / found.count), rel=2e-5)
    results = {name for name in found.as_dict() if name.startswith("perplexity")}
    assert results == {"perplexity", *(f"perplexity_{name}" for name in wanted)}


def test_carried_and_stateless_are_not_the_same(case):
    assert abs(measured(case, 1).nll["forward"] - measured(case, 0).nll["forward"]) > 0.1


@pytest.mark.parametrize("n_rows", [1, 7, 40])
def test_stateless_perplexity_is_the_same_for_every_batch_size(case, n_rows, monkeypatch):
    wanted = measured(case, 0)
    monkeypatch.setattr(evaluate, "STATELESS_ROWS", n_rows)
    found = measured(case, 0)
    assert found.count == wanted.count
    assert found.average == pytest.approx(wanted.average, rel=1e-6)


@pytest.mark.parametrize("streams", [0, 1, 3, 8])
def test_perplexity_is_the_same_on_eight_devices(case, streams):
    one, eight = measured(case, streams), measured(case, streams, n_devices=8)
    assert one.count == eight.count
    assert one.average == pytest.approx(eight.average, rel=1e-6)
