"""Only `flow.release` lets a label down: who makes a label of a part of another, or a receipt, is known by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "citywatch"
MAKERS = {
    # Where a label is let down: what `release` gets, and checks to be below.
    "core/enforce/released.py": {"_lower", "approve", "disclosed_to"},
    "core/enforce/clearing.py": {"cleared"},
    # What a write carries on (see ADR 0013), and what a temporal rule looks at: nothing keeps it.
    "core/enforce/context.py": {"onward"},
    "core/enforce/past.py": {"happening_of"},
    # What an agent sees of a field that it is given as a handle: the text itself stays with its own label.
    "core/enforce/receive.py": {"carried", "hidden_label"},
    # What another domain's gateway says of its servers' own data: the manifest here has said it, and this is joined.
    "core/enforce/abroad.py": {"_without_servers"},
    # A context that nobody has: what a hijacked agent could reach.
    "core/enforce/probe.py": {"_flow"},
    # A context of the past, as the log says that an operator let it down; it explains and decides nothing.
    "service/hindsight.py": {"_let_down"},
}
REPLACERS = {
    "service/contexts.py": {"add_item", "risen", "from_abroad"},
    "service/quarantine.py": {"_frozen"},
    "core/enforce/clearing.py": {"cleared"},
    "core/enforce/receive.py": {"item"},
    # The label that goes out with a reply: what was released has none here.
    "core/enforce/abroad.py": {"labelled"},
}
RECEIPTS = {"core/flow/release.py": {"at"}}
LOWERINGS = {"core/flow/release.py": {"lowering"}}
"""Who makes what a receipt is made of: the one that looks whether it goes down."""


def calls(tree: ast.AST, inside: str = "<module>") -> Iterator[tuple[str, ast.Call]]:
    """Every call in a tree, with the function that it stands in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield inside, node
        yield from calls(node, node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else inside)


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def makers(source: str, name: str) -> set[str]:
    return {inside for inside, call in calls(ast.parse(source)) if name_of(call) == name}


def remade(source: str) -> set[str]:
    """Functions that make a label out of a part of another one: what is made of a part alone may be below the whole."""
    return {
        inside
        for inside, call in calls(ast.parse(source))
        if name_of(call) == "Label"
        and any(
            isinstance(part, ast.Attribute) and part.attr in ("origins", "readers")
            for given in (*call.args, *(one.value for one in call.keywords))
            for part in ast.walk(given)
        )
    }


def replacers(source: str) -> set[str]:
    """Functions that put another label in a struct's place."""
    return {
        inside
        for inside, call in calls(ast.parse(source))
        if name_of(call) == "replace" and any(one.arg in ("label", "origins", None) for one in call.keywords)
    }


def over_all(found: Iterator[tuple[str, set[str]]]) -> dict[str, set[str]]:
    return {path: names for path, names in found if names}


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), path.read_text()


def test_labels_are_made_of_parts_of_others_in_known_places() -> None:
    found = over_all((path, remade(source)) for path, source in sources() if path != "core/label.py")
    assert {path: names - MAKERS.get(path, set()) for path, names in found.items()} == {path: set() for path in found}


def test_a_label_is_put_in_anothers_place_where_it_is_joined_or_released() -> None:
    found = over_all((path, replacers(source)) for path, source in sources())
    assert {path: names - REPLACERS.get(path, set()) for path, names in found.items()} == {
        path: set() for path in found
    }


def test_a_receipt_is_made_of_a_step_down_that_was_looked_at_and_of_nothing_else() -> None:
    assert over_all((path, makers(source, "Release")) for path, source in sources()) == RECEIPTS
    assert over_all((path, makers(source, "Lowering")) for path, source in sources()) == LOWERINGS


def test_the_rules_see_what_they_refuse() -> None:
    seeded = "def f(x):\n    return Label(frozenset(), x.readers)\ndef g(x):\n    return label.Label(None, None)\n"
    assert remade(seeded) == {"f"}
    assert makers("def f():\n    return Release(path='to')", "Release") == {"f"}
    assert replacers("def f(c):\n    return msgspec.structs.replace(c, label=LOW)") == {"f"}
    assert replacers("def f(c, how):\n    return replace(c, **how)") == {"f"}
    assert replacers("def f(c):\n    return msgspec.structs.replace(c, items=1)") == set()
