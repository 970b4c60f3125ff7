"""Every script can be started: what it imports is there, and it says how it is used."""

import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# step_process.py is the process that train_step.py talks to, and has no options.
SCRIPTS = sorted(
    file.name for file in BENCHMARKS.glob("*.py") if "__main__" in file.read_text() and file.name != "step_process.py"
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_is_measured(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    assert end.value.code == 0
    assert f"python benchmarks/{name}" in capsys.readouterr().out
