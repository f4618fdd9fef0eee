"""The `audiences` part of the file: groups of readers by name, and what a name in a manifest stands for.

Decides who belongs to which audience. INVARIANTS: once the file has `audiences`, a name that is none of them is a
mistake, with its place: a typing error can neither open a field to somebody nor close it in silence; `everybody` is no
audience that could be declared; no audience is a member of itself, however far around.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from citywatch.config.document import Items, Node, Scalar
from citywatch.config.reader import Notes, instead, named, shown, some, text
from citywatch.config.table import table
from citywatch.core.errors import Malformed
from citywatch.core.label import MAX_READERS
from citywatch.core.manifest import EVERYBODY
from citywatch.core.names import parse_segment

PERSON = "person"
KINDS = ("agent", "principal", "server", PERSON)
"""What stands before the colon of a member that is no audience itself. A `person` need not be declared anywhere."""


def audiences(
    notes: Notes, node: Node, path: str, declared: Mapping[str, Collection[str]]
) -> dict[str, frozenset[str]]:
    """All audiences with their members; `declared` has the names of agents, principals and servers in the file."""
    nodes: dict[str, Node] = {}

    def one(notes: Notes, inner: Node, path: str, name: str) -> tuple[str, ...] | None:
        nodes[name] = inner
        return some(text)(notes, inner, path)

    raw = table(named(_name), one)(notes, node, path) or {}
    _each_known(notes, path, nodes, raw, declared)
    found: dict[str, frozenset[str]] = {}
    for name in raw:
        within = _within(name, raw)
        members = frozenset(one for of in (name, *within) for one in raw.get(of, ()) if ":" in one)
        if name in within:
            notes.wrong(nodes[name], f"{path}.{name}", f"`{name}` is a member of itself", "take it out of one of them")
        elif len(members) > MAX_READERS:
            advice = f"name groups as `{PERSON}:<group>` where they need not be told apart"
            notes.wrong(nodes[name], f"{path}.{name}", f"an audience has at most {MAX_READERS} members", advice)
        else:
            found[name] = members
    return found


def readers(notes: Notes, node: Node, path: str) -> tuple[str, ...] | None:
    """The audiences that a manifest names, as their members; before the file declares any, each stands for itself."""
    names = some(text)(notes, node, path)
    if names is None or notes.audiences is None:
        return names
    members: dict[str, None] = {}
    for name, item in zip(names, node.items if isinstance(node, Items) else (), strict=False):
        if name == EVERYBODY:
            members[EVERYBODY] = None
        elif name in notes.audiences:
            members.update(dict.fromkeys(sorted(notes.audiences[name])))
        else:
            advice = instead(name, (*notes.audiences, EVERYBODY))
            notes.wrong(item, path, f"no audience {shown(name)} in this file", advice)
    if len(members) > MAX_READERS:
        notes.wrong(node, path, f"more than {MAX_READERS} members in all", "name fewer, or larger groups")
    return tuple(members) or (EVERYBODY,)


def _name(word: str) -> str:
    if word == EVERYBODY:
        raise Malformed(f"`{EVERYBODY}` is no name for an audience: it stands for all")
    return parse_segment(word, "name for an audience")


def _each_known(
    notes: Notes,
    path: str,
    nodes: Mapping[str, Node],
    raw: Mapping[str, tuple[str, ...]],
    declared: Mapping[str, Collection[str]],
) -> None:
    for name, node in nodes.items():
        for item in node.items if isinstance(node, Items) else ():
            if isinstance(item, Scalar) and item.value in raw.get(name, ()):
                _known(notes, item, f"{path}.{name}", nodes, declared)


def _known(
    notes: Notes, item: Scalar, path: str, audiences: Collection[str], declared: Mapping[str, Collection[str]]
) -> None:
    """Whether a member is an audience, or somebody who is in this file."""
    kind, colon, who = item.value.partition(":")
    if not colon and item.value not in audiences:
        advice = f"write an audience, or one of {', '.join(f'{one}:NAME' for one in KINDS)}"
        notes.wrong(item, path, f"no audience {shown(item.value)} in this file", advice)
    elif colon and (kind not in KINDS or not who):
        advice = f"write one of {', '.join(KINDS)}, a colon and a name"
        notes.wrong(item, path, f"{shown(item.value)} is no member", advice)
    elif colon and kind != PERSON and who not in declared[kind]:
        notes.wrong(item, path, f"no {kind} {shown(who)} in this file", instead(who, declared[kind]))


def _within(name: str, raw: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The audiences that belong to this one, through others; itself only if it does."""
    found: set[str] = set()
    pending = [name]
    while pending:
        inner = {one for one in raw.get(pending.pop(), ()) if ":" not in one} - found
        found |= inner
        pending += inner
    return found
