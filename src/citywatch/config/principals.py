"""The `principals` part of the file: the people and system accounts whose words may steer acts, and which acts.

Decides which declarations make sense. INVARIANT: an act names a server, and a tool if it names one, that the file
declares: a typing error cannot take a right away, or give one, in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from citywatch.config.document import Node
from citywatch.config.reader import Notes, Reader, each, instead, named, shown, some, text
from citywatch.config.table import Section, table
from citywatch.core.manifest import Principal
from citywatch.core.names import parse_segment

Declared = Mapping[str, Collection[str]]


def principals(declared: Declared) -> Reader[dict[str, Principal]]:
    """All principals; `declared` names the tools of each server in the file."""

    def act(notes: Notes, node: Node, path: str) -> str | None:
        word = text(notes, node, path)
        if word is None or word == "*":
            return word
        server, slash, tool = word.partition("/")
        if not slash or not tool:
            notes.wrong(node, path, f"{shown(word)} is not an act", "write <server>/<tool>, <server>/* or *")
        elif server not in declared:
            notes.wrong(node, path, f"no server {shown(server)} in this file", instead(server, declared))
        elif tool != "*" and tool not in declared[server]:
            known = declared[server]
            advice = instead(tool, known) if known else f"declare it under servers.{server}.tools"
            notes.wrong(node, path, f"server `{server}` declares no tool {shown(tool)}", advice)
        else:
            return word
        return None

    def principal(notes: Notes, node: Node, path: str, name: str) -> Principal | None:
        section = Section(notes, node, path, "principals.*")
        may, own = section.need("may", some(act), "[server/tool]"), section.get("own", each(text), ())
        return None if may is None else Principal(name=name, may=may, own=own)

    return table(named(lambda name: parse_segment(name, "name for a principal")), principal)
