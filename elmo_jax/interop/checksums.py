"""``SHA256SUMS``: what the files of a directory were when it was made, as ``sha256sum --check`` reads it too."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from elmo_jax.errors import UserError

FILE = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\0]+)")


def of_files(folder: Path) -> dict[str, tuple[int, str]]:
    """Bytes and SHA-256 of every file in a folder, by its name."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {path.name: (path.stat().st_size, _digest(path)) for path in files}


def write(folder: Path, sums: Mapping[str, tuple[int, str]]) -> None:
    """Write the list into the folder."""
    text = "".join(f"{digest}  {name}\n" for name, (_, digest) in sums.items())
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")


def verify(folder: Path) -> None:
    """Check every file of the list, if there is one.

    Raises:
        UserError: naming the file that is missing, or another than when the directory was made.
    """
    path = folder / FILE
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            entry = _LINE.fullmatch(line)
            if entry is None:
                raise UserError(f"{path}:{number} is no SHA-256 and file name: {line[:80]!r}; fetch or export it again")
            digest, name = entry.groups()
            if not (folder / name).is_file():
                raise UserError(f"{folder / name} is missing, and {FILE} has it; fetch or export it again")
            if _digest(folder / name) != digest:
                raise UserError(
                    f"{folder / name} is not what {FILE} says: it is damaged or was changed; fetch or export it "
                    f"again, or remove its line from {FILE} if you changed it"
                )
    except (OSError, ValueError) as error:
        raise UserError(f"cannot check {path}: {error}; fetch or export it again") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
