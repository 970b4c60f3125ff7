"""Downloads: whole, resumed and checked, and never glued of two files."""

import hashlib
import json

import numpy as np
import pytest

from elmo_jax.errors import UserError
from elmo_jax.interop import download as module
from elmo_jax.interop.download import download
from tests.interop.server import serve

CONTENT = np.random.default_rng(0).bytes(3_000_000)
OTHER = np.random.default_rng(1).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with serve() as running:
        running.files["/w"] = CONTENT
        yield running


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.hdf5"


def ranges(server):
    return [wanted for _, wanted in server.asked]


def test_a_whole_file(server, file):
    assert download(f"{server.address}/w", file, size=len(CONTENT), sha256=SHA256) == SHA256
    assert file.read_bytes() == CONTENT
    assert list(file.parent.iterdir()) == [file]


def test_a_cut_connection_is_gone_on_with(server, file):
    server.cuts = [1_000_000, 500_000]
    assert download(f"{server.address}/w", file) == SHA256
    assert ranges(server) == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_later_call_goes_on_with_what_is_there(server, file):
    server.cuts = [1_000_000, *[0] * module.ATTEMPTS]
    with pytest.raises(
        UserError, match=r"is cut again and again .* 1,000,000 bytes are kept: the same command goes on"
    ):
        download(f"{server.address}/w", file)
    assert not file.exists()
    assert download(f"{server.address}/w", file) == SHA256
    assert ranges(server)[-1] == "bytes=1000000-"
    assert list(file.parent.iterdir()) == [file]


def test_a_part_that_is_complete_is_only_checked(server, file):
    server.cuts = [1_000_000, *[0] * module.ATTEMPTS]
    with pytest.raises(UserError):
        download(f"{server.address}/w", file)
    file.with_name("weights.hdf5.part").write_bytes(CONTENT)
    assert download(f"{server.address}/w", file, sha256=SHA256) == SHA256
    assert file.read_bytes() == CONTENT


def test_parts_of_two_files_are_never_glued(server, file):
    server.cuts = [1_000_000, *[0] * module.ATTEMPTS]
    with pytest.raises(UserError):
        download(f"{server.address}/w", file)
    server.files["/w"] = OTHER
    download(f"{server.address}/w", file)
    assert file.read_bytes() == OTHER


def test_a_file_that_became_shorter_begins_anew(server, file):
    server.cuts = [1_000_000, *[0] * module.ATTEMPTS]
    with pytest.raises(UserError):
        download(f"{server.address}/w", file)
    told = file.with_name("weights.hdf5.part.json")
    server.files["/w"] = OTHER[:500_000]
    # A server that looks at the range before the version answers 416.
    told.write_text(json.dumps({**json.loads(told.read_text()), "validator": f'"{hash(OTHER[:500_000])}"'}))
    download(f"{server.address}/w", file)
    assert file.read_bytes() == OTHER[:500_000]


@pytest.mark.parametrize("habit", ["ranges", "versions"])
def test_a_server_without_ranges_or_versions_gives_it_all_again(habit, server, file):
    setattr(server, habit, False)
    server.cuts = [1_000_000]
    assert download(f"{server.address}/w", file) == SHA256
    assert file.read_bytes() == CONTENT


def test_another_address_does_not_go_on_with_it(server, file):
    server.files["/v"] = OTHER
    server.cuts = [1_000_000, *[0] * module.ATTEMPTS]
    with pytest.raises(UserError):
        download(f"{server.address}/w", file)
    download(f"{server.address}/v", file)
    assert file.read_bytes() == OTHER


def test_a_wrong_checksum_is_not_kept(server, file):
    with pytest.raises(UserError, match=f"has the sha256 {SHA256}, and the published file {'0' * 64}"):
        download(f"{server.address}/w", file, sha256="0" * 64)
    assert list(file.parent.iterdir()) == []


def test_a_wrong_size_is_not_fetched(server, file):
    with pytest.raises(UserError, match="has 3,000,000 bytes, and the published file 5: it is not that file"):
        download(f"{server.address}/w", file, size=5)
    assert list(file.parent.iterdir()) == []


def test_a_file_that_is_not_there(server, file):
    with pytest.raises(UserError, match=r"/none answers 404 Not Found; find the file elsewhere"):
        download(f"{server.address}/none", file)
    assert ranges(server) == [None]


def test_a_server_in_trouble_is_tried_again(server, file):
    server.status = 503
    with pytest.raises(UserError, match="it answers 503 Service Unavailable"):
        download(f"{server.address}/w", file)
    assert len(server.asked) == module.ATTEMPTS


def test_without_a_network_the_address_is_named(file, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(UserError, match=r"cannot reach http://127.0.0.1:9/w \(.*\); without a network fetch it"):
        download("http://127.0.0.1:9/w", file)


def test_only_the_web(tmp_path, file):
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(UserError, match="must begin with https://"):
        download(f"file://{tmp_path}/secret", file)
