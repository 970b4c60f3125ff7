"""Vectors: those of independent NumPy code, whatever the company a sentence is in."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elmo_jax.config import LSTM, CharCNN, CharEmbedding, Config, Model
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.vocab import Vocabulary
from elmo_jax.embed import Embedder, engine
from elmo_jax.errors import UserError
from elmo_jax.interop import bilm_tf
from elmo_jax.interop.pretrained import Mix, Pretrained
from elmo_jax.train.pretrain import pretrain
from tests.reference.numpy_bilm import NumpyBiLM, load_hdf5, random_weights
from tests.shared import shared
from tests.train.small import MODEL, changed, config

SENTENCES = [
    ["A", "first", "sentence", "of", "quite", "extraordinary", "length", ",", "over", "a", "bucket"],
    ["Māris", "?"],
    [],
    ["again", "and", "again", "and", "again"],
    ["x"] * 40,
    ["\u4e2d\u6587", "a-token-longer-than-the-limit", "<S>", "", "\ud800lone\udfff", "</S>"],
]
WORDS = sorted({word for sentence in SENTENCES for word in sentence})
ANY_SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), max_size=70), min_size=1, max_size=9)


def make(model=MODEL, seed=3, **options):
    """An embedder with random weights, and the independent implementation of the same."""
    words = ["<S>", "</S>", "<UNK>", *(w for w in WORDS if w not in ("<S>", "</S>"))]
    settings_ = bilm_tf.options(Config(model=model), len(words))
    weights = {name: 0.5 * value for name, value in random_weights(settings_, np.random.default_rng(seed)).items()}
    params = bilm_tf.parameters(weights, Config(model=model))
    pretrained = Pretrained(
        Config(model=model), params, Vocabulary(words), "random weights", mixes=(Mix((1.0, 2.0, 0.5)),)
    )
    return Embedder(pretrained, **options), NumpyBiLM(settings_, weights, words)


@pytest.fixture(scope="module")
def made():
    return make()


def assert_equal(found, wanted, atol=2e-5, rtol=1e-5):
    assert len(found) == len(wanted)
    for got, expected in zip(found, wanted, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=atol, rtol=rtol)


def reference_layers(reference, sentences=SENTENCES):
    """All layers of each sentence by itself, with boundaries."""
    return [reference([sentence])[0][0] for sentence in sentences]


@pytest.mark.parametrize(
    "model",
    [
        MODEL,
        Model(
            char_cnn=CharCNN("tanh", CharEmbedding(4), ((1, 4), (7, 8)), n_highway=0),
            lstm=LSTM(dim=8, projection_dim=8, n_layers=1, cell_clip=None, proj_clip=None),
        ),
        Model(lstm=LSTM(dim=8, projection_dim=6, use_skip_connections=False), input="words"),
        changed(MODEL, bidirectional=False),
    ],
    ids=["published shape", "one layer, tanh, long tokens", "words", "forward only"],
)
def test_equals_independent_numpy_code(model):
    embedder, reference = make(model)
    whole = reference_layers(reference)
    assert_equal(embedder.embed(SENTENCES), [layers[:, 1:-1] for layers in whole])
    assert_equal(embedder.embed(SENTENCES, boundaries=True), whole)
    assert_equal(list(embedder.document(SENTENCES[0] * 9, chunk_tokens=40)), document_chunks(reference, 40))


def test_nothing_gives_nothing(made):
    embedder, _ = made
    assert embedder.embed([]) == []
    assert embedder.embed([[]])[0].shape == (3, 0, 12)
    assert embedder.embed([[]], "top")[0].shape == (0, 12)
    assert embedder.embed([], stateful=True)[0] == []
    assert list(embedder.document([])) == []


@given(ANY_SENTENCES)
@settings(max_examples=15)
def test_a_sentence_has_the_same_vectors_in_any_company(made, sentences):
    embedder, _ = made
    alone = [embedder.embed([sentence])[0] for sentence in sentences]
    assert_equal(embedder.embed(sentences), alone)
    assert_equal(embedder.embed(sentences[::-1]), alone[::-1])


def test_small_blocks_windows_and_memories_change_nothing(made, monkeypatch):
    embedder, reference = made
    order = np.random.default_rng(0).permutation(len(SENTENCES) * 3)
    many = [SENTENCES[i % len(SENTENCES)] for i in order]
    wanted = [reference_layers(reference)[i % len(SENTENCES)][:, 1:-1] for i in order]
    assert_equal(embedder.embed(many), wanted)
    monkeypatch.setattr(engine, "BLOCK_WINDOWS", 1)
    for options in ({"token_budget": 1}, {"cache_words": 0}, {"cache_words": 7}):
        other, _ = make(devices=jax.devices()[:1], **options)
        assert_equal(other.embed(many), wanted)
        assert_equal(other.embed(many), wanted)


def test_one_device_and_eight_give_the_same(made):
    assert len(jax.devices()) == 8
    assert_equal(make(devices=jax.devices()[:1])[0].embed(SENTENCES), made[0].embed(SENTENCES))


@pytest.mark.parametrize("platform", ["cpu", "another"])
def test_float64_agrees_to_ten_digits_in_any_company(platform, monkeypatch):
    """Both ways to run the LSTM layers."""
    with jax.enable_x64(True):
        embedder, reference = make(dtype="float64", devices=jax.devices()[:1])
        if platform == "another":
            model = embedder._engine._model.clone(stepwise=False)
            monkeypatch.setattr(embedder._engine, "_model", model)
            monkeypatch.setattr(
                embedder._engine,
                "_stack",
                engine.Stack(model, embedder._engine._params, embedder._engine._mesh, np.float64),
            )
        together = embedder.embed(SENTENCES)
        for number, layers in enumerate(reference_layers(reference)):
            assert together[number].dtype == np.float64
            np.testing.assert_allclose(together[number], layers[:, 1:-1], atol=1e-10, rtol=0)
            np.testing.assert_allclose(embedder.embed([SENTENCES[number]])[0], together[number], atol=1e-10, rtol=0)


def test_float32_is_float32_where_float64_is_enabled(made):
    with jax.enable_x64(True):
        assert_equal(make()[0].embed(SENTENCES), made[0].embed(SENTENCES))


def test_bfloat16_is_near(made):
    exact, near = made[0].embed(SENTENCES), make(dtype="bfloat16")[0].embed(SENTENCES)
    assert_equal(near, exact, atol=0.2, rtol=0.05)
    assert not np.array_equal(near[0], exact[0])


def test_which_layers(made):
    embedder, reference = made
    whole = [layers[:, 1:-1] for layers in reference_layers(reference)]
    mix = Mix((0.3, -1.0, 2.0), gamma=1.7)
    s = np.exp(mix.weights) / np.exp(mix.weights).sum()
    learnt = np.exp([1.0, 2.0, 0.5]) / np.exp([1.0, 2.0, 0.5]).sum()
    wishes = {"top": [0, 0, 1], "average": [1 / 3] * 3, 0: [1, 0, 0], 1: [0, 1, 0], 2: [0, 0, 1], "mix": learnt}
    for layers, weights in [*wishes.items(), (mix, 1.7 * s)]:
        assert_equal(embedder.embed(SENTENCES, layers), [np.tensordot(weights, x, 1) for x in whole])


@pytest.mark.parametrize(
    ("norm", "cut", "epsilon"), [("tokens", slice(1, -1), 1e-12), ("tokens+boundaries", slice(None), 1e-13)]
)
def test_layers_are_normalised_over_the_sentence(made, norm, cut, epsilon):
    embedder, reference = made
    mix = Mix((0.3, -1.0, 2.0), gamma=1.7, norm=norm)
    weights = 1.7 * np.exp(mix.weights) / np.exp(mix.weights).sum()
    sentences = [sentence for sentence in SENTENCES if sentence]
    for found, layers in zip(embedder.embed(sentences, mix), reference_layers(reference, sentences), strict=True):
        counted = layers[:, cut].reshape(3, -1)
        mean, variance = counted.mean(axis=1)[:, None, None], counted.var(axis=1)[:, None, None]
        wanted = np.tensordot(weights, (layers - mean) / np.sqrt(variance + epsilon), 1)[1:-1]
        np.testing.assert_allclose(found, wanted, atol=2e-5, rtol=1e-5)


def test_pooling_counts_words_alone(made):
    embedder, reference = made
    whole = [layers[:, 1:-1] for layers in reference_layers(reference)]
    poolings = {
        "mean": lambda x: x.mean(axis=1),
        "max": lambda x: x.max(axis=1),
        "first": lambda x: x[:, 0],
        "last": lambda x: x[:, -1],
        "final": lambda x: np.concatenate([x[:, -1, :6], x[:, 0, 6:]], axis=1),
    }
    for pooling, pool in poolings.items():
        wanted = [pool(layers) if layers.shape[1] else np.zeros((3, 12)) for layers in whole]
        assert_equal(embedder.embed(SENTENCES, pooling=pooling), wanted)
        assert_equal(embedder.embed(SENTENCES, "top", pooling=pooling), [layers[-1] for layers in wanted])


def test_state_goes_from_call_to_call(made):
    """Batches of different sizes: rows without a sentence keep their state (ELMO_SPEC 2.6)."""
    embedder, reference = made
    state = reference_state = None
    for batch in (SENTENCES[:2], SENTENCES, SENTENCES[3:5], [], SENTENCES[::-1]):
        wanted, reference_state = reference(batch, reference_state)
        before = jax.tree.map(np.copy, state)
        found, after = embedder.embed(batch, boundaries=True, stateful=True, state=state)
        assert_equal(found, wanted)
        assert_equal([after["cell"], after["hidden"]], [reference_state["cell"], reference_state["hidden"]])
        jax.tree.map(np.testing.assert_array_equal, state, before)
        state = after


def test_the_recorded_vectors_of_bilm_tf():
    """Ten batches with carried state; the first is without."""
    folder = shared("fixtures/bilm_tf/model")
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    filters = tuple(map(tuple, options["char_cnn"]["filters"]))
    cnn = CharCNN(embedding=CharEmbedding(4), filters=filters, n_highway=options["char_cnn"]["n_highway"])
    model = Config(model=Model(char_cnn=cnn, lstm=LSTM(**options["lstm"])))
    weights = load_hdf5(folder / "lm_weights.hdf5")
    embedder = Embedder(Pretrained(model, bilm_tf.parameters(weights, model), None, str(folder)))
    sentences = json.loads((folder / "lm_embeddings_sentences.json").read_text(encoding="utf-8"))
    recorded = [load_hdf5(folder / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    state = None
    for number in range(10):
        batch = [sentences[k][number].split() for k in range(3)]
        wanted = [np.concatenate(list(recorded[k][str(number)]), axis=-1) for k in range(3)]
        found, state = embedder.embed(batch, "top", stateful=True, state=state)
        assert_equal(found, wanted, atol=1e-6)
        if number == 0:
            assert_equal(embedder.embed(batch, "top"), wanted, atol=1e-6)


def document_chunks(reference, n):
    [whole] = reference_layers(reference, [SENTENCES[0] * 9])
    return [whole[:, 1:-1][:, begin : begin + n] for begin in range(0, 99, n)]


@pytest.mark.parametrize("n", [7, 32, 98, 99, 1000])
def test_a_document_in_chunks_is_one_sentence(made, n):
    embedder, reference = made
    wanted = document_chunks(reference, n)
    assert_equal(list(embedder.document(SENTENCES[0] * 9, chunk_tokens=n)), wanted)
    assert_equal(list(embedder.document(SENTENCES[0] * 9, "top", chunk_tokens=n)), [layers[-1] for layers in wanted])


def test_ten_thousand_tokens_compile_nothing_new(made):
    embedder, _ = make(devices=jax.devices()[:1])
    embedder.embed([["x"] * 40])
    compiled = embedder._engine._stack._run._cache_size()
    long = embedder.embed([["x", "again"] * 5000], "all")[0]
    assert long.shape == (3, 10_000, 12)
    assert embedder._engine._stack._run._cache_size() == compiled
    chunks = list(embedder.document(["x", "again"] * 5000, chunk_tokens=3000))
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), long, atol=2e-5, rtol=1e-5)


def test_every_distinct_word_is_encoded_once(made):
    embedder, _ = make(devices=jax.devices()[:1])
    encodings = embedder._engine.encodings
    encoded = []
    original = encodings._encoded
    encodings._encoded = lambda words: encoded.extend(words) or original(words)
    for _ in range(2):
        list(embedder.stream(SENTENCES * 2))
    assert sorted(encoded) == sorted({*WORDS, "<S>", "</S>"})
    embedder.clear_cache()
    embedder.embed([["x"]])
    assert encoded[-3:] == ["<S>", "</S>", "x"]


def test_a_stream_reads_no_further_than_it_must(made, monkeypatch):
    monkeypatch.setattr(engine, "BLOCK_WINDOWS", 1)
    embedder, _ = make(devices=jax.devices()[:1], token_budget=32)
    read = []
    results = embedder.stream(read.append(i) or ["x"] * 20 for i in range(1000))
    next(results)
    assert len(read) < 10
    results.close()


def test_text_is_cut_as_the_training_text_was(made):
    embedder, _ = made
    lines = ["A  first line .\n", "\n", "Māris ?"]
    found = list(embedder.text(lines))
    sentences = [[token.text for token in passage.tokens] for passage in found]
    assert sentences == [["A", "first", "line", "."], ["Māris", "?"]]
    assert [passage.line for passage in found] == [0, 2]
    for passage in found:
        assert all(lines[passage.line][token.start : token.end] == token.text for token in passage.tokens)
    assert_equal([passage.vectors for passage in found], embedder.embed(sentences))


def test_text_is_cut_by_the_tokeniser_that_is_given(made):
    embedder, _ = made
    lines = ["Māris's.", "", "So? Yes!"]
    found = list(embedder.text(lines, segmentation=Segmentation("unicode", "unicode")))
    sentences = [["Māris's", "."], ["So", "?"], ["Yes", "!"]]
    assert [(passage.line, [token.text for token in passage.tokens]) for passage in found] == list(
        zip([0, 2, 2], sentences, strict=True)
    )
    for passage in found:
        assert all(lines[passage.line][token.start : token.end] == token.text for token in passage.tokens)
    assert_equal([passage.vectors for passage in found], embedder.embed(sentences))


def test_arrays_generators_and_tuples_are_sentences_too(made):
    embedder, _ = made
    wanted = embedder.embed([["again", "x"]] * 4)
    given_ = (
        tokens
        for tokens in (np.array(["again", "x"]), ("again", "x"), iter(["again", "x"]), np.array(["again", "x"], object))
    )
    assert_equal(embedder.embed(given_), wanted)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.embed(["A sentence"]), r"not the text 'A sentence': use its \.split\(\)"),
        (lambda e: e.embed("A sentence"), "sentences are a list of lists of tokens, not the text 'A sentence'"),
        (lambda e: e.embed([["a", b"b"]]), "a token is not text but b'b': give each sentence as a list of str"),
        (lambda e: e.embed([[["a"]]]), "a token is not text: give each sentence as a list of str"),
        (
            lambda e: e.embed([], "last"),
            "layers is 'last': use 'all', 'top', 'average', 'mix', a Mix, or a layer from 0",
        ),
        (lambda e: e.embed([], 3), "layers is 3: .* to 2"),
        (lambda e: e.embed([], -1), "layers is -1"),
        (lambda e: e.embed([], [0, 1]), r"layers is \[0, 1\]"),
        (lambda e: e.embed([], np.array([0.2, 0.8])), "layers is array"),
        (lambda e: list(e.text("A text")), r"not the text 'A text': use its \.splitlines\(\)"),
        (lambda e: e.embed([], Mix((1.0, 2.0))), "the mixture has 2 weights: the model has 3 layers"),
        (lambda e: e.embed([], pooling="sum"), "pooling is 'sum': use one of mean, max, first, last, final"),
        (lambda e: e.embed([], state={}), "a state was given without stateful=True"),
        (lambda e: e.embed([], stateful=True, state={"cell": np.zeros((1, 2))}), "the state's cell has shape"),
        (lambda e: e.document("A document"), "a document is a list of tokens, not the text"),
        (lambda e: e.document([], chunk_tokens=0), "chunk_tokens is 0: use 1 or more"),
        (lambda e: e.document([], Mix((1.0, 2.0, 3.0), norm="tokens")), "needs the whole document at once"),
        (lambda e: Embedder(e.pretrained, token_budget=0), "token_budget is 0"),
        (lambda e: Embedder(e.pretrained, dtype="float16"), "dtype is 'float16': use"),
        (lambda e: Embedder(e.pretrained, dtype="float64"), "needs jax.config.update"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(made, call, message):
    with pytest.raises(UserError, match=message):
        call(made[0])


def test_a_model_without_a_learnt_mix_has_none(made):
    plain = Pretrained(made[0].pretrained.config, made[0].pretrained.params, None, "here")
    with pytest.raises(UserError, match="here has no learnt mixture of layers; give one: --mix, or layers=Mix"):
        Embedder(plain).embed([], "mix")


def test_a_run_gives_the_vectors_of_its_exported_weights(tmp_path):
    """The best weights, read back from the HDF5 file by independent code."""
    run = config(tmp_path, train={"n_steps": 6})
    assert pretrain(run) == 0
    export = tmp_path / "run" / "export"
    options = json.loads((export / "options.json").read_text(encoding="utf-8"))
    reference = NumpyBiLM(options, load_hdf5(export / "weights.hdf5"))
    wanted = [layers[:, 1:-1] for layers in reference_layers(reference)]
    assert_equal(Embedder.from_pretrained(tmp_path / "run").embed(SENTENCES), wanted)
