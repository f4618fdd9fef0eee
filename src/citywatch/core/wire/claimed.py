"""What comes beside a message in its metadata: the label that an agent claims for it, a gateway's envelope around it.

Decides the form of both. A claimed label is joined, so that it only tightens. INVARIANT: neither is
believed for its form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from citywatch.core.errors import Malformed
from citywatch.core.label import Label, parse_label

MAX_CLAIMED: Final = 32
MAX_TOKEN: Final = 8_192


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


def read_token(metadata: Mapping[str, Any], key: str) -> str | None:
    """The envelope of a message, as it came; None if it came in none."""
    token = metadata.get(key)
    if token is not None and not (type(token) is str and 0 < len(token) <= MAX_TOKEN):
        raise Malformed(f"`{key}` in `metadata` is a compact JWS of at most {MAX_TOKEN} characters")
    return token
