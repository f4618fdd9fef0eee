"""The house's words and sizes, where they can be read off the syntax tree.

Decides: no refused word in the name of a module, class or function; no `except` in core or service that would swallow a
defect (one that lets everything go but a native library's panic swallows none); a file above 400 lines says in its
docstring why it is one thing; every module says what it is. Does not decide whether a name is good. INVARIANT: each
rule has a seeded violation in `tests/architecture`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.findings import ROOT, Finding, python_files, report

REFUSED = frozenset("manager helper helpers util utils engine base impl enhanced smart v2".split())
LONGEST = 400
EXCUSE = "one thing because"
INNER = (("src", "citywatch", "core"), ("src", "citywatch", "service"))
BROAD = frozenset({"Exception", "BaseException"})
_WORD = re.compile(r"[A-Z]+[0-9]*(?![a-z])|[A-Z]?[a-z]+[0-9]*|[0-9]+")


def check(source: str, path: Path) -> list[Finding]:
    """Everything in one file that the house refuses, in the order of its lines."""
    tree = ast.parse(source)
    parts = path.parts
    inner = any(ring in INNER for ring in zip(parts, parts[1:], parts[2:], strict=False))
    found = [Finding(path, 1, text) for text in (*_named(path.stem), *_described(tree, source))]
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found += [Finding(path, node.lineno, text) for text in _named(node.name)]
        if inner:
            found += [Finding(path, line, text) for line, text in _broad(node)]
    return sorted(found)


def words(name: str) -> list[str]:
    """The words of an identifier: `verify_v2` is `verify`, `v2`; `HTTPEngine` is `http`, `engine`."""
    return [word.lower() for word in _WORD.findall(name)]


def _named(name: str) -> Iterator[str]:
    for word in words(name):
        if word in REFUSED:
            yield f"`{name}` says `{word}`, which says nothing: name what it is or does"


def _described(tree: ast.Module, source: str) -> Iterator[str]:
    docstring = ast.get_docstring(tree) or ""
    lines = source.count("\n")
    if lines and not docstring:
        yield "the module does not say what it decides"
    if lines > LONGEST and EXCUSE not in " ".join(docstring.split()):
        yield f"{lines} lines: split it, or say in the docstring that it is `{EXCUSE} ...`"


def _broad(node: ast.AST) -> Iterator[tuple[int, str]]:
    caught: list[ast.expr | None] = []
    if isinstance(node, ast.ExceptHandler) and not _only_panics(node):
        caught = list(node.type.elts) if isinstance(node.type, ast.Tuple) else [node.type]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
        caught = list(node.args)
    for kind in caught:
        if kind is None or ast.unparse(kind).split(".")[-1] in BROAD:
            line = getattr(node, "lineno", 1)
            yield line, "a broad `except` in an inner ring hides a defect: name what can happen"


def _only_panics(handler: ast.ExceptHandler) -> bool:
    """A native library's panic has no class to name: a handler may begin by raising again whatever is not one."""
    match handler.body[0]:
        case ast.If(
            test=ast.Compare(ops=[ast.NotEq()], comparators=[ast.Constant(value="PanicException")]),
            body=[ast.Raise(exc=None)],
            orelse=[],
        ):
            return True
    return False


def main() -> int:
    files = python_files([ROOT / "src", ROOT / "tools", ROOT / "spec", ROOT / "bench", ROOT / "examples"])
    return report("house", len(files), [finding for path in files for finding in check(path.read_text(), path)])


if __name__ == "__main__":
    sys.exit(main())
