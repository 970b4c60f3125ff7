"""Published models: the table is sound, and fetching one makes a directory that is complete and says what is in it."""

import fcntl
import hashlib
import io
import os
import urllib.parse
import zipfile

import pytest

from elmo_jax.cli import main
from elmo_jax.errors import BusyError, UserError
from elmo_jax.interop import download
from elmo_jax.interop.fetch import fetch
from elmo_jax.interop.published import MODELS, find
from tests.interop.server import serve


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


FINNISH = {"char.dic": b"a\t0\n", "fi.model/encoder.pkl": b"weights", "../evil": b"harmless here"}


@pytest.fixture
def server(monkeypatch):
    """A mirror of all published models."""
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with serve() as running:
        for model in MODELS:
            for file in model.files:
                path = urllib.parse.urlsplit(file.address).path
                size = file.size or 10
                running.files[path] = zipped(FINNISH) if model.is_archive else path.encode()[-1:] * min(size, 400)
        yield running


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the table


def test_names_addresses_and_numbers_of_the_table():
    assert len({model.name for model in MODELS}) == len(MODELS)
    files = [file for model in MODELS for file in model.files]
    vocabularies = [file for file in files if file.name == "vocab.txt"]
    assert len({file.address for file in files}) == len(files) - len(vocabularies) + 2  # three models share one
    assert len([model for model in MODELS if model.kind == "ELMoForManyLangs"]) == 44
    assert find("efml-arabic").files[0].address.endswith("/136.zip")
    assert find("efml-norwegian-bokmal").files[0].address.endswith("/165.zip")
    assert find("efml-chinese").files[0].address.endswith("/179.zip")


# --- fetching


def test_a_model_is_a_directory_with_its_checksums(server, tmp_path):
    sums = fetch(find("small"), tmp_path / "small", mirror=server.address)
    assert {item.name for item in (tmp_path / "small").iterdir()} == {"options.json", "weights.hdf5", "SHA256SUMS"}
    assert len(sums) == 2
    lines = (tmp_path / "small" / "SHA256SUMS").read_text().splitlines()
    for name in ("options.json", "weights.hdf5"):
        assert f"{sha256((tmp_path / 'small' / name).read_bytes())}  {name}" in lines
    assert [line for line in lines if line.startswith("# ")] == [f"# {sha}  {address}" for address, sha in sums.items()]
    assert list(tmp_path.iterdir()) == [tmp_path / "small"]


def test_softmax_and_vocabulary_on_request(server, tmp_path):
    model = find("original-5.5b")
    fetch(model, tmp_path / "m", language_model=True, mirror=f"{server.address}/")
    assert {item.name for item in (tmp_path / "m").iterdir()} == {*(file.name for file in model.files), "SHA256SUMS"}


def test_an_interrupted_fetch_goes_on_file_by_file(server, tmp_path):
    weights = urllib.parse.urlsplit(find("german").files[1].address).path
    content = server.files.pop(weights)
    with pytest.raises(UserError, match="404"):
        fetch(find("german"), tmp_path / "de", mirror=server.address)
    assert not (tmp_path / "de").exists()
    server.files[weights] = content
    server.asked.clear()
    assert len(fetch(find("german"), tmp_path / "de", mirror=server.address)) == 2
    assert [path for path, _ in server.asked] == [weights]
    assert list(tmp_path.iterdir()) == [tmp_path / "de"]


def test_an_archive_is_unpacked_flat_and_leads_nowhere(server, tmp_path):
    fetch(find("efml-finnish"), tmp_path / "in" / "fi", mirror=server.address)
    found = {item.name: item.read_bytes() for item in (tmp_path / "in" / "fi").iterdir() if item.name != "SHA256SUMS"}
    assert found == {"char.dic": b"a\t0\n", "encoder.pkl": b"weights", "evil": b"harmless here"}
    assert list(tmp_path.iterdir()) == [tmp_path / "in"]
    assert list((tmp_path / "in").iterdir()) == [tmp_path / "in" / "fi"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>moved</html>", "cannot unpack the archive that was fetched: File is not a zip file"),
        (zipped({"a": b"1"})[:-10], "cannot unpack the archive that was fetched: File is not a zip file"),
        (zipped({"a/x": b"1", "b/x": b"2"}), "the archive that was fetched has two files x"),
        (zipped({"zeros": bytes(1 << 25)}), "the archive that was fetched would grow to 33,554,432 bytes"),
    ],
    ids=["a page", "truncated", "a name twice", "a bomb"],
)
def test_archives_that_are_none(content, message, server, tmp_path):
    server.files["/repository/11/149.zip"] = content
    with pytest.raises(UserError, match=message):
        fetch(find("efml-finnish"), tmp_path / "fi", mirror=server.address)
    assert not (tmp_path / "fi").exists()


def test_nothing_is_replaced(server, tmp_path):
    (tmp_path / "small").mkdir()
    with pytest.raises(UserError, match="small exists, and nothing is replaced"):
        fetch(find("small"), tmp_path / "small", mirror=server.address)
    assert server.asked == []


def test_one_process_at_a_time(server, tmp_path):
    (tmp_path / ".small.partial").mkdir()
    descriptor = os.open(tmp_path / ".small.partial", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process fetches"):
            fetch(find("small"), tmp_path / "small", mirror=server.address)
    finally:
        os.close(descriptor)


def test_where_nothing_came_nothing_stays(tmp_path):
    with pytest.raises(UserError, match="cannot reach"):
        fetch(find("small"), tmp_path / "small", mirror="http://127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


# --- the command


def elmo(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    return int(str(stop.value.code))


def test_the_command_lists_shows_and_fetches(server, tmp_path, capsys, monkeypatch):
    assert elmo("models") == 0
    listed = capsys.readouterr().out
    assert all(any(line.startswith(model.name + " ") for line in listed.splitlines()) for model in MODELS)
    assert elmo("models", "show", "original") == 0
    shown = capsys.readouterr().out
    assert all(file.address in shown for file in find("original").files)
    assert "size 374,434,792 bytes, sha256 unknown" in shown
    monkeypatch.setenv("ELMO_MODELS_MIRROR", server.address)
    assert elmo("models", "fetch", "efml-finnish", str(tmp_path / "fi")) == 0
    told = capsys.readouterr().out
    assert sha256(zipped(FINNISH)) in told
    assert "Nobody published what the sha256 should be" in told
    assert f"Next: elmo import {tmp_path / 'fi'} DIR" in told


def test_mistakes_of_the_command(capsys):
    assert elmo("models", "fetch", "smal") == 2
    assert "no published model 'smal': did you mean 'small'?" in capsys.readouterr().err
    assert elmo("models", "fetc") == 2
