"""Builders of TensorFlow Datasets, and the 1 Billion Word benchmark, as small as tests need them."""

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

LM1B = "1-billion-word-language-modeling-benchmark-r13output"
TRAIN, HELDOUT = "training-monolingual.tokenized.shuffled", "heldout-monolingual.tokenized.shuffled"


def prepare_builder(
    data_dir: Path,
    splits: Mapping[str, Sequence[Any]],
    features: Callable[[Any], Mapping[str, Any]] = lambda tfds: {"text": tfds.features.Text()},
    name: str = "small",
    config: str = "",
    version: str = "1.0.0",
) -> Path:
    """Prepare a builder as users write them, in the array_record format and in the order of the records.

    Args:
        data_dir: where to.
        splits: the records of each split; one that is no dictionary is the text.
        features: of a record.
        name: of the builder.
        config: of the builder, if it has any.
        version: of the builder.

    Returns:
        The prepared directory.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    with registered.skip_registration():

        class Builder(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(version)
            BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config)] if config else []

            def _info(self):
                with_features = tfds.features.FeaturesDict(features(tfds))
                return tfds.core.DatasetInfo(builder=self, features=with_features, disable_shuffling=True)

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(records) for split, records in splits.items()}

            def _generate_examples(self, records):
                for key, record in enumerate(records):
                    yield key, record if isinstance(record, dict) else {"text": record}

    Builder.name = name
    # An unprepared builder asks the network about itself, and leaves a temporary directory behind.
    with mock.patch.object(tfds.core.DatasetInfo, "initialize_from_bucket"):
        builder = Builder(data_dir=data_dir)
    tfds.disable_progress_bar()
    builder.download_and_prepare(file_format="array_record", download_dir=data_dir / "downloads")
    return Path(builder.data_dir)


def lm1b_files(train: Sequence[Sequence[str]], heldout: Sequence[Sequence[str]]) -> dict[str, bytes]:
    """Files of the benchmark by their names in the archive; the text of each is a list of lines."""
    files = {f"{LM1B}/README": b"1 Billion Word\n"}
    for number, lines in enumerate(heldout):
        files[f"{LM1B}/{HELDOUT}/news.en.heldout-{number:05d}-of-00050"] = "".join(f"{s}\n" for s in lines).encode()
    for number, lines in enumerate(train, 1):
        files[f"{LM1B}/{TRAIN}/news.en-{number:05d}-of-00100"] = "".join(f"{s}\n" for s in lines).encode()
    return files


def write_archive(path: Path, files: Mapping[str, bytes], *members: tarfile.TarInfo, mode: str = "w:gz") -> Path:
    """A tar archive of files, the last first as nothing in it is sorted, and of other members."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            tar.addfile(member)
        for name, data in reversed(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The files below ``folder``; gives the directory of the benchmark."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder / LM1B
