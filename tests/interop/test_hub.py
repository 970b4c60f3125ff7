"""Models of the hub: which names mean it, which files are fetched, and what is said when they cannot be."""

import sys
from pathlib import Path

import pytest

import elmo_jax
from elmo_jax.embed.embedder import Embedder
from elmo_jax.errors import UserError
from elmo_jax.interop import hub
from tests.interop.models import leaves, make

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory with one folder, ``runs``."""
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def served(elsewhere, monkeypatch):
    """A hub with one model; gives what was asked of it."""
    make().save_pretrained(elsewhere / "hub" / "elmo")
    asked = []

    def snapshot_download(repo, revision, allow_patterns):
        asked.append((repo, revision, tuple(allow_patterns)))
        return str(elsewhere / "hub" / repo.split("/")[1])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("org/elmo", ("org/elmo", None)),
        ("org/elmo@v1.0", ("org/elmo", "v1.0")),
        ("Org-1/e_l.mo@refs/pr/3", ("Org-1/e_l.mo", "refs/pr/3")),
        ("hf://runs/elmo", ("runs/elmo", None)),
        # A path, and one that was misspelt.
        ("runs", None),
        ("runs/elmo", None),
        ("elmo", None),
        ("/org/elmo", None),
        ("./runs/x", None),
        ("../org/elmo", None),
        ("org/elmo/model.safetensors", None),
        ("org/elmo@", None),
        ("org/-elmo", None),
        ("org/elm\u00f6", None),
        ("or g/elmo", None),
    ],
)
def test_which_names_mean_the_hub(name, means, elsewhere):
    assert hub.repository(Path(name)) == means


def test_a_name_on_the_hub_is_a_model(served, elsewhere):
    found = elmo_jax.from_pretrained("org/elmo@v2")
    assert found.origin == "org/elmo@v2"
    assert {p: leaf.tobytes() for p, leaf in leaves(found).items()} == {
        p: leaf.tobytes() for p, leaf in leaves(make()).items()
    }
    [(repo, revision, patterns)] = served
    assert (repo, revision) == ("org/elmo", "v2")
    written = {path.name for path in (elsewhere / "hub" / "elmo").iterdir()}
    assert written <= set(patterns)
    # Nothing that can hold code, and no files of other formats.
    assert not [pattern for pattern in patterns if pattern.startswith("*") or pattern.endswith((".bin", ".py", ".pt"))]


def test_the_embedder_takes_names_too(served):
    [vectors] = Embedder.from_pretrained("org/elmo").embed([["a", "word"]])
    assert vectors.shape == (3, 2, 12)


def test_a_path_that_exists_is_taken_first(served, elsewhere):
    make(seed=1).save_pretrained("org/elmo")
    assert elmo_jax.from_pretrained("org/elmo").origin == "org/elmo"
    assert not served
    elmo_jax.from_pretrained("hf://org/elmo")
    assert served


def test_files_of_bilm_tf_are_fetched_where_there_are_none_of_ours(served, elsewhere):
    folder = elsewhere / "hub" / "old"
    folder.mkdir()
    (folder / "elmo_weights.hdf5").write_bytes(b"")
    assert hub.fetch("org/old") == folder
    assert [patterns for *_, patterns in served][1] == hub.BILM_TF_FILES


def test_a_name_without_an_elmo(served, elsewhere):
    (elsewhere / "hub" / "bert").mkdir()
    with pytest.raises(UserError, match=r"org/bert on the hub has neither a model\.safetensors nor bilm-tf's weights"):
        elmo_jax.from_pretrained("org/bert")


def response(status):
    """An answer of a server, of whatever library the hub's client uses."""
    from huggingface_hub import errors

    request = type("Request", (), {"method": "GET", "url": "https://huggingface.co/api/models/org/elmo"})()
    answer = type("Response", (), {"status_code": status, "headers": {}, "request": request})()
    return errors, answer


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (lambda e, r: e.GatedRepoError("gated", response=r), "wants its terms to be accepted"),
        (lambda e, r: e.RepositoryNotFoundError("404", response=r), "no path org/elmo here, and no such model on Hugg"),
        (lambda e, r: e.RevisionNotFoundError("404", response=r), "org/elmo on the hub has no revision 'v9'"),
        (lambda e, r: e.LocalEntryNotFoundError("offline"), "the hub cannot be reached, and its cache does not have"),
        (lambda e, r: e.HfHubHTTPError("503\nbusy", response=r), "cannot fetch org/elmo@v9 from the hub: 503 busy"),
        (lambda e, r: OSError(28, "No space left on device"), "cannot fetch org/elmo@v9 .*No space left on device"),
    ],
)
def test_what_goes_wrong_is_one_line_with_the_name(error, message, elsewhere, monkeypatch):
    def snapshot_download(*_, **__):
        raise error(*response(404))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match=message) as refused:
        elmo_jax.from_pretrained("org/elmo@v9")
    assert "\n" not in str(refused.value)


def test_without_the_package_the_error_says_how_to_get_it(elsewhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"org/elmo is no path here, .*pip install 'elmo-jax\[hub\]'"):
        elmo_jax.from_pretrained("org/elmo")


def test_offline_the_cache_is_read(elsewhere, monkeypatch):
    """With the real client, and a cache as it leaves it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(elsewhere / "cache"))
    with pytest.raises(
        UserError, match="no path org/elmo here, the hub cannot be reached, and its cache does not have"
    ):
        elmo_jax.from_pretrained("org/elmo")
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = elsewhere / "cache" / "models--org--elmo"
    make().save_pretrained(repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    assert leaves(elmo_jax.from_pretrained("org/elmo")).keys() == leaves(make()).keys()
