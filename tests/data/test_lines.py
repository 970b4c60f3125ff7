"""Parts of a file: each line is in the part that it begins in, wherever the file is cut."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elmo_jax.data import lines as lines_module
from elmo_jax.data.lines import Part, blocks, lines_before
from elmo_jax.errors import UserError


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["\n", "a\n", "bab\r\n", "\ufeff", "ba"]), max_size=12).map("".join),
    st.lists(st.integers(0, 59), max_size=6),
    st.integers(1, 9),
)
def test_the_parts_of_a_file_have_each_line_once(tmp_path_factory, text, cuts, block):
    data = text.encode()
    path = tmp_path_factory.getbasetemp() / "cut.txt"
    path.write_bytes(data)
    edges = [0, *sorted({1 + cut % (len(data) + 2) for cut in cuts}), None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "BLOCK_BYTES", block)
        for begin, end in pairwise(edges):
            part = Part(begin, end, line=1 + lines_before(path, begin))
            found = list(blocks(path, lambda n_bytes: None, part))
            # By definition, one line at a time.
            starts = [0, *(i + 1 for i, byte in enumerate(data) if byte == 10)]
            mine = [i for i in starts if begin <= i < (len(data) + 1 if end is None else end)]
            expected = b"".join(data[i : data.find(b"\n", i) + 1 or None] for i in mine)
            assert b"".join(each.data for each in found) == expected
            for each in found:
                assert data.startswith(each.data, each.offset)
                assert each.line == 1 + data.count(b"\n", 0, each.offset)


def test_a_line_that_is_too_long_is_told_by_the_part_it_begins_in(tmp_path, monkeypatch):
    path = tmp_path / "long.txt"
    path.write_bytes(b"short\n" + b"long" * 100 + b"\nshort\n")
    monkeypatch.setattr(lines_module, "BLOCK_BYTES", 16)
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 64)
    with pytest.raises(UserError, match=r"long\.txt:2: the line is longer than 64 bytes"):
        list(blocks(path, lambda n_bytes: None, Part(6, 20, line=2)))
    assert list(blocks(path, lambda n_bytes: None, Part(20, 200, line=3))) == []
    (last,) = blocks(path, lambda n_bytes: None, Part(200, None, line=3))
    assert last.data == b"short\n"


def test_a_file_that_does_not_exist_is_told():
    with pytest.raises(UserError, match=r"cannot read nowhere\.txt: No such file"):
        list(blocks(Path("nowhere.txt"), lambda n_bytes: None))
