"""Models on Hugging Face's hub: only the files of a model are fetched, once, into the hub's own cache."""

import re
from pathlib import Path

from elmo_jax.errors import UserError
from elmo_jax.interop import pretrained_directory

# "organisation/name" or "organisation/name@revision"; with "hf://" before it, no path is looked for.
_PART = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?"
_ID = re.compile(rf"(?P<hub>hf:/{{1,2}})?(?P<repo>{_PART}/{_PART})(?:@(?P<revision>[\w.][\w./-]*))?", re.ASCII)

# Of bilm-tf, under the names that they are published with.
BILM_TF_FILES = ("*.hdf5", "*options*.json", "vocab*")


def repository(model: Path) -> tuple[str, str | None] | None:
    """The id and revision on the hub that ``model`` means, or None when it means a path.

    A path that exists is a path, and so is one in a folder that exists: a misspelt name of one's own is not looked for
    among those of strangers. ``hf://organisation/name`` always means the hub.
    """
    found = _ID.fullmatch(str(model))
    if found is None or (found["hub"] is None and (model.exists() or Path(model.parts[0]).exists())):
        return None
    return found["repo"], found["revision"]


def fetch(repo: str, revision: str | None = None) -> Path:
    """The folder, in the hub's cache, with the files of a model; without a network what was fetched before.

    Raises:
        UserError: when huggingface_hub is missing, and when the hub has no such model, or no files of one, or cannot be
            reached and the cache has none.
    """
    folder = _snapshot(repo, revision, sorted(pretrained_directory.FILES))
    if not pretrained_directory.recognises(folder):
        folder = _snapshot(repo, revision, list(BILM_TF_FILES))
        if not any(folder.glob("*.hdf5")):
            raise UserError(
                f"{_shown(repo, revision)} on the hub has neither a model.safetensors nor bilm-tf's weights: it is no "
                "ELMo that elmo_jax reads"
            )
    return folder


def _snapshot(repo: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise UserError(
            f"{_shown(repo, revision)} is no path here, and to look for it on Hugging Face's hub takes huggingface_hub "
            f"({error}): check the path, or pip install 'elmo-jax[hub]'"
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise UserError(
            f"{repo} on the hub wants its terms to be accepted: do so at https://huggingface.co/{repo} and log in with "
            "`hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(f"there is no path {repo} here, and no such model on Hugging Face's hub: check it") from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{repo} on the hub has no revision {revision!r}: check it") from error
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f"there is no path {repo} here, the hub cannot be reached, and its cache does not have "
            f"{_shown(repo, revision)}: check the path, or fetch the model with a network"
        ) from error
    # Everything else of the hub, of the network and of the disk.
    except (errors.HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot fetch {_shown(repo, revision)} from the hub: {reason}; try again") from error


def _shown(repo: str, revision: str | None) -> str:
    return repo if revision is None else f"{repo}@{revision}"
