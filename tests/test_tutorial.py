"""The tutorial does what it says: all its commands run, one after the other, as a reader types them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r"(<!-- not tested: .*? -->\n)?```sh\n(.*?)```", re.DOTALL)


def commands() -> str:
    return "\n".join(script for skipped, script in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")) if not skipped)


def test_only_the_installation_is_not_run():
    skipped = [script for mark, script in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")) if mark]
    assert [script.split()[:2] for script in skipped] == [["git", "clone"]]


def test_every_command_of_the_tutorial_runs(tmp_path):
    # `elmo` and `python` are those that run this test.
    (tmp_path / "bin").mkdir()
    for name, arguments in (("elmo", "-m elmo_jax.cli "), ("python", "")):
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n', encoding="utf-8")
        script.chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands()],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(3, 6, 128)" in done.stdout
    assert "characters: the two 'class' are alike by 1.000" in done.stdout
    for name in ("run/summary.json", "curves.png", "curves.svg", "exported/weights.hdf5"):
        assert (tmp_path / "tutorial" / name).stat().st_size > 0, name
