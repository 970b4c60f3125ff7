"""Configurations as text: experiment files, command-line overrides and the JSON kept in a run directory."""

import ast
import dataclasses
import difflib
import json
import os
import traceback
import types
import typing
from pathlib import Path
from typing import Any, Literal

from elmo_jax.config import Config, leaves
from elmo_jax.errors import UserError


def experiment(name: str) -> Config:
    """The configuration of an experiment: a Python file with ``get_config()``, or the name of a shipped one.

    Args:
        name: a path such as ``configs/elmo_small.py`` or a name such as ``elmo_small``.

    Raises:
        UserError: when there is no such file, it fails, or it has no ``get_config()`` that returns a ``Config``.
    """
    file = Path(name)
    shipped = shipped_experiments()
    if not file.is_file():
        if name not in shipped:
            raise UserError(f"no configuration {name!r}: give a Python file or one of {', '.join(sorted(shipped))}")
        file = shipped[name]
    if file.suffix != ".py":
        raise UserError(f"{file} is not a Python file; a configuration is a .py file with get_config()")
    config = _run(file)
    if not isinstance(config, Config):
        raise UserError(f"{file} has no get_config() that returns an elmo_jax.config.Config")
    return typing.cast(Config, convert(dataclasses.asdict(config), Config, f"{file}: config"))


def _run(file: Path) -> Any:
    """What ``get_config()`` of the file returns; None when it has no such function."""
    module = types.ModuleType("experiment")
    module.__file__ = str(file)
    try:
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)
        return module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        text = str(error)
        if isinstance(error, SyntaxError) and error.filename == str(file):
            lines, text = [error.lineno], error.msg
        place = f"{file}:{lines[-1]}" if lines else str(file)
        raise UserError(f"{place}: {type(error).__name__}: {' '.join(text.split())}; mend the file") from error


def shipped_experiments() -> dict[str, Path]:
    """Names and files of the experiments that come with the program (``configs/`` of the checkout or of the wheel)."""
    package = Path(__file__).resolve().parent
    folder = next((f for f in (package / "configs", package.parent / "configs") if f.is_dir()), package)
    return {file.stem: file for file in folder.glob("*.py") if not file.stem.startswith("_")}


def override(config: Config, path: str, text: str) -> Config:
    """A copy of ``config`` with the field at a dotted path set from command-line text.

    Raises:
        UserError: when the path names no field or the text does not fit the field's type.

    Example:
        >>> override(Config(), "model.lstm.dim", "1024").model.lstm.dim
        1024
    """
    return typing.cast(Config, _override(config, path.split("."), text, "config"))


def to_json(config: Config) -> str:
    """The configuration as indented JSON, the form kept in a run directory."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str, source: str = "config.json") -> Config:
    """Read back what ``to_json`` wrote; ``source`` names the file in errors.

    Raises:
        UserError: for text that is not JSON, unknown fields and values of the wrong type.
    """
    try:
        tree = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{source} is not valid JSON ({error}); restore it or start a new run directory") from None
    config = typing.cast(Config, convert(tree, Config, f"{source}: config"))
    try:
        return config.validate(recorded=True)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def load(path: Path) -> Config:
    """The configuration of the run directory or config.json at ``path``.

    Raises:
        UserError: when there is none, or it does not fit.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"{path} is not a run directory: it has no config.json; give the directory that training wrote")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}; restore it or start a new run directory") from error
    return from_json(text, str(file))


def _override(node: Any, names: list[str], text: str, where: str) -> Any:
    name, rest = names[0], names[1:]
    hints = _hints(type(node), name, where)
    where = f"{where}.{name}"
    if rest:
        child = getattr(node, name)
        if not dataclasses.is_dataclass(child):
            raise UserError(f"{where} has no field {rest[0]!r}: it is a value, set it with --{where}=...")
        return dataclasses.replace(node, **{name: _override(child, rest, text, where)})
    if dataclasses.is_dataclass(hints[name]):
        first, _ = next(leaves(getattr(node, name)))
        raise UserError(f"{where} is a group of fields; set one of them, such as --{where}.{first}=...")
    return dataclasses.replace(node, **{name: convert(_spelled(text, hints[name]), hints[name], where)})


def _fields(kind: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(kind)]


def _has_default(field: Any) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _hints(kind: type, name: str, where: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    if name not in hints:
        close = difflib.get_close_matches(name, hints, n=1)
        guess = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(hints)}"
        raise UserError(f"{where} has no field {name!r}; {guess}")
    return hints


def _spelled(text: str, kind: Any) -> Any:
    """The value that command-line text spells: itself where text is wanted, else a Python or JSON value."""
    if kind is str:
        return os.path.expanduser(text)  # what a shell does with a path, but not after "="
    if typing.get_origin(kind) is Literal:
        return text
    words = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def convert(value: Any, kind: Any, where: str) -> Any:
    """``value``, as JSON or Python has it, as the annotated type.

    Args:
        value: numbers, text, lists and dictionaries.
        kind: a dataclass or the annotation of a field of one.
        where: the place that errors name.

    Raises:
        UserError: naming the place, the value and what it must be.
    """
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where} is {value!r}: it must be an object with the fields {', '.join(_fields(kind))}")
        converted = {name: convert(v, _hints(kind, name, where)[name], f"{where}.{name}") for name, v in value.items()}
        missing = [f.name for f in dataclasses.fields(kind) if f.name not in value and not _has_default(f)]
        if missing:
            raise UserError(f"{where} has no field {missing[0]!r}: it must have it")
        try:
            return kind(**converted)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
    if origin is types.UnionType:
        inner = next(a for a in args if a is not type(None))
        return None if value is None else convert(value, inner, where)
    if origin is Literal:
        if value not in args:
            raise UserError(f"{where} is {value!r}: it must be one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} is {value!r}: it must be a list, such as (1, 2), or (1,) for one value")
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(kinds) != len(value):
            raise UserError(f"{where} is {value!r}: it must have {len(kinds)} entries")
        return tuple(convert(v, k, f"{where}[{i}]") for i, (v, k) in enumerate(zip(value, kinds, strict=True)))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "an object"}
        raise UserError(f"{where} is {value!r}: it must be {names[kind]}")
    return value
