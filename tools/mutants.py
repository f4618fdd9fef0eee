"""Remove a line that enforces an invariant, and see the test that is named for it fail.

Reads `tools/mutants.toml`, whose head explains the fields. For each mutant: in a copy of the tree, the text to find is
replaced and the named test is run; it must fail there, by an assertion or an exception of its own and not because
nothing could be imported or collected, and it must pass in the copy as it was.

Decides only whether tests notice; which lines deserve a mutant is for people to say. INVARIANTS: the tests import the
copy, never the installed package; a text that is absent or stands there twice is an error, so that a mutant cannot
outlive the line it removes; each of the house's invariants has a mutant or is listed as `later` with the reason.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tools.findings import ROOT

LIST = ROOT / "tools" / "mutants.toml"
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "node_modules",
    "build",
    "dist",
    "*.egg-info",
    ".coverage*",
)
JOBS = 2
SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One line to remove, and the test that must notice."""

    name: str
    invariant: int
    file: str
    find: str
    replace: str
    test: str


class Unusable(Exception):
    """The list of mutants cannot be what its author meant."""


def read_list(path: Path, tree: Path) -> list[Mutant]:
    """Parse the list and hold it against the tree it speaks of; raise `Unusable` with all that is wrong."""
    document = tomllib.loads(path.read_text())
    wrong: list[str] = []
    mutants: list[Mutant] = []
    for fields in document.get("mutant", []):
        try:
            mutants.append(Mutant(**fields))
        except TypeError as error:
            wrong.append(f"`{fields.get('name')}`: {error}")
    wrong += [text for mutant in mutants for text in _misfits(mutant, tree)]
    names = [mutant.name for mutant in mutants]
    wrong += [f"`{name}` is listed twice" for name in sorted({name for name in names if names.count(name) > 1})]
    wrong += _uncovered(document, mutants)
    if not mutants:
        wrong.append("there is no mutant")
    if wrong:
        raise Unusable("\n".join(wrong))
    return mutants


def _misfits(mutant: Mutant, tree: Path) -> Iterator[str]:
    file = tree / mutant.file
    times = file.read_text().count(mutant.find) if file.is_file() else 0
    if times != 1:
        yield f"`{mutant.name}`: the text to find stands {times} times in {mutant.file}, not once"
    if mutant.find == mutant.replace:
        yield f"`{mutant.name}`: nothing is changed"
    path, _, name = mutant.test.partition("[")[0].partition("::")
    if not name or not (tree / path).is_file():
        yield f"`{mutant.name}`: `{mutant.test}` is not a test's id (path::name)"
    elif f"def {name.rpartition('::')[2]}(" not in (tree / path).read_text():
        yield f"`{mutant.name}`: `{path}` has no test `{name}`"


def _uncovered(document: dict[str, dict[str, str]], mutants: list[Mutant]) -> Iterator[str]:
    known = {int(number) for number in document.get("invariants", {})}
    later = {int(number) for number in document.get("later", {})}
    covered = {mutant.invariant for mutant in mutants}
    for number in sorted(known - covered - later):
        yield f"invariant {number} has no mutant"
    for number in sorted(covered & later):
        yield f"invariant {number} has a mutant and is still listed as later"
    for number in sorted((covered | later) - known):
        yield f"invariant {number} is not one of the house's"


@contextmanager
def replaced(file: Path, find: str, replace: str) -> Iterator[None]:
    """The file with the text replaced, and afterwards as it was."""
    text = file.read_text()
    file.write_text(text.replace(find, replace, 1))
    try:
        yield
    finally:
        file.write_text(text)


def run_tests(tree: Path, *tests: str) -> tuple[int, str]:
    """Run tests in a copy of the tree; return pytest's exit status (None of its own: 124, hung) and its output."""
    # No bytecode: a mutant of the same length, written within the same second, would be run from its unmutated cache.
    env = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": "ci"}
    command = [sys.executable, "-m", "pytest", "-x", "--tb=short", "-p", "no:cacheprovider", *tests]
    process = subprocess.Popen(
        command, cwd=tree, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, process.communicate()[0]


def judge(tree: Path, mutant: Mutant) -> str:
    """Run one mutant in a copy; return `killed`, or what went wrong instead."""
    with replaced(tree / mutant.file, mutant.find, mutant.replace):
        status, output = run_tests(tree, mutant.test)
    if status == 0:
        return f"SURVIVED: {mutant.test} passes without it"
    if status == 1 and re.search(r"\b\d+ failed\b", output.strip().splitlines()[-1]):
        return "killed"
    return f"NO VERDICT: pytest ended with {status}\n{output}"


def copy_tree(source: Path, target: Path) -> Path:
    """Copy what the tests need, and make sure that they would import the copy."""
    shutil.copytree(source, target, ignore=LEFT_OUT, symlinks=True)
    packages = [path.parent.name for path in (target / "src").glob("*/__init__.py")]
    where = f"import importlib.util as u; print([u.find_spec(name).origin for name in {packages!r}])"
    env = {**os.environ, "PYTHONPATH": str(target / "src")}
    printed = subprocess.run(
        [sys.executable, "-c", where], cwd=target, env=env, capture_output=True, text=True, check=True
    )
    if not packages or printed.stdout.count(str(target)) != len(packages):
        raise Unusable(f"the tests would not import the copy but {printed.stdout.strip()}")
    return target


def run_all(source: Path, mutants: list[Mutant], jobs: int = JOBS) -> int:
    """Judge every mutant, `jobs` at a time; print a line for each and return how many were not killed."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copies.put(copy_tree(source.resolve(), Path(folder).resolve() / str(number)))
        first = copies.get()
        copies.put(first)
        status, output = run_tests(first, *dict.fromkeys(mutant.test for mutant in mutants))
        if status != 0:
            print(f"{output}\nmutants: the tests must pass before anything is removed")
            return len(mutants)

        def one(mutant: Mutant) -> bool:
            tree, begun = copies.get(), time.monotonic()
            try:
                verdict = judge(tree, mutant)
            finally:
                copies.put(tree)
            print(f"{mutant.invariant:>2}  {mutant.name}: {verdict} ({time.monotonic() - begun:.1f} s)", flush=True)
            return verdict == "killed"

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, mutants)).count(False)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="mutants", description="Remove lines that enforce invariants; tests must fail."
    )
    parser.add_argument("--only", metavar="TEXT", default="", help="the mutants whose name or file contains TEXT")
    parser.add_argument("--jobs", type=int, default=JOBS)
    chosen = parser.parse_args(arguments)
    try:
        mutants = [one for one in read_list(LIST, ROOT) if chosen.only in one.name or chosen.only in one.file]
        alive = run_all(ROOT, mutants, chosen.jobs)
    except Unusable as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 1
    print(f"mutants: {len(mutants)} removed, {len(mutants) - alive} noticed, {alive} not")
    return 1 if alive or not mutants else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
