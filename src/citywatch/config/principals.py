"""The `principals` part of the file: the people and system accounts whose words may steer acts, and which acts.

Decides which declarations make sense; which acts there are is told in `acts`.
"""

from __future__ import annotations

from citywatch.config.acts import Declared, act
from citywatch.config.document import Node
from citywatch.config.reader import Notes, Reader, each, named, some, text
from citywatch.config.table import Section, table
from citywatch.core.manifest import Principal
from citywatch.core.names import parse_segment


def principals(declared: Declared) -> Reader[dict[str, Principal]]:
    """All principals; `declared` names the tools of each server in the file."""

    def principal(notes: Notes, node: Node, path: str, name: str) -> Principal | None:
        section = Section(notes, node, path, "principals.*")
        may, own = section.need("may", some(act(declared)), "[server/tool]"), section.get("own", each(text), ())
        return None if may is None else Principal(name=name, may=may, own=own)

    return table(named(lambda name: parse_segment(name, "name for a principal")), principal)
