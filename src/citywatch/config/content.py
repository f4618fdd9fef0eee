"""The `content` parts of the file: what becomes of what a scan finds on its way to an agent.

Decides which words name something that a scan can find. INVARIANT: a word that names nothing is a mistake: a typing
error cannot leave a kind of secret to pass in silence. Wordings of injections are no such word: no text is refused for
them.
"""

from __future__ import annotations

from collections.abc import Mapping

from citywatch.config.document import Node
from citywatch.config.reader import Notes, instead, one_of, shown, text
from citywatch.config.table import table
from citywatch.core.manifest import Delivery


def _names() -> tuple[str, ...]:
    from citywatch.core.content.window import DETECTORS

    kinds = dict.fromkeys(str(one.kind) for one in DETECTORS)
    return (*kinds, *(f"{one.kind}/{one.name}" for one in DETECTORS))


def _what(notes: Notes, node: Node, path: str) -> str | None:
    word, known = text(notes, node, path), _names()
    if word is not None and word not in known:
        near = instead(word, known) if "/" in word else instead(word, [one for one in known if "/" not in one])
        notes.wrong(node, path, f"{shown(word)} is nothing that a scan finds", near)
        return None
    return word


def _becomes(notes: Notes, node: Node, path: str, _: str) -> Delivery | None:
    word = one_of(Delivery)(notes, node, path)
    return None if word is None else Delivery(word)


def content(notes: Notes, node: Node, path: str) -> Mapping[str, Delivery] | None:
    """What becomes of what is found, by kind, or by kind and name."""
    return table(_what, _becomes)(notes, node, path)
