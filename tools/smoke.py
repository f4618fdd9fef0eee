"""Does the installed package work by itself? Run by the Python of an environment that holds nothing but the wheel.

    python -I smoke.py        in a folder with `verify_log.py` beside it, and no source tree in reach

1. The package is the installed one, of the version its metadata says, and every module of it can be imported.
2. The command answers.
3. A new configuration, an agent and a log can be made, and the log's export convinces the verifier, which imports
   nothing of ours; with one byte changed it does not.

Uses the standard library only. INVARIANT: what was not checked fails; there is nothing to skip.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMAND = Path(sys.executable).with_name("citywatch")
RUN_ALONE = ("citywatch.__main__", "citywatch.starter.")


class Broken(Exception):
    """The package does not work as installed."""


def expect(holds: bool, what: str) -> None:
    """Go on, or stop with what did not hold."""
    if not holds:
        raise Broken(what)


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Run a command, expect its exit status, return what it printed; where that is no 0, what it complained of."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False)
    shown = " ".join(map(str, command))
    expect(done.returncode == status, f"`{shown}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout if status == 0 else done.stderr


def check_package() -> str:
    """Step 1. Return the version."""
    package = importlib.import_module("citywatch")
    where = Path(str(package.__file__)).resolve()
    expect(where.is_relative_to(Path(sys.prefix).resolve()), f"citywatch was imported from {where}")
    version = importlib.metadata.version("citywatch")
    expect(package.__version__ == version, f"the package says {package.__version__}, its metadata {version}")
    names = [one.name for one in pkgutil.walk_packages(package.__path__, "citywatch.")]
    names = [name for name in names if not name.startswith(RUN_ALONE)]
    for name in names:
        importlib.import_module(name)
    expect(len(names) > 20, f"only {len(names)} modules were found")
    print(f"citywatch {version}: {len(names)} modules import")
    return version


def check_command(version: str) -> None:
    """Step 2."""
    expect(version in run(COMMAND, "--version", cwd=HERE), "`citywatch --version` does not say the version")
    expect("Usage: citywatch" in run(COMMAND, "--help", cwd=HERE), "`citywatch --help` does not say how to use it")
    lacking = run(COMMAND, "demo", cwd=HERE, status=2)  # the examples came along; what they run with is an extra
    expect("pip install 'citywatch[demo]'" in lacking, f"`citywatch demo` does not say what it needs: {lacking}")
    print("the command answers")


def check_log(folder: Path) -> None:
    """Step 3."""
    run(COMMAND, "init", cwd=folder)
    run(COMMAND, "agent", "add", "assistant", "--out", "papers", cwd=folder)
    run(COMMAND, "log", "export", "evidence", cwd=folder)
    key = re.search(r"\S+\+[0-9a-f]{8}\+\S+", run(COMMAND, "log", "key", cwd=folder))
    expect(key is not None, "`citywatch log key` prints no key")
    verify = (sys.executable, "-I", "-S", HERE / "verify_log.py", "export", "evidence", "--key", key[0] if key else "")
    print(run(*verify, cwd=folder).strip())
    evidence = folder / "evidence"
    text = evidence.read_text()
    entry = max(re.finditer(r"[A-Za-z0-9+/=]{40,}", text), key=lambda found: len(found[0]))
    at = (entry.start() + entry.end()) // 2
    evidence.write_text(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :])
    run(*verify, cwd=folder, status=1)
    print("one changed byte is found")


def main() -> int:
    try:
        check_command(check_package())
        with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
            check_log(Path(folder))
    except Broken as broken:
        print(f"smoke: {broken}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
