"""What is imported is declared, and what is declared is imported.

Decides, for everything under `src/`, that each third party it imports is a dependency of `pyproject.toml` (or of an
extra: then only inside a function, or in a file that is run by itself, so that the base install imports without it),
and that nothing declared is dead weight, an extra's parts neither (`bench` and `examples` may be what uses those).
Looks at no versions (`lock`) and not at who imports what
(import-linter).
INVARIANT: each rule has a seeded violation in `tests/architecture`.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.findings import ROOT, Finding, python_files, report

OWN = ("citywatch", "examples")
"""Ours; the wheel carries the examples along."""
ALONE = ("starter",)
"""Folders whose files are run by themselves and never imported by the rest."""
ELSEWHERE = {"agents": "openai-agents", "pydantic_ai": "pydantic-ai-slim"}
"""Modules that are called otherwise than what brings them, and are not installed where this runs."""


def check(
    sources: Mapping[Path, str], project: Path, owners: Mapping[str, Sequence[str]], beside: Iterable[str] = ()
) -> list[Finding]:
    """Hold imports against declarations. `owners` maps a module's name to the distributions that bring it; `beside` are
    sources outside of `src` that an extra may be for."""
    declared = tomllib.loads(project.read_text())["project"]
    base = {canonicalize_name(Requirement(line).name) for line in declared["dependencies"]}
    more = {
        canonicalize_name(Requirement(line).name)
        for extra in declared.get("optional-dependencies", {}).values()
        for line in extra
    }
    found: list[Finding] = []
    imported: set[str] = set()
    for path, source in sources.items():
        for line, module, at_once in third_parties(ast.parse(source)):
            brought = _brought(module, owners)
            imported |= brought
            if brought & base:
                continue
            if not brought & more:
                found.append(Finding(path, line, f"`{module}` is imported and not declared"))
            elif at_once and not set(ALONE) & set(path.parts):
                found.append(Finding(path, line, f"`{module}` is an extra: import it where it is used"))
    elsewhere = {module for source in beside for _, module, _ in third_parties(ast.parse(source))}
    more -= {name for module in elsewhere for name in _brought(module, owners)}
    unused = sorted((base | more) - imported)
    return [*found, *(Finding(project, 1, f"`{name}` is declared and never imported") for name in unused)]


def _brought(module: str, owners: Mapping[str, Sequence[str]]) -> set[str]:
    return {canonicalize_name(owner) for owner in owners.get(module, [ELSEWHERE.get(module, module)])}


def third_parties(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Each import that is neither ours nor the standard library's: line, top-level module, whether loading runs it."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        match node:
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name))]):
                names = [name]
        for name in names:
            module = name.split(".")[0]
            if module not in OWN and module not in sys.stdlib_module_names:
                yield getattr(node, "lineno", 1), module, id(node) not in inside


def main() -> int:
    files = python_files([ROOT / "src"])
    sources = {path: path.read_text() for path in files}
    beside = [path.read_text() for path in python_files([ROOT / "bench", ROOT / "examples"])]
    return report("declared", len(files), check(sources, ROOT / "pyproject.toml", packages_distributions(), beside))


if __name__ == "__main__":
    sys.exit(main())
