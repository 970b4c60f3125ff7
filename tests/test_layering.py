"""The rules of docs/design.md that a parser can check: who imports whom, how long files are, what they are called."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "elmo_jax"
SOURCES = sorted(PACKAGE.rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "configs").glob("*.py"))

CONFIG = {"errors", "config", "config_rules", "config_io"}
DATA_AND_MODEL = CONFIG | {"data", "model"}
INFRASTRUCTURE = DATA_AND_MODEL | {
    "allocator",
    "compilation_cache",
    "parallel",
    "digest",
    "checkpoint",
    "telemetry",
    "trackers",
}
TRAIN = INFRASTRUCTURE | {"interop", "exit_status", "train"}

# What each file or folder of elmo_jax may import besides itself.
MAY_IMPORT = {
    # For `elmo_jax.from_pretrained`, when it is called.
    "__init__": {"interop", "train"},
    "errors": set(),
    "config": {"errors", "config_rules"},
    "config_rules": {"config"},
    "config_io": {"errors", "config"},
    "data": CONFIG,
    "model": CONFIG,
    "parallel": DATA_AND_MODEL,
    "allocator": set(),
    "compilation_cache": set(),
    "digest": set(),
    "checkpoint_files": {"errors", "digest"},
    "checkpoint": {"errors", "digest", "checkpoint_files"},
    "telemetry": {"errors"},
    "trackers": CONFIG | {"telemetry"},
    "analysis": CONFIG,
    "interop": INFRASTRUCTURE,
    "exit_status": set(),
    "train": INFRASTRUCTURE | {"interop", "exit_status"},
    "embed": TRAIN,
    "scoring": TRAIN | {"embed"},
    "commands": TRAIN | {"analysis", "embed", "scoring"},
    "cli": {"errors", "commands", "exit_status"},
}
# The loop drives any step over any batches: it knows no model and no data.
LOOP_MAY_IMPORT = {"elmo_jax.errors", "elmo_jax.checkpoint", "elmo_jax.telemetry"}
WITHOUT_JAX = {
    "__init__",
    "errors",
    "config",
    "config_rules",
    "config_io",
    "data",
    "telemetry",
    "trackers",
    "curves",
    "panels",
    "plots",
}
JAX = {"jax", "jaxlib", "flax", "optax", "orbax"}
FILES = {"os", "io", "pathlib", "shutil", "tempfile", "h5py"}

MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60
# Lists of rules, one after the other: there is nothing to take apart.
TABLES = {"config_rules._data", "config_rules._architecture"}
FORBIDDEN_NAMES = {"utils.py", "common.py", "base.py", "types.py"}


def imports(file: Path) -> Iterator[str]:
    """Every module that the file imports, at its top or inside functions, as an absolute dotted name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import; write elmo_jax.<module>"
            if node.module == "elmo_jax":
                yield from (f"elmo_jax.{alias.name}" for alias in node.names if part_exists(alias.name))
            else:
                yield node.module or ""


def part_exists(name: str) -> bool:
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def part_of(file: Path) -> str:
    """The file or folder directly below elmo_jax that ``file`` belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def roots(file: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(file)}


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_imports_point_one_way(file):
    part = part_of(file)
    assert part in MAY_IMPORT, f"{part} has no place in docs/design.md and in this table yet"
    parts = {name.split(".")[1] for name in imports(file) if name.startswith("elmo_jax.")}
    assert parts - {part} <= MAY_IMPORT[part]


@pytest.mark.parametrize("file", [f for f in SOURCES if part_of(f) in WITHOUT_JAX], ids=name_of)
def test_text_and_configuration_need_no_jax(file):
    assert not roots(file) & JAX


@pytest.mark.parametrize("file", [f for f in SOURCES if part_of(f) == "model"], ids=name_of)
def test_the_model_never_touches_files(file):
    assert not roots(file) & FILES
    calls = (node.func for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    assert not any(isinstance(call, ast.Name) and call.id == "open" for call in calls)


def test_the_loop_knows_no_model():
    loop = PACKAGE / "train" / "loop.py"
    assert {name for name in imports(loop) if name.startswith("elmo_jax")} <= LOOP_MAY_IMPORT


@pytest.mark.parametrize("file", EXPERIMENTS, ids=name_of)
def test_an_experiment_imports_only_the_configuration(file):
    assert set(imports(file)) <= {"dataclasses", "elmo_jax.config"}


def test_nobody_imports_tensorflow_but_the_reader_of_its_checkpoints():
    ours = [*SOURCES, *EXPERIMENTS, *(ROOT / "benchmarks").rglob("*.py"), *ROOT.glob("*.py")]
    assert [name_of(file) for file in ours if "tensorflow" in roots(file)] == ["elmo_jax/interop/tf_checkpoint.py"]


@pytest.mark.parametrize("file", SOURCES, ids=name_of)
def test_files_and_functions_are_short(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_FILE_LINES
    module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    lengths = {f"{module}.{f.name}": lines_without_docstring(f) for f in functions}
    assert not {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES and name not in TABLES}


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def test_files_are_named_after_their_idea():
    assert not FORBIDDEN_NAMES & {file.name for file in SOURCES}


def test_pytorch_files_are_read_in_one_place():
    assert [name_of(file) for file in SOURCES if "torch" in roots(file)] == ["elmo_jax/interop/torch_weights.py"]
