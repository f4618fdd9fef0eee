"""Whether a definition that a server offers is the one a person approved: by the digest of the whole object.

Decides approved, new or changed; what is then withheld is `settle`'s, whether the tool still runs is `admit`'s.
INVARIANT: the digest covers the whole definition as canonical JSON: name, description, schemas, annotations and every
member that nobody knows yet. A difference is shown in ASCII only, so that nothing in it can pose as something else.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from citywatch.core.canonical import canonical, digest

_DOMAIN = b"citywatch/definition/v1\n"
MAX_DIFFERENCE = 4_000
"""How much of a difference an entry of the log holds; a person who approves is shown all of it."""
_COMPARED = 4_000_000
_COMPARED_WAITING = 10_000
"""How many pairs of lines are compared to find the shortest difference, which takes quadratic time and more."""


class Standing(StrEnum):
    """How an offered definition stands to what was approved."""

    APPROVED = "approved"
    NEW = "new"
    CHANGED = "changed"


def definition_bytes(definition: Any) -> bytes:
    """The whole definition as canonical JSON."""
    return canonical(definition)


def definition_digest(body: bytes) -> str:
    """The digest under which a definition is approved; `body` comes from `definition_bytes`."""
    return digest(_DOMAIN + body)


def difference(approved: Any, offered: Any, limit: int | None = None) -> str:
    """What changed from one definition to another, line by line, for a person; cut at `limit` characters, if any.

    With a limit it is written while everybody waits for the gateway, so that little is compared before it is cut.
    """
    old, new = _lines(approved), _lines(offered)
    if len(old) * len(new) <= (_COMPARED if limit is None else _COMPARED_WAITING):
        lines = difflib.unified_diff(old, new, "approved", "offered", lineterm="", n=1)
    else:
        lines = _replaced(old, new, None if limit is None else limit // 2)
    text = "\n".join(lines)
    return text if limit is None or len(text) <= limit else text[:limit] + "\n... (cut)"


def _replaced(old: list[str], new: list[str], each: int | None) -> Iterator[str]:
    """One change from the first line that differs to the last, in linear time; each side cut at `each` characters."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    gone, come = old[start : len(old) - end], new[start : len(new) - end]
    yield from ("--- approved", "+++ offered")
    yield f"@@ -{start + 1},{len(gone)} +{start + 1},{len(come)} @@"
    for sign, lines in (("-", gone), ("+", come)):
        text = "\n".join(sign + line for line in lines)
        yield text if each is None or len(text) <= each else text[:each] + "\n... (cut)"


def _lines(definition: Any) -> list[str]:
    if definition is None:
        return []
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=True).splitlines()
