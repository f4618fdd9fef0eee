"""Acts as people write them: `<server>/<tool>`, `<peer>/<skill>`, `<server>/*` or `*`.

Decides what names an act. INVARIANT: an act names a server, and a tool if it names one, that the file declares: a
typing error cannot take a right away, or give one, in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from citywatch.config.document import Node
from citywatch.config.reader import Notes, Reader, instead, shown, text

Declared = Mapping[str, Collection[str]]


def act(declared: Declared) -> Reader[str]:
    """One act; `declared` names the tools of each server in the file."""

    def read(notes: Notes, node: Node, path: str) -> str | None:
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

    return read
