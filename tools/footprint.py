"""What a user gets who installs citywatch: megabytes and packages, in an environment of its own.

Builds the wheel, installs it with the hash-locked base requirements where nothing else is, and counts the library that
came: code, native parts, metadata; neither pip nor bytecode, which are not ours. A megabyte is a million bytes. Decides
whether the base install is still small: above `MOST` it fails.

    footprint.py              prints `install.mb` and `install.packages`
    footprint.py --json FILE  also writes them as rows to FILE
    footprint.py --keep DIR   leaves the environment in DIR/venv
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, NamedTuple

from tools.findings import ROOT

MOST = {"install.mb": 60, "install.packages": 25}


class Footprint(NamedTuple):
    """Bytes and packages of an environment."""

    size: int
    packages: int


def build_wheel(target: Path) -> Path:
    """Build the wheel of this tree with the build backend that is installed, fetching nothing."""
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(target), str(ROOT))
    (wheel,) = target.glob("citywatch-*.whl")
    return wheel


def install_alone(environment: Path, wheel: Path) -> Path:
    """Make an environment that holds citywatch and what it runs with, and nothing else; return its Python."""
    venv.create(environment, with_pip=False, symlinks=True, clear=True)
    python = environment / "bin" / "python"
    into = ("--python", str(python), "install", "--no-compile")
    pip(*into, "--require-hashes", "--requirement", str(ROOT / "requirements" / "base.txt"))
    pip(*into, "--no-deps", str(wheel))
    return python


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})


def weigh(environment: Path) -> Footprint:
    """Count what stands in an environment's library."""
    (library,) = environment.glob("lib/python*/site-packages")
    files = [path for path in library.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    packages = list(library.glob("*.dist-info"))
    return Footprint(sum(path.stat().st_size for path in files), len(packages))


def measure(folder: Path) -> Footprint:
    """Build, install and weigh, in an empty folder."""
    install_alone(folder / "venv", build_wheel(folder))
    return weigh(folder / "venv")


def rows(footprint: Footprint) -> list[dict[str, Any]]:
    """The two rows of the bench."""
    rest = {"n": 1, "seed": None, "against": "", "ratio": None, "spread": 0.0}
    return [
        {"name": "install.mb", "value": round(footprint.size / 1e6, 1), "unit": "MB", **rest},
        {"name": "install.packages", "value": footprint.packages, "unit": "packages", **rest},
    ]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="footprint", description="What a base install of citywatch weighs.")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="footprint-") as folder:
        measured = rows(measure(chosen.keep or Path(folder)))
    for row in measured:
        print(f"{row['name']:<18} {row['value']} {row['unit']}")
    if chosen.json:
        chosen.json.write_text(json.dumps(measured, indent=2) + "\n")
    return 1 if any(row["value"] > MOST[row["name"]] for row in measured) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
