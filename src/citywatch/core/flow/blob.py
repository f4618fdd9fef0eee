"""Bytes that are no text (images, sound, files), known by their digest: in what a server sends, and in a call.

Decides which members of a message hold such bytes, and whether a value of a call is them again. Does not look into
them: a picture of a sentence is read by a model and by nothing here, so whoever could have made it shaped whoever saw
it. SPEC: MCP `ImageContent`, `AudioContent`, `EmbeddedResource`, `BlobResourceContents`; RFC 4648 §4; RFC 2397.

INVARIANTS: only the one spelling of base64 that encodes these bytes is met (padded, no other bits, no line breaks), and
a data URI only under the type that the bytes came with, or the dress could carry a message; bytes that were cut, joined
or encoded again are met nowhere, so that the context's label holds for them; at most `MAX_BLOBS` are told apart, and
that there were more is said.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

BLOB: Final = "blob"
"""The kind of the mark that a part carries for the bytes which came in it."""
MAX_BLOBS: Final = 64
LEAST: Final = 32
"""A shorter value is a word that happens to be spelt like base64."""
_MEMBERS: Final = ("data", "blob")


class Blob(msgspec.Struct, frozen=True):
    """Bytes in a message: where they stood, their type as it was said, their digest ("" if they are no base64)."""

    path: str
    media: str
    digest: str


def find_blobs(value: Any, path: str) -> tuple[tuple[Blob, ...], bool]:
    """All that a message holds, in its order; and whether there were more than are told apart."""
    if not _may_hold(value):
        return (), False
    found = list(_found(value, path))
    return tuple(found[:MAX_BLOBS]), len(found) > MAX_BLOBS


def _may_hold(value: Any) -> bool:
    """Whether any object in it has a member of one of the names, which few have; without a word where it stands."""
    pending = [value]
    while pending:
        inside = pending.pop()
        if isinstance(inside, dict):
            if "data" in inside or "blob" in inside:
                return True
            pending += inside.values()
        elif isinstance(inside, list):
            pending += inside
    return False


def _found(value: Any, path: str) -> Iterator[Blob]:
    pending: list[tuple[str, Any]] = [(path, value)]
    count = 0
    while pending and count <= MAX_BLOBS:
        where, inside = pending.pop()
        if isinstance(inside, dict):
            for member in _MEMBERS:
                if (data := blob_data(inside, member)) is not None:
                    yield Blob(f"{where}.{member}"[:256], _media(inside.get("mimeType")), digest_of(data))
                    count += 1
            pending += [(f"{where}.{name[:64]}", one) for name, one in reversed(inside.items())]
        elif isinstance(inside, list):
            pending += [(f"{where}[{at}]", one) for at, one in reversed(list(enumerate(inside)))]


def blob_data(holder: Any, member: str) -> str | None:
    """The bytes that an object holds under this name, as they came; None if the name holds something else."""
    data = holder.get(member) if isinstance(holder, dict) else None
    named = member == "blob" or holder.get("type") in ("image", "audio") or "mimeType" in holder
    return data if isinstance(data, str) and named else None


def digest_of(data: str) -> str:
    """The digest of what this spells, if it is the one spelling of that; otherwise nothing."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return hashlib.sha256(raw).hexdigest() if base64.b64encode(raw).decode() == data else ""


def sent_blob(value: object) -> tuple[str, str | None] | None:
    """The digest of the bytes that a value of a call is, and the type that it says they have; None if it is a text."""
    if not isinstance(value, str) or len(value) < LEAST:
        return None
    media, data = None, value
    if value.startswith("data:"):
        head, comma, data = value.partition(",")
        if not comma or not head.endswith(";base64"):
            return None
        media = head[len("data:") : -len(";base64")]
    found = digest_of(data) if len(data) % 4 == 0 else ""
    return (found, media) if found else None


def _media(said: Any) -> str:
    return said[:128] if isinstance(said, str) else ""
