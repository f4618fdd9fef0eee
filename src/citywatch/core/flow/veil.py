"""A reply's value with handles in the place of what its manifest hides.

Decides which parts of a value a model is shown, by the same declarations and the same rule (the most specific path
wins) by which `fields` labels them. Does not decide who may use what was hidden.

INVARIANTS: no leaf whose declaration says `handle` is shown, nor the name of a member beside it that the operator did
not write into a path; where it is not sure what is hidden, all of it is; a null is shown, for it says nothing.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from citywatch.core.flow.fields import Fields, Node, meet
from citywatch.core.flow.handle import Name, format_handle
from citywatch.core.manifest import UNTRUSTED, Output, audience_of

MAX_HIDDEN: Final = 2048
"""Values of one reply that are hidden each by itself: a reply with more is one handle."""
MAX_DEPTH: Final = 128
OTHERS: Final = "cw:others"
"""The member that stands for those whose names no path says. No server's own: it would be hidden with them."""


class Hidden(msgspec.Struct, frozen=True):
    """What stands behind one handle: where it stood, itself, how it was declared, who may see it (None: everybody)."""

    path: str
    value: Any
    output: Output
    readers: frozenset[str] | None


class _Full(Exception):
    """There is no room for one more."""


class Veil:
    """The handles of one reply, in order; `hidden` is what they stand for. `shelf` is the name they share."""

    def __init__(self, fields: Fields, shelf: str) -> None:
        self._fields = fields
        self._shelf = shelf
        self.hidden: list[Hidden] = []

    def over(self, value: Any) -> Any:
        """What may be shown of a value, with a handle for the rest."""
        before = len(self.hidden)
        try:
            return self._shown(self._fields.root(value), 0)
        except _Full:
            del self.hidden[before:]
            return self.all_of("$", value)

    def all_of(self, path: str, value: Any) -> str:
        """One handle for a value of which nothing may be shown: for the eyes of those alone who may see every field."""
        return self._put(Hidden(path, value, UNTRUSTED, self._fields.readers))

    def _shown(self, node: Node, depth: int) -> Any:
        inside, hides = node.value, node.output.handle
        nested = isinstance(inside, dict | list) and (not hides or self._fields.goes_on(node))
        if inside is None or not (hides or nested):
            return inside
        if depth > MAX_DEPTH:
            return self.all_of(node.path, inside)
        if not nested:
            return self._hide(node)
        if isinstance(inside, list):
            return [self._shown(child, depth + 1) for _, child in self._fields.children(node)]
        shown: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for key, child in self._fields.children(node):
            if hides and not self._fields.names(node, key):
                others[key] = child.value
            else:
                shown[key] = self._shown(child, depth + 1)
        if others:
            shown[OTHERS] = self._put(Hidden(node.path, others, UNTRUSTED, self._fields.readers))
        return shown

    def _hide(self, node: Node) -> str:
        output = node.output
        readers = self._fields.seen_by(node)
        if isinstance(node.value, dict | list):
            readers = meet((audience_of(output.readers), self._fields.readers))
        if len(self.hidden) >= MAX_HIDDEN:
            raise _Full
        return self._put(Hidden(node.path, node.value, output, readers))

    def _put(self, hidden: Hidden) -> str:
        self.hidden.append(hidden)
        return format_handle(Name(self._shelf, len(self.hidden) - 1))
