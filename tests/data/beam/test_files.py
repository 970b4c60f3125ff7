"""How files are cut into shards, and what the workers that read them import."""

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from elmo_jax.data.beam.files import BeamFile, shards


@given(st.lists(st.tuples(st.integers(0, 50), st.sampled_from(["", ".gz"]))), st.integers(1, 20))
def test_shards_have_all_bytes_in_order_and_are_about_the_same(sizes, n_bytes):
    files = [BeamFile(f"{i}.txt{suffix}", f"/{i}", size, 0) for i, (size, suffix) in enumerate(sizes)]
    cut = list(shards(files, n_bytes))
    spans = [span for shard in cut for span in shard]
    left = iter(spans)
    for file in files:
        at, is_last = 0, False
        while not is_last:
            span = next(left)
            assert (span.file, span.part.begin) == (file, at)
            assert span.part.end is None or span.part.end - at == n_bytes
            assert file.suffix != ".gz" or span.part.end is None
            at, is_last = span.part.end, span.is_last
        assert at is None
    assert not list(left)
    plain = [[s for s in shard if s.file.suffix != ".gz"] for shard in cut]
    assert all(sum((s.part.end or s.file.n_bytes) - s.part.begin for s in shard) < 2 * n_bytes for shard in plain)


def test_workers_need_numpy_alone():
    """An image for workers is small: Beam aside, packages are imported by the text that needs them."""
    code = "import sys, elmo_jax.data.beam.work; print(*{name.split('.')[0] for name in sys.modules})"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    packages = {"jax", "flax", "orbax", "optax", "tqdm", "uniseg", "sacremoses", "zstandard", "apache_beam", "h5py"}
    assert not set(done.stdout.split()) & packages
