"""Core decides and does nothing else: no I/O, clock, chance, async or globals, and nothing that signs.

Decides, from the syntax tree alone, whether a file may stand in `core/`: its imports are on the allow-lists below (what
is not listed is refused, so a new module of the standard library is refused until someone thinks about it), it calls
none of the names that touch the world, and of the cryptographic libraries it uses only what verifies.

Does not decide what a listed library does inside, and is no sandbox: it keeps honest authors honest. `getattr` with a
computed name would pass it, and review. INVARIANT: each rule has a seeded violation in `tests/architecture`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.findings import ROOT, Finding, python_files, report

STANDARD = frozenset(
    "__future__ abc base64 binascii bisect codecs collections contextlib copy dataclasses datetime decimal difflib "
    "enum fractions functools graphlib hashlib heapq hmac ipaddress itertools json keyword math numbers operator re "
    "string struct textwrap types typing unicodedata urllib.parse".split()
)
THIRD_PARTY = frozenset("cedarpy cryptography msgspec orjson re2 rfc8785".split())
OWN = "citywatch.core"

CALLS = {
    "open": "opens a file",
    "print": "prints",
    "input": "reads the terminal",
    "breakpoint": "stops for a debugger",
    "eval": "runs text",
    "exec": "runs text",
    "compile": "runs text",
    "__import__": "imports by computed name",
    "globals": "reaches for globals",
    "vars": "reaches for globals",
    "datetime.datetime.now": "reads the clock: take `now`",
    "datetime.datetime.utcnow": "reads the clock: take `now`",
    "datetime.datetime.today": "reads the clock: take `now`",
    "datetime.date.today": "reads the clock: take `now`",
    "functools.cache": "keeps global state: pass a cache in",
    "functools.lru_cache": "keeps global state: pass a cache in",
}
LOCAL_TIME = frozenset({"datetime.datetime.fromtimestamp", "datetime.date.fromtimestamp"})
VERIFIERS = frozenset({"build_client_verifier", "build_server_verifier"})
SIGNING = (
    "PrivateKey",
    "private_key",
    "private_bytes",
    "generate",
    "SigningRequestBuilder",
    "CertificateBuilder",
    "Fernet",
)
CONTAINERS = frozenset(
    {"dict", "list", "set", "collections.defaultdict", "collections.deque", "collections.OrderedDict"}
)


def check(source: str, path: Path) -> list[Finding]:
    """Everything in `source` that core may not contain, in the order of its lines."""
    tree = ast.parse(source)
    aliases = _aliases(tree)
    found = [Finding(path, line, text) for node in ast.walk(tree) for line, text in _node(node, aliases)]
    found += [Finding(path, line, text) for line, text in (*_state(tree, aliases), *_untimed(tree))]
    return sorted(found)


def _aliases(tree: ast.Module) -> dict[str, str]:
    """What each imported name means: `{"dt": "datetime.datetime"}`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    """The full dotted name an expression stands for, or nothing."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value, aliases)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _node(node: ast.AST, aliases: dict[str, str]) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import():
            for alias in node.names:
                yield from _import(node.lineno, alias.name)
        case ast.ImportFrom():
            if node.level:
                yield node.lineno, "a relative import hides which ring it reaches: write it out"
            for alias in node.names:
                yield from _import(node.lineno, f"{node.module}.{alias.name}")
        case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            yield node.lineno, "core is not async"
        case ast.Global():
            yield node.lineno, "core has no globals"
        case ast.Name() | ast.Attribute():
            yield from _use(node, aliases)
        case ast.Call():
            if _dotted(node.func, aliases) in LOCAL_TIME and len(node.args) + len(node.keywords) < 2:
                yield node.lineno, "reads the machine's time zone: pass one"


def _import(line: int, name: str) -> Iterator[tuple[int, str]]:
    parts = name.split(".")
    if parts[0] == "citywatch":
        if not (name + ".").startswith(OWN + "."):
            yield line, f"core imports `{name}`: dependency points inward"
        return
    if parts[0] in THIRD_PARTY:
        yield from _signs(line, parts)
        return
    if not any(".".join(parts[:depth]) in STANDARD for depth in range(1, len(parts) + 1)):
        yield line, f"core may not import `{name}`: it is on no allow-list (tools/purity.py)"


def _use(node: ast.Name | ast.Attribute, aliases: dict[str, str]) -> Iterator[tuple[int, str]]:
    name = _dotted(node, aliases)
    if name in CALLS and isinstance(node.ctx, ast.Load):
        yield node.lineno, f"`{name}` {CALLS[name]}"
    if isinstance(node, ast.Attribute):
        if node.attr == "sign":
            yield node.lineno, "`.sign` signs: core only verifies"
        yield from _signs(node.lineno, [node.attr])


def _signs(line: int, parts: list[str]) -> Iterator[tuple[int, str]]:
    for part in parts:
        if any(word in part for word in SIGNING):
            yield line, f"`{part}` signs or generates: core only verifies"


def _state(tree: ast.Module, aliases: dict[str, str]) -> Iterator[tuple[int, str]]:
    """An empty container at the top of a module is there to be filled: global state."""
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        empty = (isinstance(value, ast.Dict) and not value.keys) or (isinstance(value, ast.List) and not value.elts)
        name = _dotted(value.func, aliases) if isinstance(value, ast.Call) else ""
        filled = isinstance(value, ast.Call) and len(value.args) > (name == "collections.defaultdict")
        called = name in CONTAINERS and not filled
        if empty or called:
            yield node.lineno, "an empty container at the top of a module is global state"


def _untimed(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """X.509 verification reads the clock unless it is told the time, in the same chain of calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in VERIFIERS:
            told = any(isinstance(part, ast.Attribute) and part.attr == "time" for part in ast.walk(node.value))
            if not told:
                yield node.lineno, f"`.{node.attr}` reads the clock: call `.time(...)` in the same chain"


def main() -> int:
    files = python_files([ROOT / "src" / "citywatch" / "core"])
    return report("purity", len(files), [finding for path in files for finding in check(path.read_text(), path)])


if __name__ == "__main__":
    sys.exit(main())
