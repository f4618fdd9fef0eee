"""Whether a definition that a server offers is the one a person approved: by the digest of the whole object.

Decides approved, new or changed; what is then withheld is `settle`'s, whether the tool still runs is `admit`'s.
INVARIANT: the digest covers the whole definition as canonical JSON: name, description, schemas, annotations and every
member that nobody knows yet. A difference is shown in ASCII only, so that nothing in it can pose as something else.
"""

from __future__ import annotations

import difflib
import json
from enum import StrEnum
from typing import Any

from citywatch.core.canonical import canonical, digest

_DOMAIN = b"citywatch/definition/v1\n"
MAX_DIFFERENCE = 4_000
"""How much of a difference an entry of the log holds; a person who approves is shown all of it."""


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
    """What changed from one definition to another, line by line, for a person; cut at `limit` characters, if any."""
    lines = difflib.unified_diff(_lines(approved), _lines(offered), "approved", "offered", lineterm="", n=1)
    text = "\n".join(lines)
    return text if limit is None or len(text) <= limit else text[:limit] + "\n... (cut)"


def _lines(definition: Any) -> list[str]:
    if definition is None:
        return []
    return json.dumps(definition, indent=2, sort_keys=True, ensure_ascii=True).splitlines()
