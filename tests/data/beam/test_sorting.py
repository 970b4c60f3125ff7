"""Types are sorted as sorting them all at once would, and tokens find their numbers among them."""

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elmo_jax.data.beam import sorting
from elmo_jax.data.beam.files import WorkFolder, local_copy

pytest.importorskip("apache_beam", reason="Apache Beam is absent: pip install 'elmo-jax[beam]'")

TOKENS = st.dictionaries(st.text("aé日\x7f\u0100\U0001d11e", min_size=1, max_size=9), st.integers(1, 9), min_size=1)


@settings(max_examples=50, deadline=None)
@given(TOKENS, st.randoms(use_true_random=False))
def test_types_are_in_order_and_tokens_find_them(tmp_path_factory, counts, rng):
    counted = [(token.encode(), n) for token, n in counts.items()]
    rng.shuffle(counted)
    grouped: dict[bytes, list[tuple[bytes, int]]] = {}
    for key, value in map(sorting.block_key, counted):
        grouped.setdefault(key, []).append(value)
    blocks = [sorting.sort_types(block) for block in grouped.items()]
    random.Random(rng.random()).shuffle(blocks)
    types = sorting.write_types(None, blocks, WorkFolder(str(tmp_path_factory.mktemp("types"))))
    data = local_copy(types.bytes).read_bytes()
    offsets = np.fromfile(types.offsets, np.int64)
    expected = sorted((token.encode() for token in counts), key=lambda token: (len(token), token))
    assert [data[a:b] for a, b in pairwise(offsets)] == [b"<S>", b"</S>", *expected]
    assert np.fromfile(types.counts, np.int64).tolist() == [counts[token.decode()] for token in expected]
    tokens = [token for token, _ in counted]
    sizes = np.array([len(token) for token in tokens])
    ids = sorting.type_ids(b"".join(tokens), sizes, types)
    assert ids.tolist() == [2 + expected.index(token) for token in tokens]


def test_a_token_that_is_no_type_is_never_taken_for_one(tmp_path):
    blocks = [sorting.sort_types((b"", [(b"ab", 1), (b"cd", 1)]))]
    types = sorting.write_types(None, blocks, WorkFolder(str(tmp_path)))
    for missing in (b"aa", b"ac", b"zz"):
        with pytest.raises(RuntimeError, match="lacks types of the text"):
            sorting.type_ids(missing, np.array([2]), types)
