"""A file that grows in transactions is its last commit, whenever its process ends."""

import os
import shutil

import h5py
import numpy as np
import pytest

from elmo_jax.embed.growing_hdf5 import GrowingHDF5
from elmo_jax.errors import BusyError, UserError
from tests.filesystems import contents, fill, small_disk

ASKED = {"layers": "top"}


def value(i):
    """What dataset i holds."""
    return np.random.default_rng(i).standard_normal((2, 300)).astype(np.float32)


def grow(growing, begin, end):
    """Write datasets, of which every row of one chunked array has a part too."""
    for i in range(begin, end):
        growing.file[f"group {i % 3}/{i}"] = value(i)
        if "array" not in growing.file:
            growing.file.create_dataset("array", (0, 300), np.float32, maxshape=(None, 300), chunks=(7, 300))
        array = growing.file["array"]
        array.resize(2 * (i + 1), axis=0)
        array[2 * i :] = value(i)


def check(file, n):
    """That a file holds the first n datasets and no more."""
    names = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert sorted(names) == sorted([f"group {i % 3}/{i}" for i in range(n)] + ["array"] * bool(n))
    for i in range(n):
        np.testing.assert_array_equal(file[f"group {i % 3}/{i}"][...], value(i))
        np.testing.assert_array_equal(file["array"][2 * i : 2 * i + 2], value(i))


def test_the_complete_file_holds_everything_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "new" / "out.hdf5"
    with GrowingHDF5(path, ASKED) as growing:
        for n in range(0, 40, 8):
            grow(growing, n, n + 8)
            growing.commit({"n": n + 8})
            assert not path.exists()
        growing.complete({"n": 40})
    assert list(contents(tmp_path / "new")) == ["out.hdf5"]
    with h5py.File(path) as file:
        check(file, 40)


def test_any_moment_of_a_kill_leaves_the_last_commit(tmp_path, monkeypatch):
    """What is on disk before every single operation is brought back to a commit, and gone on with."""
    folder, copies = tmp_path / "folder", []
    folder.mkdir()

    def photographed(operation):
        def wrapper(*arguments, **named):
            copies.append(tmp_path / f"copy {len(copies)}")
            shutil.copytree(folder, copies[-1])
            return operation(*arguments, **named)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("pwrite", "replace", "ftruncate", "fsync"):
            patch.setattr(os, name, photographed(getattr(os, name)))
        with GrowingHDF5(folder / "out.hdf5", ASKED) as growing:
            for n in (0, 5, 10):
                grow(growing, n, n + 5)
                growing.commit({"n": n + 5}, {"state": value(n)})
            growing.complete({"n": 15})
    assert len(copies) > 50
    found = []
    for copy in copies[2:]:
        if (copy / "out.hdf5").exists():
            with h5py.File(copy / "out.hdf5") as file:
                check(file, 15)
            continue
        with GrowingHDF5(copy / "out.hdf5", ASKED) as growing:
            n = growing.progress["n"] if growing.progress else 0
            found.append(n)
            check(growing.file, n)
            if growing.arrays:
                np.testing.assert_array_equal(growing.arrays["state"], value(n - 5))
            grow(growing, n, 15)
            growing.complete({"n": 15})
        with h5py.File(copy / "out.hdf5") as file:
            check(file, 15)
        assert list(contents(copy)) == ["out.hdf5"]
    assert sorted(found) == found
    assert set(found) == {0, 5, 10, 15}


def test_without_a_commit_nothing_stays(tmp_path):
    with GrowingHDF5(tmp_path / "out.hdf5", ASKED) as growing:
        grow(growing, 0, 3)
    assert contents(tmp_path) == {}


def begun(path, begin=0, end=5):
    """A file with one more commit."""
    with GrowingHDF5(path, ASKED) as growing:
        grow(growing, begin, end)
        growing.commit({"n": end})


def completed(path, begin, end):
    """A file that is gone on with to its end."""
    with GrowingHDF5(path, ASKED) as growing:
        check(growing.file, begin)
        grow(growing, begin, end)
        growing.complete({"n": end})


def test_another_wish_and_another_process_are_refused(tmp_path):
    path = tmp_path / "out.hdf5"
    begun(path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r'out.hdf5.partial was begun with layers "top", and now it is "all"'):
        GrowingHDF5(path, {"layers": "all"})
    assert contents(tmp_path) == before
    with GrowingHDF5(path, ASKED), pytest.raises(BusyError, match="another process writes"):
        GrowingHDF5(path, ASKED)
    # Whoever removes what was begun begins anew.
    (tmp_path / "out.hdf5.partial").unlink()
    with GrowingHDF5(path, {"layers": "all"}) as growing:
        assert growing.progress is None
        check(growing.file, 0)
    assert contents(tmp_path) == {}


def test_an_output_that_exists_is_replaced_only_when_told_to(tmp_path):
    path = tmp_path / "out.hdf5"
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"out.hdf5 exists already: .*--overwrite"):
        GrowingHDF5(path, ASKED)
    assert contents(tmp_path) == {"out.hdf5": b"mine"}
    with GrowingHDF5(path, ASKED, overwrite=True) as growing:
        grow(growing, 0, 2)
        assert path.read_bytes() == b"mine"
        growing.complete({})
    with h5py.File(path) as file:
        check(file, 2)
    with pytest.raises(UserError, match="is a directory"):
        GrowingHDF5(tmp_path, ASKED, overwrite=True)


def test_damage_is_told(tmp_path):
    path = tmp_path / "out.hdf5"
    begun(path)
    journal = tmp_path / "out.hdf5.journal"
    whole = journal.read_bytes()
    for damaged in (b"", b"x" * 100, whole[: len(whole) // 2]):
        journal.write_bytes(damaged)
        with pytest.raises(UserError, match=r"are damaged .*: remove them to begin anew"):
            GrowingHDF5(path, ASKED)
    journal.write_bytes(whole)
    os.truncate(tmp_path / "out.hdf5.partial", 5000)
    with pytest.raises(UserError, match="shorter than its journal says"):
        GrowingHDF5(path, ASKED)


def test_a_full_disk_costs_what_came_after_the_last_commit(tmp_path):
    with small_disk(tmp_path / "disk", "1m"):
        path = tmp_path / "disk" / "out.hdf5"
        begun(path)
        with pytest.raises(UserError, match=r"cannot write .*out.hdf5: No space left on device; make room or"):
            begun(path, 5, 1000)
        fill(tmp_path / "disk")
        with pytest.raises(UserError, match="No space left"):
            completed(path, 5, 100)
        assert not path.exists()
        (tmp_path / "disk" / "filler").unlink()
        completed(path, 5, 20)
        with h5py.File(path) as file:
            check(file, 20)
