"""The NumPy reference against the outputs that bilm-tf recorded, the examples of ELMO_SPEC 2.1 and its own laws."""

import copy
import json

import numpy as np
import pytest

from tests.reference.numpy_bilm import NumpyBiLM, character_ids, load_hdf5, log_softmax, random_weights, score
from tests.shared import shared

OPTIONS = {
    "lstm": {
        "use_skip_connections": True,
        "projection_dim": 6,
        "cell_clip": 3,
        "proj_clip": 3,
        "dim": 10,
        "n_layers": 2,
    },
    "char_cnn": {
        "activation": "relu",
        "filters": [[1, 4], [2, 5], [4, 3]],
        "n_highway": 2,
        "embedding": {"dim": 4},
        "n_characters": 262,
        "max_characters_per_token": 12,
    },
}
SENTENCES = [["A", "first", "sentence", "of", "extraordinary", "length"], ["Māris", "?"], []]


def changed(part: str, **values) -> dict:
    """OPTIONS with other values in one part; ``None`` takes the key away."""
    options = copy.deepcopy(OPTIONS)
    options[part] |= values
    options[part] = {key: value for key, value in options[part].items() if value is not None}
    return options


def model(options: dict) -> NumpyBiLM:
    return NumpyBiLM(options, random_weights(options, np.random.default_rng(0)))


def recorded_batches():
    """Ten pairs of three sentences and the top layers recorded for them, in the order they were computed in."""
    folder = shared("fixtures/bilm_tf/model")
    texts = json.loads((folder / "lm_embeddings_sentences.json").read_text(encoding="utf-8"))
    outputs = [load_hdf5(folder / f"lm_embeddings_{k}.hdf5") for k in range(len(texts))]
    return [([text[i].split() for text in texts], [output[str(i)] for output in outputs]) for i in range(10)]


def recorded_model() -> NumpyBiLM:
    folder = shared("fixtures/bilm_tf/model")
    options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
    return NumpyBiLM(options, load_hdf5(folder / "lm_weights.hdf5"))


def test_it_reproduces_the_recorded_outputs_of_bilm_tf():
    reference, state = recorded_model(), None
    for sentences, recorded in recorded_batches():
        layers, state = reference(sentences, state)
        for activations, (forward, backward) in zip(layers, recorded, strict=True):
            top = activations[-1, 1:-1]
            np.testing.assert_allclose(top, np.concatenate([forward, backward], -1), atol=1e-6, rtol=1e-5)


def test_without_the_state_only_the_first_recorded_batch_is_reproduced():
    reference = recorded_model()
    errors = []
    for sentences, recorded in recorded_batches()[:2]:
        layers, _ = reference(sentences)
        errors.append(abs(layers[0][-1, 1:-1] - np.concatenate(list(recorded[0]), -1)).max())
    assert errors[0] < 1e-5
    assert errors[1] > 0.1


@pytest.mark.parametrize(
    ("token", "start"),
    [
        ("<S>", [259, 257, 260, 261]),
        ("</S>", [259, 258, 260, 261]),
        ("Āt", [259, 197, 129, 117, 260, 261]),
        ("", [259, 260, 261]),
        ("<UNK>", [259, 61, 86, 79, 76, 63, 260, 261]),
        ("\ud800a", [259, 98, 260, 261]),
    ],
)
def test_character_ids(token, start):
    assert character_ids(token, 50).tolist() == start + [261] * (50 - len(start))


def test_a_long_token_is_cut_inside_a_character():
    assert character_ids("ĀĀĀ", 7).tolist() == [259, 197, 129, 197, 129, 197, 260]


@pytest.mark.parametrize(
    "options",
    [
        changed("lstm", n_layers=1),
        changed("lstm", n_layers=3),
        changed("lstm", projection_dim=10),
        changed("lstm", projection_dim=12, dim=20),
        changed("lstm", cell_clip=None, proj_clip=None),
        changed("char_cnn", n_highway=None),
        changed("char_cnn", activation="tanh"),
        {**OPTIONS, "bidirectional": False},
    ],
    ids=["one layer", "three layers", "P == C", "N == P", "no clips", "no highway", "tanh", "forward only"],
)
def test_architectures(options):
    layers, state = model(options)(SENTENCES)
    L, P, C = options["lstm"]["n_layers"], options["lstm"]["projection_dim"], options["lstm"]["dim"]
    D = 2 if options.get("bidirectional", True) else 1
    assert [a.shape for a in layers] == [(L + 1, len(s) + 2, D * P) for s in SENTENCES]
    assert state["cell"].shape == (3, L, D, C)
    assert state["hidden"].shape == (3, L, D, P)


def test_a_forward_only_model_is_the_forward_half():
    both, one = model(OPTIONS)(SENTENCES)[0], model({**OPTIONS, "bidirectional": False})(SENTENCES)[0]
    for two, forward in zip(both, one, strict=True):
        np.testing.assert_array_equal(forward, two[..., :6])


def test_a_table_of_encoded_words_gives_what_their_characters_give():
    """bilm-tf's cached token table (2.11): a word that is not in it is read as <UNK>."""
    chars, words = model(OPTIONS), ["<S>", "</S>", "Māris", "<UNK>", "of"]
    table = np.stack([chars.token_encoding(word) for word in words])
    lstms = {name: array for name, array in chars.weights.items() if name.startswith("RNN")}
    options = {part: OPTIONS[part] for part in OPTIONS if part != "char_cnn"}
    found, _ = NumpyBiLM(options, {"embedding": table, **lstms}, words)([["of", "unheard", "Māris"]])
    wanted, _ = chars([["of", "<UNK>", "Māris"]])
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    "options",
    [
        changed("lstm", cell_clip=None),
        changed("lstm", proj_clip=None),
        changed("lstm", use_skip_connections=False),
        changed("char_cnn", activation="tanh"),
        changed("char_cnn", n_highway=1),
        changed("char_cnn", max_characters_per_token=11),
    ],
    ids=["cell clip", "projection clip", "skip connections", "activation", "highway", "token length"],
)
def test_every_option_matters_with_random_weights(options):
    weights = random_weights(OPTIONS, np.random.default_rng(0))
    (expected, *_), _ = NumpyBiLM(OPTIONS, weights)(SENTENCES)
    (other, *_), _ = NumpyBiLM(options, weights)(SENTENCES)
    assert abs(expected - other).max() > 0.01


def test_no_direction_sees_the_other_side():
    left, right = (model(OPTIONS)([["a", "b", word, "c"]])[0][0] for word in ("x", "y"))
    np.testing.assert_array_equal(left[:, :3, :6], right[:, :3, :6])
    np.testing.assert_array_equal(left[:, 4:, 6:], right[:, 4:, 6:])
    assert (left[1:, 3:, :6] != right[1:, 3:, :6]).any(axis=-1).all()
    assert (left[1:, :4, 6:] != right[1:, :4, 6:]).any(axis=-1).all()


def test_a_call_uses_and_overwrites_the_rows_it_has():
    reference = model(OPTIONS)
    _, before = reference(SENTENCES)
    kept = copy.deepcopy(before)
    (first,), after = reference([["again"]], before)
    (fresh,), _ = reference([["again"]])
    np.testing.assert_array_equal(after["cell"][1:], before["cell"][1:])
    assert (after["cell"][0] != before["cell"][0]).any()
    assert (first[1:] != fresh[1:]).any()
    np.testing.assert_array_equal(before["cell"], kept["cell"])
    np.testing.assert_array_equal(before["hidden"], kept["hidden"])


def test_a_larger_batch_finds_zero_rows():
    reference = model(OPTIONS)
    _, state = reference([["one", "row"]])
    (_, second), _ = reference([["x"], ["y", "z"]], state)
    (alone,), _ = reference([["y", "z"]])
    np.testing.assert_array_equal(second, alone)


def test_log_softmax_is_a_distribution_and_the_score_reads_the_neighbours():
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((7, 6)), rng.standard_normal(7)
    ((layers,), _), ids = model(OPTIONS)([["a", "b", "c"]]), np.array([0, 4, 5, 6, 1])
    forward_TV, backward_TV = log_softmax(layers[-1], W, b)
    np.testing.assert_allclose(np.exp(forward_TV).sum(-1), 1)
    np.testing.assert_allclose(np.exp(backward_TV).sum(-1), 1)
    logits = W @ layers[-1, 2, :6] + b
    np.testing.assert_allclose(forward_TV[2], logits - np.log(np.exp(logits).sum()))
    forward, backward = score(layers[-1], ids, W, b)
    np.testing.assert_array_equal(forward, [forward_TV[0, 4], forward_TV[1, 5], forward_TV[2, 6], forward_TV[3, 1]])
    np.testing.assert_array_equal(
        backward, [backward_TV[1, 0], backward_TV[2, 4], backward_TV[3, 5], backward_TV[4, 6]]
    )
