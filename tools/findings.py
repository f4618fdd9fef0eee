"""One finding of a house rule, and how a rule reports. INVARIANT: a rule that looked at nothing has failed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Finding(NamedTuple):
    """Something that breaks a rule: where it stands, and what to do instead."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path}:{self.line}: {self.text}"


def python_files(folders: Iterable[Path]) -> list[Path]:
    """All Python files below the folders, in a fixed order."""
    return sorted(path for folder in folders for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def report(rule: str, checked: int, findings: list[Finding]) -> int:
    """Print the findings and return the exit status: 0 only if something was checked and nothing was found."""
    for finding in findings:
        print(finding)
    if not checked:
        print(f"{rule}: nothing was checked", file=sys.stderr)
        return 1
    print(f"{rule}: {checked} checked, {len(findings)} found")
    return 1 if findings else 0
