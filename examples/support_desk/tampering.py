"""One changed byte in a copy of the log: what somebody would do who wants a refusal to have never been.

Decides nothing. INVARIANT: the copy differs from the export in exactly one byte.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

DECISION = re.compile(rb'"decision":"(\w+)"')


class NothingToTamper(Exception):
    """The export holds no decision: nothing was guarded."""


def flip_one_byte(export: Path, copy: Path) -> str:
    """Copy an export with one byte changed, in its first refusal (else its first decision); say which."""
    raw = export.read_bytes()
    found = [
        (line["index"], leaf, match)
        for line in map(json.loads, raw.splitlines())
        for leaf in [base64.b64decode(line.get("leaf", ""))]
        for match in DECISION.finditer(leaf)
    ]
    if not found:
        raise NothingToTamper(f"`{export.name}` holds no decision: nothing was guarded")
    index, leaf, match = next((one for one in found if one[2][1] != b"allow"), found[0])
    last = match.end(1) - 1
    # The lowest bit of a byte stands in one character of the base64, so one byte of the file differs and no more.
    changed = leaf[:last] + bytes([leaf[last] ^ 1]) + leaf[last + 1 :]
    copy.write_bytes(raw.replace(base64.b64encode(leaf), base64.b64encode(changed), 1))
    before, after = match[1].decode(), changed[match.start(1) : last + 1].decode()
    return f"A copy with one byte changed: entry {index} says `{after}` instead of `{before}`."
