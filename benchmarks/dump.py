"""Speed of loading all vectors of a dump: a dataset for every sentence against one array, in JSON lines.

    python benchmarks/dump.py [sentences]

Sentences have lengths as text has them, and all layers of the small model (1024 numbers a word and layer: three layers,
and the top one) and of a third of it. ``lines`` reads every dataset with h5py; ``h5py`` reads the one array and cuts
it with its offsets, as docs/embedding-corpora.md shows; ``mapped`` is ``DumpedVectors``, every sentence of which is
looked at. All are in the page cache; the best of three.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
from timing import seconds

from elmo_jax.embed.dump_array import ArrayLayout, DumpedVectors
from elmo_jax.embed.dump_lines import LineLayout
from elmo_jax.embed.sentences import Sentence


def by_lines(path: Path) -> list[np.ndarray]:
    """Every dataset."""
    with h5py.File(path) as file:
        return [file[str(number)][...] for number in range(len(file))]


def by_h5py(path: Path) -> list[np.ndarray]:
    """The array, cut."""
    with h5py.File(path) as file:
        vectors, offsets = file["vectors"][...], file["offsets"][...]
    return [vectors[begin:end] for begin, end in itertools.pairwise(offsets)]


def by_mapping(path: Path) -> list[np.ndarray]:
    """The array, mapped; a number of each 4096-byte page of every sentence is read."""
    found = list(DumpedVectors(path))
    for vectors in found:
        vectors[..., ::1024].sum()
    return found


def main() -> None:
    """Measure sizes of vectors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", type=int, nargs="?", default=4000)
    n_sentences = parser.parse_args().sentences
    lengths = np.random.default_rng(0).poisson(22, n_sentences) + 1
    for n_layers, width in ((3, 1024), (1, 1024), (3, 256), (1, 256)):
        with tempfile.TemporaryDirectory() as name:
            lines, array = Path(name, "lines.hdf5"), Path(name, "array.hdf5")
            shape = (n_layers,) if n_layers > 1 else ()
            with h5py.File(lines, "w") as one, h5py.File(array, "w") as two:
                empty = np.zeros((*shape, 0, width), np.float32)
                layouts = (
                    LineLayout(one, "float32", None, keys="lines", index=False),
                    ArrayLayout(two, "float32", None, empty=empty, pooled=False, within_lines=False),
                )
                for number, length in enumerate(lengths):
                    vectors = np.full((*shape, length, width), number, np.float32)
                    for layout in layouts:
                        layout.write(Sentence(number, None, [], ""), vectors)
                layouts[1].finish()
            taken = {
                "lines": seconds(lambda path=lines: by_lines(path)),
                "h5py": seconds(lambda path=array: by_h5py(path)),
                "mapped": seconds(lambda path=array: by_mapping(path)),
            }
        ratios = {f"{how}_ratio": round(taken["lines"] / taken[how], 1) for how in ("h5py", "mapped")}
        found = {"layers": n_layers, "width": width, "sentences": n_sentences}
        found["megabytes"] = round(int(lengths.sum()) * n_layers * width * 4 / 1e6)
        print(json.dumps({**found, **{how: round(value, 4) for how, value in taken.items()}, **ratios}), flush=True)


if __name__ == "__main__":
    main()
