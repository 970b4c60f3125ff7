"""Words a second of the embedder and of a straightforward ELMo in PyTorch that reads the same weights.

    python benchmarks/embed.py TEXT [--sizes small original] [--sentences 2000] [--rounds 5]

TEXT holds one tokenised sentence a line. Weights are random and reach the peer (``peers/torch_embed.py``, which needs
PyTorch) as bilm-tf's files, so both compute the same, which is checked. Both run on CPU in float32, each in its own
process with huge pages for the allocator (Linux with glibc). They are warmed up, then take turns; the one that waits is
blocked on a pipe and does not spin. Our memory of words is emptied before each pass; a second figure has it full. One
JSON line a size.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from turns import ENVIRONMENT, REST_SECONDS, Program

PEER = Path(__file__).parent / "peers" / "torch_embed.py"
# Sentences whose vectors are compared, and how near they must be.
CHECKED, TOLERANCE = 64, 2e-5


def random_model(size: str) -> Any:
    """A model with the weights that training starts from; the cells' are wider, so that gates open and close."""
    import jax

    from elmo_jax.config import LSTM, CharCNN, Config, Model
    from elmo_jax.data.vocab import SPECIALS, Vocabulary
    from elmo_jax.interop.pretrained import Pretrained
    from elmo_jax.model.bilm import smallest_inputs

    models = {
        "small": Model(char_cnn=CharCNN(n_highway=1), lstm=LSTM(dim=1024, projection_dim=128)),
        "original": Model(),
    }
    pretrained = Pretrained(Config(model=models[size]), {}, Vocabulary(SPECIALS), "random weights")
    model = pretrained.model
    params = model.init(jax.random.key(0), *smallest_inputs(model.config), method="everything")["params"]
    params = {
        name: jax.tree.map(lambda x: 2 * x, part) if name.startswith("lstm") else part for name, part in params.items()
    }
    return replace(pretrained, params=jax.device_get(params))


def compare(pretrained: Any, text: Path, n_sentences: int, rounds: int) -> dict[str, Any]:
    """Times of both programs, taken in turn, and the largest difference of vectors."""
    import numpy as np

    from elmo_jax.embed import Embedder
    from elmo_jax.interop import bilm_tf

    with text.open(encoding="utf-8") as lines:
        sentences = [line.split() for line, _ in zip(lines, range(n_sentences), strict=False)]
    with tempfile.TemporaryDirectory() as folder:
        bilm_tf.export(Path(folder) / "model", pretrained.params, pretrained.config, pretrained.words())
        peer = Program([str(PEER), str(Path(folder) / "model"), str(text), str(n_sentences)])
        embedder = Embedder(pretrained)
        saved = Path(folder) / "vectors.npz"
        peer(f"save {CHECKED} {saved}")
        ours = embedder.embed(sentences[:CHECKED])
        with np.load(saved) as file:
            pairs = list(zip(ours, (file[name] for name in file.files), strict=True))
        difference = max(float(abs(a - b).max()) for a, b in pairs if a.size)
        largest = max(float(abs(b).max()) for _, b in pairs if b.size)
        if difference > TOLERANCE:
            raise SystemExit(f"the vectors differ by {difference:.2e}, more than {TOLERANCE}")

        def cold() -> float:
            embedder.clear_cache()
            return seconds(lambda: embedder.embed(sentences))

        programs: dict[str, Callable[[], float]] = {
            "ours": cold,
            "ours_words_known": lambda: seconds(lambda: embedder.embed(sentences)),
            "torch": lambda: float(peer("time")["seconds"]),
        }
        times: dict[str, list[float]] = {name: [] for name in programs}
        for turn in range(rounds + 1):
            for name, program in programs.items():
                time.sleep(REST_SECONDS)
                taken = program()
                if turn:  # the first warms up
                    times[name].append(taken)
        about = peer.about
        peer.close()
    return report(sentences, times) | {"max_difference": difference, "largest_value": largest, **about}


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def report(sentences: list[list[str]], times: dict[str, list[float]]) -> dict[str, Any]:
    """Words a second, and how many times the peer's; the ratio is the median of the rounds'."""
    n_words = sum(map(len, sentences))
    figures: dict[str, Any] = {"sentences": len(sentences), "words": n_words, "rounds": len(times["torch"])}
    for name, values in times.items():
        figures[f"{name}_words_per_second"] = round(n_words / statistics.median(values))
    for name in ("ours", "ours_words_known"):
        ratios = [theirs / mine for mine, theirs in zip(times[name], times["torch"], strict=True)]
        figures[f"{name}_times_torch"] = round(statistics.median(ratios), 2)
    return figures


def main() -> None:
    """Compare at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--sizes", nargs="+", choices=("small", "original"), default=["small", "original"])
    parser.add_argument("--sentences", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if os.environ.get("GLIBC_TUNABLES") != ENVIRONMENT["GLIBC_TUNABLES"]:
        # The allocator reads it when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ENVIRONMENT, "JAX_PLATFORMS": "cpu"})
    for size in options.sizes:
        figures = compare(random_model(size), options.text, options.sentences, options.rounds)
        print(json.dumps({"size": size, "machine": platform.machine(), "cores": os.cpu_count(), **figures}), flush=True)


if __name__ == "__main__":
    main()
