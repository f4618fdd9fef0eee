"""What an agent says of the label of its own message: more origins, or fewer readers. It is joined: it only tightens.

Decides whether a value is a label that somebody may claim. INVARIANT: it is never taken for the label itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from citywatch.core.errors import Malformed
from citywatch.core.label import Label, parse_label

MAX_CLAIMED: Final = 32


def read_label(metadata: Mapping[str, Any], key: str) -> Label | None:
    """The label that a sender adds to what its gateway knows; None if it adds none."""
    if key not in metadata:
        return None
    value = metadata[key]
    try:
        if type(value) is not dict or any(type(one) is list and len(one) > MAX_CLAIMED for one in value.values()):
            raise Malformed("no label")
        return parse_label(value)
    except Malformed as failure:
        wanted = f"`origins` and `readers`, at most {MAX_CLAIMED} each"
        raise Malformed(f"`{key}` is a label of {wanted}: {failure}") from None
