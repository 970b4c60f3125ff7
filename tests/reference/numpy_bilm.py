"""The bidirectional language model in plain NumPy, written from ELMO_SPEC 2.1 to 2.7 and 2.13 and from nothing else.

It shares no code with elmo_jax, so that an agreement of the two means something. It is obvious rather than fast, and in
float64. A model is an options dict (2.10) and a dict from HDF5 dataset names to arrays (2.9)::

    model = NumpyBiLM(json.loads(options_file.read_text()), load_hdf5(weight_file))
    layers, state = model([["A", "sentence", "."], ["Another"]])            # layers[0]: [n_layers + 1, 5, D P]
    layers, state = model([["It", "goes", "on"], ["from", "there"]], state)

Without ``char_cnn`` in its options the model reads words, and needs their list; with ``bidirectional`` false it has the
forward direction only (2.9, 2.10).

Sizes: L characters of a token, E of a character embedding, N filters, P projection, C cell, T tokens with both
boundaries, V words, D directions.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Array = np.ndarray
# The cell and hidden states of numbered rows: {"cell": [rows, n_layers, D, C], "hidden": [rows, n_layers, D, P]}.
State = dict[str, Array]

BEGIN_SENTENCE, END_SENTENCE, BEGIN_WORD, END_WORD, PADDING = 256, 257, 258, 259, 260


def load_hdf5(path: Path) -> dict[str, Array]:
    """All datasets of an HDF5 file by their full names, such as ``CNN/W_cnn_0``."""
    datasets: dict[str, Array] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = item[...]

    with h5py.File(path, "r") as file:
        file.visititems(keep)
    return datasets


def base_character_ids(token: str, length: int) -> Array:
    """The training-side ids 0..260 of a token, int ``[length]`` (2.1)."""
    if token == "<S>":
        inner = [BEGIN_SENTENCE]
    elif token == "</S>":
        inner = [END_SENTENCE]
    else:
        inner = list(token.encode("utf-8", "ignore"))[: length - 2]
    ids = [BEGIN_WORD, *inner, END_WORD]
    return np.array(ids + [PADDING] * (length - len(ids)))


def character_ids(token: str, length: int) -> Array:
    """The inference-side ids 1..261 of a token, int ``[length]``; 0 is left for "no token" (2.1)."""
    return base_character_ids(token, length) + 1


class NumpyBiLM:
    """A biLM from its options and datasets; every method names the section of ELMO_SPEC that it spells out."""

    def __init__(
        self, options: dict, weights: dict[str, Array], vocabulary: list[str] | None = None, dtype: Any = np.float64
    ) -> None:
        self.options = options
        self.weights = {name: np.asarray(array, dtype) for name, array in weights.items()}
        self.dtype = dtype
        self.P = options["lstm"]["projection_dim"]
        self.C = options["lstm"]["dim"]
        self.n_layers = options["lstm"].get("n_layers", 1)
        self.D = 2 if options.get("bidirectional", True) else 1
        self.vocabulary = vocabulary
        self._encodings: dict[str, Array] = {}

    def __call__(self, sentences: list[list[str]], state: State | None = None) -> tuple[list[Array], State]:
        """The activations of one batch of sentences, one array ``[n_layers + 1, T, D P]`` each, and the state after it.

        Row r of the batch starts from row r of ``state`` and overwrites it; further rows stay as they are, missing rows
        and no state at all are zeros (2.6). ``T`` counts both boundaries; ``[:, 1:-1]`` strips them (2.7).
        """
        state = self._grown(state, len(sentences))
        layers = [self._sentence(tokens, state, row) for row, tokens in enumerate(sentences)]
        return layers, state

    def token_encoding(self, token: str) -> Array:
        """The context-independent encoding e of a token, ``[P]``: from its characters (2.3) or its word's row (2.9)."""
        if "char_cnn" not in self.options:
            words = self.vocabulary or []
            return self.weights["embedding"][words.index(token if token in words else "<UNK>")]
        if token not in self._encodings:
            length = self.options["char_cnn"]["max_characters_per_token"]
            self._encodings[token] = self.encode(character_ids(token, length))
        return self._encodings[token]

    def encode(self, ids: Array) -> Array:
        """The encoding ``[P]`` of inference-side character ids ``[L]`` (2.3)."""
        cnn, weights = self.options["char_cnn"], self.weights
        activations: dict[str, Callable[[Array], Array]] = {"relu": relu, "tanh": np.tanh}
        activation = activations[cnn["activation"]]

        zero_row = np.zeros((1, cnn["embedding"]["dim"]), self.dtype)
        embedding_table = np.concatenate([zero_row, weights["char_embed"]])
        x_LE = embedding_table[ids]

        pooled = []
        for i, (width, _) in enumerate(cnn["filters"]):
            kernel_wEF = weights[f"CNN/W_cnn_{i}"][0]
            starts = range(len(ids) - width + 1)
            windows = [np.tensordot(x_LE[s : s + width], kernel_wEF, axes=2) for s in starts]
            pooled.append(activation(np.max(windows, axis=0) + weights[f"CNN/b_cnn_{i}"]))
        h = np.concatenate(pooled)

        for k in range(cnn.get("n_highway") or 0):
            layer = f"CNN_high_{k}"
            gate = sigmoid(h @ weights[f"{layer}/W_carry"] + weights[f"{layer}/b_carry"])
            transformed = relu(h @ weights[f"{layer}/W_transform"] + weights[f"{layer}/b_transform"])
            h = gate * transformed + (1 - gate) * h

        if len(h) != self.P:
            h = h @ weights["CNN_proj/W_proj"] + weights["CNN_proj/b_proj"]
        return h

    def cell(self, x: Array, cell: Array, hidden: Array, layer: int, direction: int) -> tuple[Array, Array]:
        """One step of one LSTM: (cell ``[C]``, hidden ``[P]``) after the input ``x [P]`` (2.4)."""
        lstm = self.options["lstm"]
        name = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"

        z = np.concatenate([x, hidden]) @ self.weights[f"{name}/W_0"] + self.weights[f"{name}/B"]
        i, j, f, o = np.split(z, 4)
        cell = sigmoid(f + 1) * cell + sigmoid(i) * np.tanh(j)
        if lstm.get("cell_clip"):
            cell = np.clip(cell, -lstm["cell_clip"], lstm["cell_clip"])

        hidden = sigmoid(o) * np.tanh(cell)
        if self.P < self.C:
            hidden = hidden @ self.weights[f"{name}/W_P_0"]
            if lstm.get("proj_clip"):
                hidden = np.clip(hidden, -lstm["proj_clip"], lstm["proj_clip"])
        return cell, hidden

    def stack(self, e_TP: Array, cells: Array, hiddens: Array, direction: int) -> Array:
        """All LSTM layers of one direction over one sentence: the outputs ``[n_layers, T, P]`` (2.5).

        ``e_TP`` and the outputs are in text order in both directions. ``cells [n_layers, C]`` and ``hiddens
        [n_layers, P]`` hold the state before the sentence and, afterwards, the state behind it.
        """
        outputs = []
        y_TP = e_TP if direction == 0 else e_TP[::-1]
        for layer in range(self.n_layers):
            m_TP = np.zeros_like(y_TP)
            for t, x in enumerate(y_TP):
                cells[layer], hiddens[layer] = self.cell(x, cells[layer], hiddens[layer], layer, direction)
                m_TP[t] = hiddens[layer]
            skip = layer > 0 and self.options["lstm"]["use_skip_connections"]
            y_TP = m_TP + y_TP if skip else m_TP
            outputs.append(y_TP if direction == 0 else y_TP[::-1])
        return np.stack(outputs)

    def initial_state(self, rows: int) -> State:
        """The zero state of ``rows`` rows (2.4)."""
        return {
            "cell": np.zeros((rows, self.n_layers, self.D, self.C), self.dtype),
            "hidden": np.zeros((rows, self.n_layers, self.D, self.P), self.dtype),
        }

    def _grown(self, state: State | None, rows: int) -> State:
        """A copy of ``state`` that has at least ``rows`` rows, the new ones zero (2.6)."""
        grown = self.initial_state(max(rows, 0 if state is None else len(state["cell"])))
        if state is not None:
            for part, array in state.items():
                grown[part][: len(array)] = array
        return grown

    def _sentence(self, tokens: list[str], state: State, row: int) -> Array:
        """The activations ``[n_layers + 1, T, D P]`` of one row (2.2, 2.5, 2.7); ``state[..][row]`` is advanced."""
        e_TP = np.stack([self.token_encoding(token) for token in ["<S>", *tokens, "</S>"]])
        states = [(state["cell"][row, :, d], state["hidden"][row, :, d]) for d in range(self.D)]
        directions = [self.stack(e_TP, *states[d], d) for d in range(self.D)]
        token_layer = np.concatenate([e_TP] * self.D, axis=-1)
        return np.concatenate([token_layer[None], np.concatenate(directions, axis=-1)])


def log_softmax(top_TD: Array, W: Array, b: Array) -> tuple[Array, Array]:
    """Log-probabilities ``[T, V]`` of every word, by the forward and by the backward half of the top layer (2.13).

    Row t of the forward ones is about token t + 1, row t of the backward ones about token t - 1. ``top_TD`` is the last
    layer with boundaries, ``W [V, P]`` and ``b [V]`` the full softmax.
    """
    log_probabilities = []
    for half_TP in np.split(top_TD, 2, axis=-1):
        logits_TV = half_TP @ W.T.astype(half_TP.dtype) + b
        logits_TV = logits_TV - logits_TV.max(axis=-1, keepdims=True)
        log_probabilities.append(logits_TV - np.log(np.exp(logits_TV).sum(axis=-1, keepdims=True)))
    return log_probabilities[0], log_probabilities[1]


def score(top_TD: Array, ids: Array, W: Array, b: Array) -> tuple[Array, Array]:
    """Log-probabilities ``[m + 1]`` of a sentence in each direction (2.12, 2.13).

    ``ids [m + 2]`` are the vocabulary ids of ``<S> w1 .. wm </S>``. The forward ones are of ``w1 .. wm </S>`` and the
    backward ones of ``<S> w1 .. wm``, both in text order.
    """
    forward_TV, backward_TV = log_softmax(top_TD, W, b)
    forward = [forward_TV[t - 1, ids[t]] for t in range(1, len(ids))]
    backward = [backward_TV[t + 1, ids[t]] for t in range(len(ids) - 1)]
    return np.array(forward), np.array(backward)


def random_weights(options: dict, rng: np.random.Generator) -> dict[str, Array]:
    """Random float32 datasets of the shapes of 2.9; a model of words has as many as ``n_tokens_vocab`` says.

    The outputs are so large that clips at 3 change them, and the recurrence is so calm that float32 stays near float64.
    """
    lstm = options["lstm"]
    P, C = lstm["projection_dim"], lstm["dim"]

    def normal(*shape: int, scale: float) -> Array:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    weights = {}
    if "char_cnn" not in options:
        weights["embedding"] = normal(options["n_tokens_vocab"], P, scale=1)
    else:
        cnn = options["char_cnn"]
        E, N = cnn["embedding"]["dim"], sum(number for _, number in cnn["filters"])
        weights["char_embed"] = rng.uniform(-1, 1, (261, E)).astype(np.float32)
        for i, (width, number) in enumerate(cnn["filters"]):
            weights[f"CNN/W_cnn_{i}"] = normal(1, width, E, number, scale=(width * E) ** -0.5)
            weights[f"CNN/b_cnn_{i}"] = normal(number, scale=0.1)
        for k in range(cnn.get("n_highway") or 0):
            for gate in ("carry", "transform"):
                weights[f"CNN_high_{k}/W_{gate}"] = normal(N, N, scale=2 * N**-0.5)
                weights[f"CNN_high_{k}/b_{gate}"] = normal(N, scale=0.5)
        if N != P:
            weights["CNN_proj/W_proj"] = normal(N, P, scale=2 * N**-0.5)
            weights["CNN_proj/b_proj"] = normal(P, scale=0.1)
    for direction in range(2 if options.get("bidirectional", True) else 1):
        for layer in range(lstm.get("n_layers", 1)):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            weights[f"{cell}/W_0"] = normal(2 * P, 4 * C, scale=0.3 * P**-0.5)
            weights[f"{cell}/B"] = normal(4 * C, scale=2)
            if P < C:
                weights[f"{cell}/W_P_0"] = normal(C, P, scale=8 * C**-0.5)
    return weights


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that no exponent overflows."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def relu(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)
