"""Zip archives of models, unpacked without trust in what they say of themselves."""

import shutil
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from elmo_jax.data.compression import most_unpacked
from elmo_jax.errors import UserError


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Put the files of an archive, whatever folders they are in, into one folder.

    Args:
        archive: to be read.
        folder: of the files; they go nowhere else, whatever they are called.
        name: of the archive, for errors.

    Raises:
        UserError: when the archive is damaged, grows beyond measure, or has two files of one name.
        OSError: when it cannot be read, or the files cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [member for member in packed.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if total > most_unpacked(archive.stat().st_size):
                raise UserError(f"{name} would grow to {total:,} bytes: that is no model; fetch it again")
            for member in members:
                target = folder / PurePosixPath(member.filename).name
                if target.exists():
                    raise UserError(f"{name} has two files {target.name}; unpack it and name one folder of it")
                with packed.open(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
    # zipfile tells of damage in all of these ways.
    except (EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"cannot unpack {name}: {error}; fetch it again") from error
