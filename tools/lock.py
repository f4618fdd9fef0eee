"""Write the hash-locked requirements, one file per use, each a superset of the one before it.

    base  what citywatch runs with            demo  + the example's SDK and the build backend
    dev   + tests, linters, types             bench + the peers that are measured
    conformance: Node, alone                  lock: what this tool itself needs, alone

Decides nothing. INVARIANTS: no registry address is written, so pip asks whatever index its user configured; a pin in
one file is the same pin in every later one (each is compiled under the one before as a constraint); compiled on the
oldest Python we support, because backports are only ever needed there, so one file serves every newer one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOOR = (3, 11)
HEADER = "# Written by `make lock` from {sources}. Every line is pinned and hashed; do not edit.\n"
LAYERS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str | None], ...] = (
    ("base", (), ("pyproject.toml",), None),
    ("demo", ("demo",), ("pyproject.toml", "build.in"), "base"),
    ("dev", ("demo", "speed", "tables"), ("pyproject.toml", "build.in", "dev.in"), "demo"),
    ("bench", ("demo", "speed", "tables"), ("pyproject.toml", "build.in", "dev.in", "bench.in"), "dev"),
    ("conformance", (), ("conformance.in",), None),
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


def main(arguments: list[str]) -> int:
    """`lock.py [--upgrade]`: keep the pins that still satisfy, or take the newest of everything."""
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
