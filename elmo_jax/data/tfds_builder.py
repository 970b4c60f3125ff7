"""Builders of TensorFlow Datasets on disk: found and opened by name, or what to do when they are not there.

Nothing here needs TensorFlow or a network: builders are read from the files they were prepared in.
"""

import difflib
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from elmo_jax.errors import UserError

# What can name a builder on disk.
NAME = re.compile(r"(?P<base>[A-Za-z]\w*)(/[\w+.-]+)?(:[\d*]+\.[\d*]+\.[\d*]+)?")

LM1B_ARCHIVE = "1-billion-word-language-modeling-benchmark-r13output.tar.gz"
LM1B_URL = f"http://www.statmt.org/lm-benchmark/{LM1B_ARCHIVE}"


def import_tfds() -> ModuleType:
    """The package ``tensorflow_datasets``, which takes a second to import.

    Raises:
        UserError: when it is not installed.
    """
    try:
        import importlib_resources  # noqa: F401  TFDS needs it and does not say so
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(
            f"reading TensorFlow Datasets needs the package {error.name}: pip install tensorflow-datasets "
            "importlib_resources"
        ) from error
    return tfds


def data_directory(data_dir: str = "") -> Path:
    """Where builders are prepared: the given directory, else ``$TFDS_DATA_DIR``, else ``~/tensorflow_datasets``."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def open_split(name: str, split: str, data_dir: str = "") -> Any:
    """The data source of a split, whose records are the bytes that are stored.

    Args:
        name: of a prepared builder, such as ``lm1b``, ``wiki40b/de`` or ``my_news/long:1.0.0``.
        split: such as ``train``, ``train[:10%]`` or ``train+validation``.
        data_dir: see ``data_directory``.

    Raises:
        UserError: when the builder is unknown or not prepared as array_record, or has no such split.
    """
    tfds, directory = import_tfds(), data_directory(data_dir)
    info = _prepared(tfds, name, directory).info
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f"{info.full_name} in {info.data_dir} is prepared as {info.file_format.value}, but only array_record can "
            f"be read here: prepare it in another directory{_how_to_prepare(name, Path('DIR'))}"
        )
    try:
        pieces = info.splits[split].file_instructions
    except (ValueError, KeyError) as error:
        raise _no_split(info, split, _first_line(error)) from error
    if not pieces:
        raise _no_split(info, split, "It has no records.")
    missing = [piece.filename for piece in pieces if not Path(piece.filename).is_file()]
    if missing:
        raise UserError(f"{info.full_name}: {missing[0]} is missing: prepare the builder again")
    # With its version the builder is read from its files, whatever code of the same name TFDS has.
    config = f"/{info.config_name}" if info.config_name else ""
    return tfds.data_source(
        f"{info.name}{config}:{info.version}",
        split=split,
        data_dir=directory,
        download=False,
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES,
    )


def _prepared(tfds: ModuleType, name: str, directory: Path) -> Any:
    """The builder as it stands on disk; its own code is not needed."""
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from tensorflow_datasets.core.read_only_builder import builder_from_files

    if not NAME.fullmatch(name):
        raise UserError(
            f"{name!r} cannot name a builder on disk: give NAME, NAME/CONFIG or NAME/CONFIG:1.0.0, such as lm1b"
        )
    try:
        return builder_from_files(name, data_dir=directory)
    except tfds.core.DatasetNotFoundError as error:
        raise _not_found(tfds, name, directory) from error
    except (OSError, ValueError, ParseError) as error:
        raise UserError(f"{name} in {directory} is damaged ({_first_line(error)}): prepare it again") from error


def _first_line(error: Exception) -> str:
    return str(error.args[0] if error.args else error).partition("\n")[0]


def _no_split(info: Any, split: str, reason: str) -> UserError:
    return UserError(
        f"{info.full_name} has no split {split!r}: {reason} There is {', '.join(info.splits)}, and parts and sums of "
        f"them such as '{next(iter(info.splits), 'train')}[:10%]'"
    )


def _not_found(tfds: ModuleType, name: str, directory: Path) -> UserError:
    base = NAME.sub(r"\g<base>", name)
    here = sorted(path.parent.relative_to(directory).parts for path in directory.glob("*/**/features.json"))
    if others := [f"{'/'.join(parts[:-1])}:{parts[-1]}" for parts in here if parts[0] == base]:
        return UserError(f"{name} is not prepared in {directory}, where there is {', '.join(others)}: give such a name")
    known = tfds.list_builders(with_community_datasets=False)
    if base in known:
        return UserError(f"{name} is not prepared in {directory}{_how_to_prepare(name, directory)}")
    close = difflib.get_close_matches(base, {*known, *(parts[0] for parts in here)}, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else "a builder of your own must be prepared there first"
    return UserError(f"there is no builder {name!r}: it is not in {directory}, and TFDS does not know it; {hint}")


def _how_to_prepare(name: str, directory: Path) -> str:
    if NAME.sub(r"\g<base>", name) == "lm1b":
        return f": download {LM1B_URL} (1.8 GB), then run: elmo prepare-lm1b {LM1B_ARCHIVE} --data-dir {directory}"
    return (
        " (this may need TensorFlow and a network, once, on any machine): "
        f"""python -c "import tensorflow_datasets as tfds; tfds.builder('{name}', data_dir='{directory}')"""
        """.download_and_prepare(file_format='array_record')\""""
    )
