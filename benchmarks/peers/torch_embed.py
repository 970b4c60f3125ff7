"""A straightforward ELMo in PyTorch that reads bilm-tf's files: what ``benchmarks/embed.py`` compares with.

    python benchmarks/peers/torch_embed.py MODEL_DIR TEXT N_SENTENCES

It takes sentences in the given order, 32 at a time, encodes every token of a batch, padding left out, and runs each
LSTM as a loop over time steps with the products of the inputs taken ahead. It answers lines on its standard input:
``time`` with the seconds of a pass over all sentences, ``save N FILE`` with the vectors of the first N in a file.
"""

import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch.nn import functional

BATCH = 32
BYTES, WIDTH = 48, 50


class TorchElmo:
    """All layers of a bidirectional character model, weights as in the files."""

    def __init__(self, folder: Path) -> None:
        self.options = json.loads((folder / "options.json").read_text(encoding="utf-8"))
        with h5py.File(folder / "weights.hdf5") as file:

            def read(name: str) -> torch.Tensor:
                return torch.from_numpy(file[name][...]).contiguous()

            cnn, lstm = self.options["char_cnn"], self.options["lstm"]
            self.n_layers, p = lstm["n_layers"], lstm["projection_dim"]
            # The row of the padding of a batch is not used.
            self.characters = read("char_embed")
            # [1, width, E, filters] -> [filters, E, width]
            self.filters = [
                (read(f"CNN/W_cnn_{i}")[0].permute(2, 1, 0).contiguous(), read(f"CNN/b_cnn_{i}"))
                for i in range(len(cnn["filters"]))
            ]
            self.highways = [
                [read(f"CNN_high_{k}/{name}") for name in ("W_carry", "b_carry", "W_transform", "b_transform")]
                for k in range(cnn["n_highway"])
            ]
            self.projection = [read("CNN_proj/W_proj"), read("CNN_proj/b_proj")]
            self.cells = {}
            for d in range(2):
                for layer in range(self.n_layers):
                    name = f"RNN_{d}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
                    kernel, bias = read(f"{name}/W_0"), read(f"{name}/B")
                    bias.view(4, -1)[2] += 1
                    split = kernel[:p].contiguous(), kernel[p:].contiguous()
                    self.cells[d, layer] = (*split, bias, read(f"{name}/W_P_0"))
        self.spellings: dict[str, np.ndarray] = {}

    def embed(self, sentences: list[list[str]]) -> list[np.ndarray]:
        """``[n_layers + 1, tokens, 2 P]`` of each sentence."""
        results: list[np.ndarray] = []
        with torch.no_grad():
            for begin in range(0, len(sentences), BATCH):
                results += self.batch(sentences[begin : begin + BATCH])
        return results

    def batch(self, sentences: list[list[str]]) -> list[np.ndarray]:
        """The same for one batch."""
        rows = [["<S>", *sentence, "</S>"] for sentence in sentences]
        lengths = torch.tensor([len(row) for row in rows])
        steps = torch.arange(int(lengths.max()))[:, None]
        mask_TB = steps < lengths
        ids = torch.from_numpy(np.stack([self.spelling(token) for row in rows for token in row]))
        encodings_BTP = torch.zeros(*mask_TB.T.shape, self.projection[1].shape[0])
        encodings_BTP[mask_TB.T] = self.encode(ids)
        x_TBP = encodings_BTP.transpose(0, 1).contiguous()
        # Within its length every row is turned round; padding stays at the end.
        turned_TB = torch.where(mask_TB, lengths - 1 - steps, steps)[..., None].expand_as(x_TBP)
        forward = [x_TBP, *self.direction(0, x_TBP)]
        backward = [x_TBP, *(y.gather(0, turned_TB) for y in self.direction(1, x_TBP.gather(0, turned_TB)))]
        layers = torch.stack([torch.cat(both, dim=-1) for both in zip(forward, backward, strict=True)])
        return [layers[:, 1 : len(row) - 1, b].numpy() for b, row in enumerate(rows)]

    def spelling(self, token: str) -> np.ndarray:
        """Character ids of a token."""
        if token not in self.spellings:
            boundary = {"<S>": [256], "</S>": [257]}.get(token)
            marked = [258, *(boundary or token.encode("utf-8", "ignore")[:BYTES]), 259]
            self.spellings[token] = np.array(marked + [260] * (WIDTH - len(marked)))
        return self.spellings[token]

    def encode(self, ids: torch.Tensor) -> torch.Tensor:
        """Token encodings ``[N, P]`` of character ids ``[N, 50]``."""
        x = functional.embedding(ids, self.characters).transpose(1, 2).contiguous()
        h = torch.cat([functional.conv1d(x, w, b).amax(dim=-1) for w, b in self.filters], dim=-1).relu_()
        for carry, carry_bias, transform, transform_bias in self.highways:
            gate = torch.addmm(carry_bias, h, carry).sigmoid_()
            h = torch.lerp(h, torch.addmm(transform_bias, h, transform).relu_(), gate)
        return torch.addmm(self.projection[1], h, self.projection[0])

    def direction(self, d: int, x_TBP: torch.Tensor) -> list[torch.Tensor]:
        """The outputs of every LSTM layer of a direction, in its reading order."""
        layers = []
        for layer in range(self.n_layers):
            y_TBP = self.lstm(x_TBP, *self.cells[d, layer])
            x_TBP = y_TBP + x_TBP if layer and self.options["lstm"]["use_skip_connections"] else y_TBP
            layers.append(x_TBP)
        return layers

    def lstm(
        self, x_TBP: torch.Tensor, inputs: torch.Tensor, recurrent: torch.Tensor, bias: torch.Tensor, out: torch.Tensor
    ) -> torch.Tensor:
        """One LSTM with projection and clips. What it reads behind the end of a row comes after all that is used."""
        cell_clip, proj_clip = self.options["lstm"]["cell_clip"], self.options["lstm"]["proj_clip"]
        steps, rows, p = x_TBP.shape
        z_TBG = torch.addmm(bias, x_TBP.view(-1, p), inputs).view(steps, rows, -1)
        cell, hidden = torch.zeros(rows, out.shape[0]), torch.zeros(rows, p)
        y_TBP = torch.empty_like(x_TBP)
        for t in range(steps):
            i, j, f, o = torch.addmm(z_TBG[t], hidden, recurrent).chunk(4, dim=1)
            cell = (f.sigmoid() * cell).addcmul_(i.sigmoid(), j.tanh()).clamp_(-cell_clip, cell_clip)
            hidden = ((o.sigmoid() * cell.tanh()) @ out).clamp_(-proj_clip, proj_clip)
            y_TBP[t] = hidden
        return y_TBP


def main() -> None:
    """Answer the lines of standard input."""
    folder, text, n_sentences = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with text.open(encoding="utf-8") as lines:
        sentences = [line.split() for line, _ in zip(lines, range(n_sentences), strict=False)]
    elmo = TorchElmo(folder)
    print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        match line.split():
            case ["save", n, file]:
                np.savez(file, *elmo.embed(sentences[: int(n)]))
                print("{}", flush=True)
            case ["time"]:
                begin = time.perf_counter()
                elmo.embed(sentences)
                print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


if __name__ == "__main__":
    main()
