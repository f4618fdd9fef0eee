"""A small log for tests: keys that never change, events drawn by hypothesis, signed heads, exports.

Signing is here because core cannot sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from citywatch.core import events
from citywatch.core.log.checkpoint import (
    Checkpoint,
    Kind,
    Note,
    NoteKey,
    cosignature,
    cosigned_message,
    format_checkpoint,
    format_note,
    log_signature,
)
from citywatch.core.log.entry import encode_event, payload_digest
from citywatch.core.log.export import export_entry, export_header
from citywatch.core.log.tiles import Edge, grow
from citywatch.core.signature import parse_ed25519_key

ORIGIN = "gateway.example/log"
LOG_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
WITNESS_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def note_key(name: str, kind: Kind, private: Ed25519PrivateKey) -> NoteKey:
    return NoteKey(name, kind, parse_ed25519_key(private.public_key().public_bytes_raw()))


LOG = note_key(ORIGIN, Kind.LOG, LOG_PRIVATE)
WITNESS = note_key("witness.example/w1", Kind.WITNESS, WITNESS_PRIVATE)


def event(i: int, body: str | None = None) -> events.Settled:
    return events.Settled(
        at=1_763_800_000_000 + i,
        replica="gw-1",
        call=f"call-{i}",
        message=0,
        outcome="released",
        code=None,
        detail="",
        final=True,
        is_error=False,
        size=i,
        body=body,
    )


def leaves(count: int) -> list[bytes]:
    return [encode_event(event(i)) for i in range(count)]


def edge_of(entries: Sequence[bytes]) -> Edge:
    return grow(Edge(), entries)[0]


def signed(size: int, root: bytes, *, time: int | None = None, origin: str = ORIGIN, key: NoteKey = LOG) -> bytes:
    """A signed head; with `time` the witness has cosigned."""
    text = format_checkpoint(Checkpoint(origin, size, root))
    lines = [log_signature(key, LOG_PRIVATE.sign(text.encode()))]
    if time is not None:
        lines.append(cosignature(WITNESS, time, WITNESS_PRIVATE.sign(cosigned_message(text, time))))
    return format_note(Note(text, tuple(lines)))


def head_of(entries: Sequence[bytes], time: int | None = None) -> bytes:
    return signed(len(entries), edge_of(entries).frontier.root(), time=time)


Payloads = dict[int, tuple[bytes, bytes]]


def with_payloads(count: int) -> tuple[list[bytes], Payloads]:
    payloads = {i: (bytes([i]) * 16, f'{{"n":{i}}}'.encode()) for i in range(count)}
    return [encode_event(event(i, payload_digest(*payloads[i]))) for i in range(count)], payloads


def export(entries: Sequence[bytes], payloads: Payloads | None = None, note: bytes | None = None) -> bytes:
    note = head_of(entries, time=1_763_800_000) if note is None else note
    lines = [export_entry(i, leaf, (payloads or {}).get(i)) for i, leaf in enumerate(entries)]
    return export_header(ORIGIN, note) + b"".join(lines)


_FIELDS: dict[object, st.SearchStrategy[Any]] = {
    str: st.text(max_size=20),
    int: st.integers(-(2**53) + 1, 2**53 - 1),
    bool: st.booleans(),
    str | None: st.none() | st.text(max_size=20),
    tuple[str, ...]: st.lists(st.text(max_size=5), max_size=3).map(tuple),
}
KINDS: tuple[type[events.Event], ...] = events.AnyEvent.__args__


def _events(kind: type[events.Event]) -> st.SearchStrategy[events.Event]:
    return st.builds(kind, **{name: _FIELDS[kind_of] for name, kind_of in _types(kind).items()})


def _types(kind: type[events.Event]) -> dict[str, object]:
    return {field.name: field.type for field in msgspec.structs.fields(kind)}


EVENTS: st.SearchStrategy[events.Event] = st.one_of([_events(kind) for kind in KINDS])
