"""What a stranger takes away: a whole log as lines, one entry's proof, the proof that one head grew from another.

Decides how these are written, nothing else: they are checked by `spec/verify_log.py`, which shares no line with us.

INVARIANTS: JSON with no space and no duplicate member, one line each; bytes are padded base64; what is written here is
what `spec/log.md` §4 and §5 say, under a version number of its own.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from citywatch.core.canonical import canonical

VERSION = 1


def export_header(origin: str, checkpoint: bytes) -> bytes:
    """The first line of an export: which log, and the signed note that covers all entries that follow."""
    return _line({"citywatch-export": VERSION, "origin": origin, "checkpoint": checkpoint.decode()})


def export_entry(index: int, leaf: bytes, payload: tuple[bytes, bytes] | None = None) -> bytes:
    """One further line of an export. `payload` is salt and body; None if it has none, was erased or is kept back."""
    return _line({"index": index, "leaf": _text(leaf)} | _payload(payload))


def proof_bundle(
    leaf: bytes,
    index: int,
    tree_size: int,
    hashes: Sequence[bytes],
    checkpoint: bytes,
    payload: tuple[bytes, bytes] | None = None,
) -> bytes:
    """All that a stranger needs to see that one entry is in the log, offline."""
    proof = {"leaf": _text(leaf), "index": index, "tree_size": tree_size, "hashes": [_text(each) for each in hashes]}
    return _line({"citywatch-proof": VERSION, **proof, "checkpoint": checkpoint.decode()} | _payload(payload))


def growth_bundle(old: bytes, new: bytes, hashes: Sequence[bytes]) -> bytes:
    """All that a stranger needs to see that the log of the signed note `new` begins with that of `old`."""
    texts = [_text(each) for each in hashes]
    return _line({"citywatch-growth": VERSION, "old": old.decode(), "new": new.decode(), "hashes": texts})


def _payload(payload: tuple[bytes, bytes] | None) -> dict[str, Any]:
    return {"payload": {"salt": _text(payload[0]), "body": _text(payload[1])}} if payload else {}


def _line(value: dict[str, Any]) -> bytes:
    return canonical(value) + b"\n"


def _text(data: bytes) -> str:
    return b64encode(data).decode()
