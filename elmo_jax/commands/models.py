"""``elmo models``: the published ELMo models; list them, look at one, fetch one."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elmo_jax.interop.published import File, Published

NAME = "models"
SUMMARY = "List the published ELMo models, and fetch one."
DETAILS = """\
Small, medium and original of the paper, models of other languages and fields, and the 44 languages of ELMoForManyLangs.
A model that was fetched is a model path for every command; those of ELMoForManyLangs have to be imported first.

  elmo models                             all of them
  elmo models show original               addresses, sizes, checksums, licence
  elmo models fetch small                 into ./small; goes on where it was cut
  elmo models fetch original elmo --lm    with softmax and vocabulary, for probabilities
  elmo models fetch efml-finnish fi && elmo import fi elmo-finnish

Most publishers name no checksum: then the sha256 of what came is printed and kept in SHA256SUMS beside it, so that a
later copy can be compared. Most name no licence either: ask them before you publish what you made of it.

Where the publishers cannot be reached, --mirror URL or ELMO_MODELS_MIRROR names a server that has the same files at the
same paths: https://s3-us-west-2.amazonaws.com/allennlp/x is looked for at URL/allennlp/x."""

MIRROR = "ELMO_MODELS_MIRROR"
UNKNOWN = "unknown"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--json", action="store_true", help="print all that is known of all models as JSON")
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="addresses, sizes, checksums and licence of a model")
    show.add_argument("name", metavar="NAME", help="of the model, as elmo models lists it")
    fetch = actions.add_parser("fetch", help="fetch a model")
    fetch.add_argument("name", metavar="NAME", help="of the model, as elmo models lists it")
    fetch.add_argument("directory", nargs="?", metavar="DIR", help="the directory to make (default NAME)")
    fetch.add_argument(
        "--lm", action="store_true", help="also vocabulary and, where one was published, softmax: for probabilities"
    )
    fetch.add_argument(
        "--mirror", default=os.environ.get(MIRROR, ""), metavar="URL", help=f"a server with copies (default ${MIRROR})"
    )


def run(options: argparse.Namespace) -> int:
    """List the published models, show one, or fetch one."""
    from elmo_jax.interop.published import MODELS, find

    if options.action == "show":
        print(_shown(find(options.name)))
    elif options.action == "fetch":
        _fetch(find(options.name), Path(options.directory or options.name), options.lm, options.mirror)
    elif options.json:
        import dataclasses
        import json

        print(json.dumps([dataclasses.asdict(model) for model in MODELS], indent=2, ensure_ascii=False))
    else:
        print(_table(MODELS))
    return 0


def _table(models: "tuple[Published, ...]") -> str:
    rows = [("name", "language", "bytes", "licence", "trained on")]
    for model in models:
        size = UNKNOWN if model.size is None else f"{model.size:,}"
        rows.append((model.name, model.language, size, model.licence or "not stated", model.text))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", "elmo models show NAME has addresses and sizes, elmo models fetch NAME fetches one."])


def _shown(model: "Published") -> str:
    from elmo_jax.telemetry import summary_table

    about = {
        "model": model.name,
        "language": model.language,
        "trained on": model.text,
        "licence": model.licence or "not stated",
        "probabilities": "with --lm" if model.has_softmax else "none: no softmax is known to be published with it",
        "page": model.page,
        "kind": model.kind if model.kind == "bilm-tf" else f"{model.kind}: for elmo import",
    }
    return "\n".join([summary_table(about), *map(_file, model.files)])


def _file(file: "File") -> str:
    size = UNKNOWN if file.size is None else f"{file.size:,} bytes"
    only = " (with --lm)" if file.language_model else ""
    return f"\n{file.name}{only}\n  {file.address}\n  size {size}, sha256 {file.sha256 or UNKNOWN}"


def _fetch(model: "Published", directory: Path, language_model: bool, mirror: str) -> None:
    from elmo_jax.interop.fetch import SUMS_FILE, fetch

    sums = fetch(model, directory, language_model=language_model, mirror=mirror)
    print(f"{directory}: {model.name}, licence {model.licence or 'not stated'}")
    for address, sha256 in sums.items():
        print(f"  {sha256}  {address}")
    if any(file.sha256 is None for file in model.files):
        print(f"Nobody published what the sha256 should be: compare it with another copy. It is kept in {SUMS_FILE}.")
    if model.kind == "ELMoForManyLangs":
        print(f"Next: elmo import {directory} DIR")
