"""The verbs that people are told of exist, and a run of the tests that did not test anything is not green."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.findings import ROOT

VERBS = {"help", "demo", "up", "test", "check", "bench", "conformance", "mutants", "docs"}
UNRUN = {
    "skip": 'import pytest\ndef test_it():\n    pytest.skip("no time")\n',
    "mark": 'import pytest\n@pytest.mark.skipif(True, reason="no time")\ndef test_it(): ...\n',
    "module": 'import pytest\npytest.skip("no time", allow_module_level=True)\n',
    "xfail": 'import pytest\n@pytest.mark.xfail(reason="no time")\ndef test_it():\n    assert False\n',
    "xpass": 'import pytest\n@pytest.mark.xfail(reason="no time")\ndef test_it(): ...\n',
}
INI = "[pytest]\naddopts = -q\nasyncio_default_fixture_loop_scope = function\n"


def test_make_without_a_verb_lists_the_verbs() -> None:
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  make (\w+) +\S", done.stdout, re.MULTILINE)) >= VERBS


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 1", "citywatch needs Python 3.11 or newer"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    ],
)
def test_make_says_what_a_machine_lacks(script: str, said: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    command = ["make", ".venv/.made", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr


def run(tree: Path, ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "tests" / "conftest.py", tree)
    (tree / "pytest.ini").write_text(INI)
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}  # where the conftest finds the rest of itself
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, check=False)


def test_in_ci_whatever_did_not_run_to_a_verdict_is_a_failure(tmp_path: Path) -> None:
    for name, source in UNRUN.items():
        (tmp_path / f"test_{name}.py").write_text(source)
    (tmp_path / "test_ran.py").write_text("def test_it(): ...\n")
    done = run(tmp_path, ci="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert done.stdout.splitlines()[-1].startswith("3 failed, 1 passed, 2 errors in ")
    assert done.stdout.count("no time") >= len(UNRUN)


def test_on_a_desk_a_skip_is_only_a_skip(tmp_path: Path) -> None:
    (tmp_path / "test_skip.py").write_text(UNRUN["skip"])
    (tmp_path / "test_ran.py").write_text("def test_it(): ...\n")
    assert run(tmp_path, ci="").returncode == pytest.ExitCode.OK


def test_a_run_without_a_test_is_not_green(tmp_path: Path) -> None:
    assert run(tmp_path, ci="").returncode == pytest.ExitCode.NO_TESTS_COLLECTED
