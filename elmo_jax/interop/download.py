"""A file fetched from the network: resumed where it was cut, never glued of two versions, checked before it is used.

While it is not complete it is ``NAME.part``; ``NAME.part.json`` says what it is a part of.
"""

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import elmo_jax
from elmo_jax.data.progress import Progress
from elmo_jax.errors import UserError

TIMEOUT_SECONDS = 60.0
# Attempts in a row that bring nothing, and the pause before each but the first.
ATTEMPTS, PAUSE_SECONDS = 3, 2.0
BLOCK = 1 << 20


class _Cut(Exception):
    """The connection ended before the file did."""


def download(
    address: str, file: Path, *, size: int | None = None, sha256: str | None = None, progress: bool = True
) -> str:
    """Fetch ``address`` into ``file``, which appears complete or not at all.

    Args:
        address: http or https.
        file: in a directory that exists. What an earlier call left of it is gone on with, if the server says that the
            file is still the same.
        size: in bytes, when it is known.
        sha256: in hexadecimal digits, when it is known.
        progress: show a bar.

    Returns:
        The sha256 of the file.

    Raises:
        UserError: naming the address, when it cannot be reached or has no such file, the connection is cut again and
            again, or the file is not the one that is known. What was fetched so far is kept, unless it is wrong.
    """
    if not address.startswith(("http://", "https://")):
        raise UserError(f"{address} is no address of the web: it must begin with https:// or http://")
    part, failures = file.with_name(f"{file.name}.part"), 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _fetch(address, part, size, progress)
            break
        except _Cut as cut:
            after = part.stat().st_size if part.exists() else 0
            failures = 0 if after > before else failures + 1
            if failures >= ATTEMPTS:
                raise UserError(
                    f"the connection to {address} is cut again and again ({cut}); {after:,} bytes are kept: the same "
                    "command goes on from there"
                ) from cut
            time.sleep(PAUSE_SECONDS if failures else 0)
    found = digest(part)
    if sha256 is not None and found != sha256:
        _remove(part)
        raise UserError(
            f"{address} has the sha256 {found}, and the published file {sha256}: it was damaged or replaced, so it is "
            "not kept; try again or another --mirror"
        )
    part.replace(file)
    _told_of(part).unlink(missing_ok=True)
    return found


def digest(file: Path) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _fetch(address: str, part: Path, size: int | None, progress: bool) -> None:
    """One connection: what is missing of ``part``, or all of it when the server has another file by now."""
    validator = _validator(part, address)
    begin = part.stat().st_size if validator else 0
    headers = {"User-Agent": f"elmo-jax/{elmo_jax.__version__}", "Accept-Encoding": "identity"}
    if begin:
        headers |= {"Range": f"bytes={begin}-", "If-Range": validator}
    try:
        answer = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and begin:
            if error.headers.get("Content-Range", "").endswith(f"/{begin}"):
                return  # there is no more of it
            _remove(part)
            raise _Cut("another file lies there by now") from error
        if error.code >= 500:
            raise _Cut(f"it answers {error.code} {error.reason}") from error
        raise UserError(
            f"{address} answers {error.code} {error.reason}; find the file elsewhere, or name a --mirror that has it"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if begin:
            raise _Cut(str(reason)) from error
        raise UserError(
            f"cannot reach {address} ({reason}); without a network fetch it by hand, or name a --mirror within reach"
        ) from error
    with answer:
        _receive(answer, address, part, begin, size, progress)


def _receive(answer: Any, address: str, part: Path, begin: int, size: int | None, progress: bool) -> None:
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        begin = 0
    elif not answer.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
        _remove(part)
        raise _Cut("it answered with another part than was asked for")
    length = answer.headers.get("Content-Length", "")
    total = begin + int(length) if length.isdecimal() else None
    if None not in (size, total) and size != total:
        _remove(part)
        raise UserError(
            f"{address} has {total:,} bytes, and the published file {size:,}: it is not that file; try another --mirror"
        )
    what = f"{part.stem}{f', from byte {begin:,}' if begin else ''}"
    try:
        if not begin:
            _remember(part, address, answer.headers)
        shown = progress and total is not None
        with part.open("ab" if begin else "wb") as stream, Progress(what, (total or 0) - begin, shown) as bar:
            while block := _read(answer):
                stream.write(block)
                bar.advance(len(block))
    except OSError as error:
        raise UserError(f"cannot write {part}: {error.strerror or error}; make room or name another place") from error
    if total is not None and part.stat().st_size < total:
        raise _Cut(f"after {part.stat().st_size:,} of {total:,} bytes")


def _read(answer: Any) -> bytes:
    try:
        block: bytes = answer.read1(BLOCK)
        return block
    except (OSError, http.client.HTTPException) as error:
        raise _Cut(str(error) or type(error).__name__) from error


def _remember(part: Path, address: str, headers: Any) -> None:
    """What the server calls this version of the file: only with that can a part of it be gone on with."""
    tag = headers.get("ETag", "")
    validator = tag if tag.startswith('"') else headers.get("Last-Modified", "")
    _told_of(part).write_text(json.dumps({"address": address, "validator": validator}), encoding="utf-8")


def _validator(part: Path, address: str) -> str:
    """What the server called the file that ``part`` is of; empty when there is no part that can be gone on with."""
    try:
        told = json.loads(_told_of(part).read_text(encoding="utf-8"))
        return str(told["validator"]) if told["address"] == address and part.stat().st_size else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _told_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _told_of(part).unlink(missing_ok=True)
