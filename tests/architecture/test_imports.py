"""Each import contract of `pyproject.toml` is broken by a seeded import, in an empty house of the same rooms."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
LAYERS = {contract["id"]: contract["layers"] for contract in CONTRACTS if contract["type"] == "layers"}

# The contract it breaks, the module that is wrong, the import that is seeded there.
SEEDED = [
    ("rings", "core/errors", "import citywatch.service.ports"),
    ("rings", "core/errors", "import citywatch.adapters.one"),
    ("rings", "service/ports", "import citywatch.adapters.one"),
    ("rings", "service/ports", "def f():\n    import citywatch.adapters.one"),
    ("rings", "adapters/one", "import citywatch.main"),
    ("rings", "adapters/one", "import citywatch.config"),
    ("rings", "redteam", "import citywatch.prove"),
    ("rings", "unplanned", ""),
    ("core", "core/errors", "import citywatch.core.canonical"),
    ("core", "core/canonical", "import citywatch.core.names"),
    ("core", "core/names", "import citywatch.core.signature"),
    ("core", "core/signature", "import citywatch.core.label"),
    ("core", "core/label", "import citywatch.core.call"),
    ("core", "core/call", "import citywatch.core.manifest"),
    ("core", "core/manifest", "import citywatch.core.events"),
    ("core", "core/events", "import citywatch.core.log"),
    ("core", "core/policy", "import citywatch.core.identity"),
    ("core", "core/flow", "import citywatch.core.policy"),
    ("core", "core/plan", "import citywatch.core.policy"),
    ("core", "core/wire", "import citywatch.core.log"),
    ("core", "core/content", "import citywatch.core.policy"),
    ("core", "core/log", "import citywatch.core.enforce"),
    ("core", "core/unplanned", ""),
    ("config", "redteam", "import citywatch.config"),
    ("release", "core/enforce/steering", "import citywatch.core.flow.release"),
    ("release", "service/ports", "import citywatch.core.flow.release"),
    ("config-is-text", "config", "import citywatch.adapters.one"),
    ("config-is-text", "config", "import citywatch.service.ports"),
    ("adapters", "adapters/one", "import citywatch.adapters.two"),
    ("adapters", "adapters/two", "import citywatch.adapters.three.inside"),
    ("service", "service/ports", "import sqlite3"),
    ("service", "service/ports", "import os.path"),
    ("service", "service/ports", "from time import time"),
    ("service", "service/ports", "import uvicorn.config"),
    ("sdk", "sdk/client", "import citywatch.service.ports"),
    ("sdk", "sdk/client", "import citywatch.core.enforce.admit"),
    ("sdk", "sdk", "import citywatch.core.identity"),
    ("sdk", "sdk/client", "def f():\n    import citywatch.core.policy"),
    ("rings", "sdk", "import citywatch.adapters.one"),
    ("rings", "adapters/one", "import citywatch.sdk"),
    ("cycles", "adapters/three/inside", "import citywatch.adapters.three.beside"),
]

OPEN_TO_THE_SDK = {"canonical", "delegation", "errors", "label", "names", "plan", "signature", "wire"}


def rooms() -> list[str]:
    """Every module the contracts draw, and a few inside them, as paths below the package."""
    rings = [name for layer in LAYERS["rings"] for name in re.findall(r"\w+", layer)]
    concepts = [f"core/{name}" for layer in LAYERS["core"] for name in re.findall(r"\w+", layer)]
    below = ["service/ports", "adapters/one", "adapters/two", "adapters/three/inside", "adapters/three/beside"]
    below += ["sdk/client", "core/enforce/admit"]
    below += ["core/flow/release", "core/enforce/released", "core/enforce/clearing", "core/enforce/steering"]
    return [*rings, *concepts, *below]


def build(tree: Path, seeded: dict[str, str]) -> None:
    """Write an empty house of all rooms, each with the source seeded for it."""
    files = {
        Path("citywatch", *path.split("/")): source for path, source in (dict.fromkeys(rooms(), "") | seeded).items()
    }
    packages = {parent for file in files for parent in file.parents} - {Path()}
    for package in packages:
        (tree / package).mkdir(parents=True, exist_ok=True)
        (tree / package / "__init__.py").write_text(files.get(package, ""))
    for file in files.keys() - packages:
        (tree / file).with_suffix(".py").write_text(files[file])


def lint(tree: Path) -> tuple[int, set[str]]:
    """Run the project's own contracts over a tree; return the exit status and the ids of the broken ones."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--config",
            ROOT / "pyproject.toml",
            "--no-cache",
            "--no-logo",
        ],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    verdicts = re.findall(r"^(.+) (KEPT|BROKEN)$", done.stdout, re.MULTILINE)
    assert len(verdicts) == len(CONTRACTS), done.stdout + done.stderr
    broken = {name for name, verdict in verdicts if verdict == "BROKEN"}
    return done.returncode, {contract["id"] for contract in CONTRACTS if contract["name"] in broken}


def test_the_empty_house_keeps_every_contract(tmp_path: Path) -> None:
    build(tmp_path, {"adapters/three/inside": "", "main": "import citywatch.config\nimport citywatch.adapters.one"})
    assert lint(tmp_path) == (0, set())


def test_every_contract_has_a_seeded_violation() -> None:
    assert {contract for contract, _, _ in SEEDED} == {contract["id"] for contract in CONTRACTS}


def test_each_room_of_core_is_open_to_the_sdk_or_closed() -> None:
    """A room that is built later is closed until somebody writes it down here."""
    (told,) = [contract for contract in CONTRACTS if contract["id"] == "sdk"]
    closed = {name.removeprefix("citywatch.core.") for name in told["forbidden_modules"] if ".core." in name}
    assert closed | OPEN_TO_THE_SDK == {name for layer in LAYERS["core"] for name in re.findall(r"\w+", layer)}


@pytest.mark.parametrize(("contract", "room", "source"), SEEDED)
def test_a_seeded_import_breaks_its_contract(contract: str, room: str, source: str, tmp_path: Path) -> None:
    seeded = {room: source}
    if contract == "cycles":
        seeded["adapters/three/beside"] = "import citywatch.adapters.three.inside"
    build(tmp_path, seeded)
    status, broken = lint(tmp_path)
    assert status == 1
    assert contract in broken
