"""The locks hold what was asked for, pinned and hashed, and name no registry."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools import lock
from tools.findings import ROOT

HASH = "--hash=sha256:" + "0" * 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "requirements", tmp_path / "requirements"))


def findings(folder: Path) -> list[str]:
    return [finding.text for finding in lock.check(folder, ROOT / "pyproject.toml")]


def test_the_locks_are_what_was_asked_for(folder: Path) -> None:
    assert findings(folder) == []


@pytest.mark.parametrize(
    "line",
    [
        "click==8.5.1",
        "click>=8",
        f"click @ https://index.invalid/click.whl {HASH}",
        "--index-url https://index.invalid/simple",
        "--find-links /opt/wheels",
        "-e .",
        f"click==8.5.1 {HASH} --pre",
        f"click==8.5.1 ; python_version < '3.12' {HASH}",
    ],
)
def test_a_line_that_is_not_one_pinned_and_hashed_package_is_found(line: str, folder: Path) -> None:
    with (folder / "base.txt").open("a") as file:
        file.write(line + "\n")
    assert any(line.split()[0] in text for text in findings(folder))


def test_a_lock_that_lost_a_dependency_is_found(folder: Path) -> None:
    base = folder / "base.txt"
    base.write_text(base.read_text().replace("\nclick==", "\nclack=="))
    assert any("`click>=" in text for text in findings(folder))


def test_a_pin_that_differs_between_two_layers_is_found(folder: Path) -> None:
    dev = folder / "dev.txt"
    dev.write_text(dev.read_text().replace("\ncffi==", "\ncffi==0."))
    assert any("`cffi` is not pinned as in demo.txt" in text for text in findings(folder))


def test_pins_are_read_over_continued_lines() -> None:
    text = f"# a note\nclick==8.5.1 \\\n    {HASH} \\\n    {HASH}\n    # via x\nbroken\n"
    assert lock.read_pins(text) == ({"click": "8.5.1"}, [(6, "`broken` is not one pinned package with its hashes")])
