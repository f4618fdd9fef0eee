"""Write the hash-locked requirements, one file per use, each a superset of the one before it.

    base  what citywatch runs with            demo  + the example's SDK and the build backend
    dev   + tests, linters, types             bench + the peers that are measured
    conformance: Node, alone                  lock: what this tool itself needs, alone
    agentdojo: base + other people's attacks, in an environment of its own
    frameworks: demo + the agent frameworks that the SDK has hooks for, in an environment of its own
    train: base + what the content model is trained with

`--check` decides whether what is written can be what was meant, without asking any index. INVARIANTS: no registry
address is written, so pip asks whatever index its user configured; a pin in one file is the same pin in every later one
(each is compiled under the one before as a constraint); compiled on the oldest Python we support, because backports are
only ever needed there, so one file serves every newer one.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.findings import ROOT, Finding, report

FLOOR = (3, 11)
HEADER = "# Written by `make lock` from {sources}. Every line is pinned and hashed; do not edit.\n"
LAYERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str | None], ...] = (
    ("base", (), ("pyproject.toml",), None),
    ("demo", ("demo",), ("pyproject.toml", "build.in"), "base"),
    ("dev", ("demo", "sdk", "speed", "workload"), ("pyproject.toml", "build.in", "dev.in"), "demo"),
    ("bench", ("demo", "sdk", "speed", "workload"), ("pyproject.toml", "build.in", "dev.in", "bench.in"), "dev"),
    ("agentdojo", ("bench",), ("pyproject.toml", "build.in"), "base"),
    ("frameworks", ("demo", "hooks", "sdk"), ("pyproject.toml", "build.in", "frameworks.in"), "demo"),
    ("conformance", (), ("conformance.in",), None),
    ("train", (), ("pyproject.toml", "train.in"), "base"),
    ("lock", (), ("lock.in", "build.in"), None),
)


def compile_layer(
    name: str, extras: tuple[str, ...], sources: tuple[str, ...], under: str | None, upgrade: bool
) -> None:
    """Write `requirements/<name>.txt`."""
    folder = ROOT / "requirements"
    command = [
        sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes", "--strip-extras", "--allow-unsafe",
        "--no-header", "--annotation-style=line", "--newline=lf", "--no-build-isolation",
        "--no-emit-index-url", "--no-emit-trusted-host", "--no-emit-find-links", "--no-emit-options",
        "--output-file", f"{name}.txt",
    ]  # fmt: skip
    command += [f"--extra={extra}" for extra in extras]
    command += ["--upgrade"] if upgrade else []
    command += [f"--constraint={under}.txt"] if under else []
    command += ["../pyproject.toml" if source == "pyproject.toml" else source for source in sources]
    subprocess.run(command, check=True, cwd=folder)
    out = folder / f"{name}.txt"
    out.write_text(HEADER.format(sources=", ".join(sources)) + out.read_text())


def check(folder: Path, project: Path) -> list[Finding]:
    """Whatever makes the files something else than the hash-locked form of what `project` and `*.in` ask for."""
    found: list[Finding] = []
    pins: dict[str, dict[str, str]] = {}
    for name, extras, sources, under in LAYERS:
        path = folder / f"{name}.txt"
        pins[name], wrong = read_pins(path.read_text())
        found += [Finding(path, line, text) for line, text in wrong]
        for wanted in _wanted(folder, project, extras, sources):
            pin = pins[name].get(canonicalize_name(wanted.name))
            if pin is None or not wanted.specifier.contains(pin, prereleases=True):
                found.append(Finding(path, 1, f"`{wanted}` is not what is locked ({pin}): run `make lock`"))
        for package, pin in pins[under].items() if under else ():
            if pins[name].get(package) != pin:
                found.append(Finding(path, 1, f"`{package}` is not pinned as in {under}.txt: run `make lock`"))
    return found


def read_pins(text: str) -> tuple[dict[str, str], list[tuple[int, str]]]:
    """The pins of a locked file, and the lines that are no pin with a hash."""
    pins: dict[str, str] = {}
    wrong: list[tuple[int, str]] = []
    joined = re.sub(r"\\\n", lambda _: "\0", text)
    line = 1
    for statement in joined.split("\n"):
        words = statement.split("#")[0].replace("\0", " ").split()
        match words:
            case []:
                pass
            case [pin, *hashes] if re.fullmatch(r"[a-z0-9-]+==[^=;@/]+", pin) and hashes:
                package, _, version = pin.partition("==")
                pins[package] = version
                if not all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word) for word in hashes):
                    wrong.append((line, f"`{pin}` has more than hashes behind it"))
            case [first, *_]:
                wrong.append((line, f"`{first}` is not one pinned package with its hashes"))
        line += 1 + statement.count("\0")
    return pins, wrong


def _wanted(folder: Path, project: Path, extras: tuple[str, ...], sources: tuple[str, ...]) -> Iterator[Requirement]:
    declared = tomllib.loads(project.read_text())["project"]
    for source in sources:
        if source == "pyproject.toml":
            lines = [
                *declared["dependencies"],
                *(one for extra in extras for one in declared["optional-dependencies"][extra]),
            ]
        else:
            lines = [line for line in (folder / source).read_text().splitlines() if line and not line.startswith("#")]
        yield from map(Requirement, lines)


def main(arguments: list[str]) -> int:
    """`[--upgrade]` keeps the pins that still satisfy, or takes the newest of everything; `--check` only reads."""
    if "--check" in arguments:
        return report("locks", len(LAYERS), check(ROOT / "requirements", ROOT / "pyproject.toml"))
    if sys.version_info[:2] != FLOOR:
        want = ".".join(map(str, FLOOR))
        print(
            f"lock: compile with Python {want}, the oldest supported: `make lock PYTHON=python{want}`", file=sys.stderr
        )
        return 1
    for name, extras, sources, under in LAYERS:
        print(f"lock: requirements/{name}.txt")
        compile_layer(name, extras, sources, under, upgrade="--upgrade" in arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
