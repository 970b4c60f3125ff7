"""A model of ELMoForManyLangs in plain NumPy, written from ELMO_SPEC 2.14 (with 2.3 to 2.5) and from nothing else.

It computes from the state dicts of the folder in their own layout, in float64, and shares no code with elmo_jax::

    model = NumpyEFML(architecture, token_embedder, encoder, characters, words)
    layers = model(["A", "sentence", "."])                                # [n_layers + 1, 3, 2 P]

``characters`` and ``words`` are the dictionaries, None where the model has none.
"""

import numpy as np

Array = np.ndarray
Dictionary = dict[str, int]


class NumpyEFML:
    """The activations of one sentence at a time, each from the zero state."""

    def __init__(
        self,
        architecture: dict,
        embedder: dict[str, Array],
        encoder: dict[str, Array],
        characters: Dictionary | None,
        words: Dictionary | None,
    ) -> None:
        self.encoder_options, self.options = architecture["encoder"], architecture["token_embedder"]
        self.embedder = {name: np.asarray(array, np.float64) for name, array in embedder.items()}
        self.encoder = {name: np.asarray(array, np.float64) for name, array in encoder.items()}
        self.characters, self.words = characters, words

    def __call__(self, tokens: list[str]) -> Array:
        """All layers of a sentence, without its boundaries: ``[n_layers + 1, tokens, 2 P]``."""
        limit = self.options["max_characters_per_token"] - 2
        sentence = ["<bos>", *(token[:limit] for token in tokens), "<eos>"]
        e_TP = np.stack([self.encode(token) for token in sentence])
        layers = [np.concatenate([e_TP, e_TP], axis=-1)]
        forward_TP, backward_TP = e_TP, e_TP[::-1]
        for layer in range(self.encoder_options["n_layers"]):
            outputs = self.lstm(forward_TP, f"forward_layer_{layer}"), self.lstm(backward_TP, f"backward_layer_{layer}")
            skips = (forward_TP, backward_TP) if layer > 0 else (0, 0)
            forward_TP, backward_TP = outputs[0] + skips[0], outputs[1] + skips[1]
            layers.append(np.concatenate([forward_TP, backward_TP[::-1]], axis=-1))
        return np.stack(layers)[:, 1:-1]

    def encode(self, token: str) -> Array:
        """The encoding of a token, ``[P]``: [word, features] through the projection."""
        parts = []
        if self.words is not None:
            row = self.words[token] if token in self.words else self.words["<oov>"]
            parts.append(self.embedder["word_emb_layer.embedding.weight"][row])
        if self.characters is not None:
            parts.append(self.features(token))
        return self.embedder["projection.weight"] @ np.concatenate(parts) + self.embedder["projection.bias"]

    def features(self, token: str) -> Array:
        """Characters through filters and highway layers."""
        assert self.characters is not None
        inner = [token] if token in ("<bos>", "<eos>") else list(token)
        ids = [self.characters.get(entry, self.characters["<oov>"]) for entry in ["<eow>", *inner, "<bow>"]]
        ids += [self.characters["<pad>"]] * (self.options["max_characters_per_token"] - len(ids))
        x_LE = self.embedder["char_emb_layer.embedding.weight"][ids]
        activation = {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh}[self.options["activation"]]
        pooled = []
        for i, (width, _) in enumerate(self.options["filters"]):
            weight_FEw, bias = self.embedder[f"convolutions.{i}.weight"], self.embedder[f"convolutions.{i}.bias"]
            windows = [x_LE[s : s + width] for s in range(len(ids) - width + 1)]
            responses = [np.einsum("few,we->f", weight_FEw, window) + bias for window in windows]
            pooled.append(activation(np.max(responses, axis=0)))
        h = np.concatenate(pooled)
        for k in range(self.options["n_highway"]):
            both = self.embedder[f"highways._layers.{k}.weight"] @ h + self.embedder[f"highways._layers.{k}.bias"]
            transformed, gate = np.maximum(both[: len(h)], 0), sigmoid(both[len(h) :])
            h = gate * h + (1 - gate) * transformed
        return h

    def lstm(self, x_TP: Array, name: str) -> Array:
        """One layer in one direction, in the order that it reads: ``[T, P]``."""
        weights = {part: self.encoder[f"{name}.{part}"] for part in PARTS}
        cell = np.zeros(weights["state_projection.weight"].shape[1])
        hidden, outputs = np.zeros(x_TP.shape[1]), []
        for x in x_TP:
            z = weights["input_linearity.weight"] @ x + weights["state_linearity.weight"] @ hidden
            i, f, g, o = np.split(z + weights["state_linearity.bias"], 4)
            cell = clip(sigmoid(f) * cell + sigmoid(i) * np.tanh(g), self.encoder_options["cell_clip"])
            hidden = weights["state_projection.weight"] @ (sigmoid(o) * np.tanh(cell))
            hidden = clip(hidden, self.encoder_options["proj_clip"])
            outputs.append(hidden)
        return np.stack(outputs)


PARTS = ("input_linearity.weight", "state_linearity.weight", "state_linearity.bias", "state_projection.weight")


def clip(x: Array, limit: float | None) -> Array:
    """``x`` within ``limit`` of 0."""
    return x if not limit else np.clip(x, -limit, limit)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def random_state_dicts(
    architecture: dict, n_characters: int, n_words: int, rng: np.random.Generator
) -> tuple[dict[str, Array], dict[str, Array]]:
    """``token_embedder.pkl`` and ``encoder.pkl`` with random float32 values, so large that clips at 3 matter."""

    def normal(*shape: int, scale: float) -> Array:
        return (scale * rng.standard_normal(shape)).astype(np.float32)

    options, lstm = architecture["token_embedder"], architecture["encoder"]
    P, C = lstm["projection_dim"], lstm["dim"]
    embedder, width = {}, 0
    if n_words:
        width += options["word_dim"]
        embedder["word_emb_layer.embedding.weight"] = normal(n_words, options["word_dim"], scale=1)
    if n_characters:
        E, N = options["char_dim"], sum(number for _, number in options["filters"])
        width += N
        embedder["char_emb_layer.embedding.weight"] = normal(n_characters, E, scale=1)
        for i, (w, number) in enumerate(options["filters"]):
            embedder[f"convolutions.{i}.weight"] = normal(number, E, w, scale=(w * E) ** -0.5)
            embedder[f"convolutions.{i}.bias"] = normal(number, scale=0.1)
        for k in range(options["n_highway"]):
            embedder[f"highways._layers.{k}.weight"] = normal(2 * N, N, scale=2 * N**-0.5)
            embedder[f"highways._layers.{k}.bias"] = normal(2 * N, scale=0.5)
    embedder["projection.weight"] = normal(P, width, scale=2 * width**-0.5)
    embedder["projection.bias"] = normal(P, scale=0.1)
    encoder = {}
    for direction in ("forward", "backward"):
        for layer in range(lstm["n_layers"]):
            name = f"{direction}_layer_{layer}"
            encoder[f"{name}.input_linearity.weight"] = normal(4 * C, P, scale=0.3 * P**-0.5)
            encoder[f"{name}.state_linearity.weight"] = normal(4 * C, P, scale=0.3 * P**-0.5)
            encoder[f"{name}.state_linearity.bias"] = normal(4 * C, scale=2)
            encoder[f"{name}.state_projection.weight"] = normal(P, C, scale=8 * C**-0.5)
    return embedder, encoder
