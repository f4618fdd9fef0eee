"""The `federation.*.chains` part of the file: how far chains of grants reach here that another trust domain roots.

Decides what is a well-formed ceiling, in the words in which grants write caveats. INVARIANTS: what a ceiling does not
name is not left (no tool, no skill); how long and how often has no default, for only the operator can say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from citywatch.config.document import Items, Node, Scalar, Table
from citywatch.config.neighbours import Chains
from citywatch.config.reader import Notes, duration, integer
from citywatch.config.table import Section
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.wording import MAX_CALLS, parse_caveats
from citywatch.core.errors import Malformed

WITHIN = ("tools", "skills", "arguments", "readers", "origins")
_CONSTANTS: Mapping[str, Any] = {"true": True, "false": False}


def chains(notes: Notes, node: Node, path: str) -> Chains | None:
    """One ceiling: `{tools: [archive/*], calls: 20, longest: 1h}`."""
    section = Section(notes, node, path, "federation.*.chains")
    longest = section.need("longest", duration("1m", "30d"), "1h")
    calls = section.need("calls", integer(1, MAX_CALLS), "20")
    caveats: dict[str, Any] = {}
    for name in WITHIN:
        if section.has(name):
            value, _ = section.at(name)
            try:
                caveats[name] = _plain(value)
                parse_caveats({name: caveats[name]}, not_after=0, depth=0)
            except Malformed as failure:
                section.wrong(name, str(failure).replace("caveat", "ceiling", 1), "write it as a grant's caveats")
    if isinstance(node, Table) and not (section.has("tools") or section.has("skills")):
        notes.wrong(node, path, "it leaves nothing: no tool and no skill", "write `tools: [server/*]`")
    if longest is None or calls is None:
        return None
    return Chains(caveats=caveats, longest_ms=longest, calls=calls)


def ceiling_of(found: Chains) -> Caveats:
    """What a chain is met with: of tools and skills none but those that are named."""
    return parse_caveats({"tools": [], "skills": [], **found.caveats}, not_after=0, depth=0)


def _plain(node: Node) -> Any:
    """A value as JSON has it."""
    if isinstance(node, Table):
        found = {str(_plain(key)): _plain(value) for key, value in node.pairs}
        if len(found) < len(node.pairs):
            raise Malformed("a name stands here twice")
        return found
    if isinstance(node, Items):
        return [_plain(one) for one in node.items]
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float", "bool", "timestamp"):
        raise Malformed("this is no text, number, true or false")
    if node.kind == "bool":
        return _CONSTANTS.get(node.value, node.value)
    if node.kind == "int" and node.value.lstrip("-").isdecimal():
        return int(node.value)
    return float(node.value) if node.kind == "float" else node.value
