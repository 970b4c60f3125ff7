"""Models of AllenNLP that hold an ELMo, perhaps fine-tuned: ``model.tar.gz``, its directory, or a bare ``weights.th``.

The weights are PyTorch's, read without running code; the rest are small JSON files. Nothing of an archive is written
to disk under a name that it chooses.
"""

import contextlib
import dataclasses
import gzip
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from elmo_jax.config import Config, Model
from elmo_jax.data.compression import most_unpacked
from elmo_jax.errors import UserError
from elmo_jax.interop import allennlp_layout, bilm_tf, torch_weights
from elmo_jax.interop.pretrained import Mix, Pretrained
from elmo_jax.interop.torch_weights import Array, Weights

# What a directory calls its weights; an archive has the first.
WEIGHTS_FILES = ("weights.th", "best.th")
CONFIG_FILE = "config.json"
OPTIONS_FILE = "options.json"
# Where archives of old versions keep the files that their configuration names, by the place of the name in it.
KEPT_FILES = "fta/"

# Small files that are larger, together, are no configuration.
_MOST_JSON = 1 << 24
# Asked for at once, by us or by the header of an archive.
_MOST_AT_ONCE = 1 << 25
# What options say and shapes do not, or what AllenNLP does not read.
_NOT_IN_SHAPES = {"activation", "cell_clip", "proj_clip", "n_characters", "max_characters_per_token"}
_DEFAULTS = "relu, clips at 3 and skip connections, as in all models that AllenNLP published"


class _Files(NamedTuple):
    """What was found at a path: the weights, small files by name, and the folder where others may lie."""

    weights: Path | IO[bytes]
    texts: Mapping[str, bytes]
    folder: Path

    def beside(self, name: str) -> bytes | None:
        """A small file of the archive or, failing that, in the folder that it lies in; None when there is none."""
        if name in self.texts:
            return self.texts[name]
        file = self.folder / PurePosixPath(name).name
        return file.read_bytes() if file.is_file() else None


class _Setting(NamedTuple):
    """Where the configuration of a model sets an ELMo, such as ``model.text_field_embedder.elmo``, and how."""

    path: str
    values: Mapping[str, Any]


def recognises(path: Path) -> bool:
    """Whether what is at ``path`` looks like a model of AllenNLP."""
    if path.is_dir():
        return any((path / name).is_file() for name in WEIGHTS_FILES)
    return path.is_file() and path.name.endswith((".th", ".tar.gz", ".tgz"))


def load(path: Path, elmo: str | None = None) -> Pretrained:
    """The ELMo of the model at ``path``, with its fine-tuned weights and all its mixtures.

    Args:
        path: an archive, its directory, or a file of weights with ``options.json`` beside it.
        elmo: which, of several: a part of its name.

    Raises:
        UserError: when there is none, there are several that differ, PyTorch is missing, or a file is damaged or could
            run code.
    """
    with _opened(path) as files:
        arrays = torch_weights.read(files.weights, str(path))
        return _pretrained(arrays, files, path, elmo)


def _pretrained(arrays: Mapping[str, Array], files: _Files, path: Path, elmo: str | None) -> Pretrained:
    prefixes = _chosen(arrays, str(path), elmo)
    settings = list(_settings(_json(files.texts.get(CONFIG_FILE, b"{}"), CONFIG_FILE)))
    weights = Weights(arrays, prefixes[0], str(path))
    model, notes = _with_options(allennlp_layout.architecture(weights), files, _setting_of(prefixes[0], settings))
    config = Config(model=model).validate(recorded=True)
    mixes: list[Mix] = []
    for prefix in prefixes:
        setting = _setting_of(prefix, settings)
        norm = setting is not None and bool(setting.values.get("do_layer_norm"))
        mixes += allennlp_layout.mixes(Weights(arrays, prefix, str(path)), model, do_layer_norm=norm)
    if mixes and not settings:
        notes.append("No configuration says whether layers are normalised before they are mixed: taken as not.")
    if len(prefixes) > 1:
        notes.append(f"Its {len(prefixes)} ELMos have the same weights: one is kept, with the mixtures of all.")
    if "_word_embedding.weight" in weights:
        notes.append("The vectors of its cached words are left out: words are encoded from their characters.")
    params = allennlp_layout.parameters(weights, model)
    about = {"imported from": "AllenNLP", **({"notes": " ".join(notes)} if notes else {})}
    return Pretrained(config, params, None, str(path), mixes=tuple(mixes), about=about)


def _chosen(arrays: Mapping[str, Array], origin: str, elmo: str | None) -> list[str]:
    """The prefix of the biLM to take, or of all when they are one."""
    found = allennlp_layout.bilms(arrays)
    if not found:
        raise UserError(f"{origin} holds no ELMo: give a model of AllenNLP that embeds words with one")
    wanted = [prefix for prefix in found if elmo is None or elmo in prefix]
    names = ", ".join(prefix.rstrip(".") or "(the only one)" for prefix in found)
    if not wanted:
        raise UserError(f"{origin} has no ELMo {elmo!r}; it has {names}")
    if not allennlp_layout.same(arrays, wanted):
        raise UserError(f"{origin} has several ELMos with different weights: choose one with --elmo NAME from {names}")
    return wanted


def _settings(config: Any, path: str = "") -> Iterator[_Setting]:
    """Every place of a configuration that sets an ELMo."""
    if isinstance(config, list):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return
    if config.get("type") == "elmo_token_embedder" or "options_file" in config:
        yield _Setting(path, config)
    for key, value in config.items():
        yield from _settings(value, f"{path}.{key}" if path else str(key))


def _setting_of(prefix: str, settings: list[_Setting]) -> _Setting | None:
    """The setting of the ELMo with this prefix: the only one, or the one whose name is in the prefix."""
    if len(settings) > 1:
        settings = [s for s in settings if f"_{s.path.rsplit('.', 1)[-1]}." in f"_{prefix}"]
    return settings[0] if settings else None


def _with_options(model: Model, files: _Files, setting: _Setting | None) -> tuple[Model, list[str]]:
    """The architecture with what the shapes of its weights do not tell, and notes about where that is from."""
    names = [OPTIONS_FILE]
    if setting is not None:
        file = PurePosixPath(str(setting.values.get("options_file", ""))).name
        names = [f"{KEPT_FILES}{setting.path}.options_file", *([file] if file else []), *names]
    for name in names:
        text = files.beside(name)
        if text is not None:
            return _told(model, _json(text, name), name), []
    wanted = names[1] if len(names) > 2 else OPTIONS_FILE
    return model, [f"There is no {wanted} with it: taken as {_DEFAULTS}. If that is wrong put the file beside it."]


def _told(model: Model, options: Any, name: str) -> Model:
    """``model`` with what an options file says, which must not contradict it."""
    shapes = bilm_tf.options(Config(model=model), 0)
    for section in ("lstm", "char_cnn"):
        told = options.get(section) if isinstance(options, dict) else None
        if not isinstance(told, dict):
            raise UserError(f"{name} has no section {section!r}: it is no options file of an ELMo over characters")
        for key, theirs, ours in _contradictions(told, shapes[section], f"{section}."):
            raise UserError(f"{name} has {key} {theirs!r}, the weights {ours!r}: they do not belong together")
    activation, clips = options["char_cnn"].get("activation"), []
    if activation not in ("relu", "tanh"):
        raise UserError(f"{name} has char_cnn.activation {activation!r}: it must be 'relu' or 'tanh'")
    for key in ("cell_clip", "proj_clip"):
        clip = options["lstm"].get(key)
        if clip is not None and (isinstance(clip, bool) or not isinstance(clip, int | float)):
            raise UserError(f"{name} has lstm.{key} {clip!r}: it must be a number")
        clips.append(float(clip) if clip else None)
    return dataclasses.replace(
        model,
        char_cnn=dataclasses.replace(model.char_cnn, activation=activation),
        lstm=dataclasses.replace(model.lstm, cell_clip=clips[0], proj_clip=clips[1]),
    )


def _contradictions(told: Mapping[str, Any], shapes: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    """What options say otherwise than the shapes: the name, their value and ours."""
    for key in shapes.keys() & told.keys() - _NOT_IN_SHAPES:
        theirs, ours = told[key], shapes[key]
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _contradictions(theirs, ours, f"{path}{key}.")
        elif theirs != ours:
            yield path + key, theirs, ours


def _json(text: bytes, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is not valid JSON ({error}); restore it") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Files]:
    if path.is_dir():
        file = next((path / name for name in WEIGHTS_FILES if (path / name).is_file()), None)
        if file is None:
            raise UserError(f"{path} has no {WEIGHTS_FILES[0]}; give the directory or archive of a model of AllenNLP")
        yield _Files(file, _texts(path), path)
    elif path.suffix == ".th":
        yield _Files(path, _texts(path.parent), path.parent)
    else:
        with tempfile.TemporaryFile() as weights:
            yield _Files(weights, _unpack(path, weights), path.parent)


def _texts(directory: Path) -> dict[str, bytes]:
    """The small files of an unpacked archive, by name."""
    files = [directory / CONFIG_FILE, *(directory / KEPT_FILES).glob("*.options_file")]
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files if file.is_file()}


class _Careful:
    """An unpacked archive from which nobody reads much at once: the headers of ``tarfile`` are as long as they say."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, n_bytes: int = -1) -> bytes:
        if not 0 <= n_bytes <= _MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header declares {n_bytes:,} bytes")
        return self._stream.read(n_bytes)


def _tar(stream: gzip.GzipFile) -> tarfile.TarFile:
    careful: Any = _Careful(stream)
    return tarfile.open(fileobj=careful, mode="r:")


def _unpack(archive: Path, weights: IO[bytes]) -> dict[str, bytes]:
    """The small files of an archive by name; its weights are written into ``weights``."""
    texts: dict[str, bytes] = {}
    left = {True: most_unpacked(archive.stat().st_size), False: _MOST_JSON}
    try:
        with gzip.open(archive) as stream, _tar(stream) as tar:
            for member in tar:
                name = str(PurePosixPath(member.name))
                is_weights = name == WEIGHTS_FILES[0]
                content = tar.extractfile(member) if member.isfile() and member.size <= left[is_weights] else None
                if content is None:
                    continue
                if is_weights:
                    while block := content.read(1 << 20):
                        weights.write(block)
                elif name.endswith(".json") or name.startswith(KEPT_FILES):
                    texts[name] = content.read()
                else:
                    continue
                left[is_weights] -= member.size
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise UserError(f"{archive} is no archive or is damaged ({error}); fetch it again") from error
    if not weights.tell():
        raise UserError(f"{archive} has no {WEIGHTS_FILES[0]}; give an archive of a model of AllenNLP")
    weights.seek(0)
    return texts
