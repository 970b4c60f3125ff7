"""Text, and a pipeline that is compared with plain encoding."""

from collections.abc import Callable
from pathlib import Path

import pytest

from elmo_jax.data.beam import corpus as by_beam
from elmo_jax.data.corpus import prepare
from elmo_jax.data.segmentation import Segmentation
from elmo_jax.data.text import TOKENIZED_LINES, text_source
from tests.data.beam import odd_text

Files = dict[str, bytes]
IN_THIS_PROCESS = "--direct_running_mode=in_memory --direct_num_workers=1"


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Globs of shards with everything odd about them."""
    return odd_text.write(tmp_path / "odd text")


@pytest.fixture
def encoded_twice(tmp_path: Path) -> Callable[..., tuple[Files, Files]]:
    """The files of a corpus as encoded without Beam and by a pipeline."""

    def encode(
        globs: str, segmentation: Segmentation = TOKENIZED_LINES, flags: str = IN_THIS_PROCESS, shard_bytes: int = 512
    ) -> tuple[Files, Files]:
        plain = prepare(text_source(globs, segmentation), tmp_path / "plain", progress=False)
        piped = by_beam.prepare(globs, segmentation, tmp_path / "piped", flags, shard_bytes=shard_bytes)
        assert plain.directory.name == piped.directory.name  # where training looks for it
        plain_files, piped_files = (
            {path.name: path.read_bytes() for path in corpus.directory.iterdir()} for corpus in (plain, piped)
        )
        assert list((tmp_path / "piped").iterdir()) == [piped.directory]  # no part is left over
        return plain_files, piped_files

    return encode
