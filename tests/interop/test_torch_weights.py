"""Files of PyTorch are read as data: what could run code is refused, and nothing of it runs."""

import io
import zipfile

import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.interop import torch_weights
from elmo_jax.interop.torch_weights import ANY, Weights
from tests.interop import state_dicts


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_tensors_of_any_kind_are_float32_by_name(legacy, tmp_path, torch):
    state = {"a": torch.arange(3), "b.c": torch.ones(2, 3, dtype=torch.float16).t(), "version": 3}
    torch.save(state, tmp_path / "weights.th", _use_new_zipfile_serialization=not legacy)
    arrays = torch_weights.read(tmp_path / "weights.th", "weights.th")
    assert arrays.keys() == {"a", "b.c"}
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(arrays["a"], [0, 1, 2])
    assert arrays["b.c"].shape == (3, 2)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_pickle_with_code_in_it_is_refused_and_does_not_run(legacy, tmp_path, torch):
    state = {"a": torch.zeros(2), "b": Bomb(tmp_path / "ran")}
    torch.save(state, tmp_path / "weights.th", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match="no tensor: loading it could run code, so it is not loaded") as error:
        torch_weights.read(tmp_path / "weights.th", "weights.th")
    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(error.value)


def damaged(file: bytes) -> dict[str, bytes]:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("archive/data.pkl", b"no pickle")
    return {
        "empty": b"",
        "truncated": file[: len(file) // 2],
        "text": b"this is no file of PyTorch",
        "another zip": whole.getvalue(),
        "flipped": file[:100] + bytes([file[100] ^ 0xFF]) + file[101:],
    }


def test_damaged_files_are_one_line(tmp_path, torch):
    state_dicts.write_with_torch(tmp_path / "good", {"a": np.zeros(4, np.float32)})
    for name, content in damaged((tmp_path / "good").read_bytes()).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"^{name} ") as error:
            torch_weights.read(tmp_path / name, name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], 3, {"a": {"b": 1}, 2: 3}], ids=["list", "number", "not by name"])
def test_what_is_no_state_dict(content, tmp_path, torch):
    torch.save(content, tmp_path / "weights.th")
    with pytest.raises(UserError, match="holds no weights by name"):
        torch_weights.read(tmp_path / "weights.th", "weights.th")


def test_pytorch_is_named_when_it_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'elmo-jax\[torch\]'"):
        torch_weights.read(tmp_path / "weights.th", "weights.th")


def test_an_array_has_the_shape_that_the_model_needs():
    weights = Weights({"a.b": np.zeros((2, 3), np.float32), "a.c": np.full(2, np.inf, np.float32)}, "a.", "file")
    assert weights.take("b", ANY, 3).shape == (2, 3)
    for name, shape, message in [
        ("x", (2,), r"file has no a.x \(2,\)"),
        ("b", (2, 4), r"file: a.b is \(2, 3\), the rest of the model needs \(2, 4\)"),
        ("b", (ANY,), r"a.b is \(2, 3\), the rest of the model needs \(any,\)"),
        ("c", (2,), "a.c holds values that are not finite"),
    ]:
        with pytest.raises(UserError, match=message):
            weights.take(name, *shape)


def test_a_zip_file_that_grows_is_refused_before_it_does(tmp_path, torch):
    torch.save({"a": torch.zeros(1 << 22)}, tmp_path / "stored.th")
    with zipfile.ZipFile(tmp_path / "stored.th") as stored, zipfile.ZipFile(tmp_path / "packed.th", "w") as packed:
        for part in stored.infolist():
            packed.writestr(part.filename, stored.read(part), zipfile.ZIP_DEFLATED)
    assert torch.load(tmp_path / "packed.th", weights_only=True)["a"].numel() == 1 << 22  # PyTorch unpacks it
    with pytest.raises(UserError, match=r"packed.th would grow to 16,\d{3},\d{3} bytes: it is no file of weights"):
        torch_weights.read(tmp_path / "packed.th", "packed.th")


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_numbers_that_are_declared_and_not_there_are_refused(legacy, tmp_path, torch):
    one = torch.ones(1)
    for name, state in {
        "repeated": {"a": one.expand(1 << 20, 1 << 20)},
        "often": {f"a{i}": one.expand(1 << 14) for i in range(1 << 9)},
    }.items():
        torch.save(state, tmp_path / f"{name}.th", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UserError, match=f"{name}.th declares more numbers than it holds"):
            torch_weights.read(tmp_path / f"{name}.th", f"{name}.th")
