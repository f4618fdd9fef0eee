"""An event becomes a leaf, and a leaf an event again.

Decides which bytes of an event are hashed: all of them, every field, in RFC 8785 form; and what a leaf says to a
reader who may be older than its writer. Holds no payload: a leaf names one by `payload_digest`.

INVARIANTS: `decode_event(encode_event(event)) == event`; a leaf has exactly one form, so bytes that merely parse to an
event are `Malformed`; a tag that this version does not know is kept as `Unknown`, never dropped and never guessed at; a
leaf fits the 16-bit length of an entry bundle.
SPEC: `spec/log.md` §1; RFC 8785; C2SP tlog-tiles (entry bundles).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from itertools import chain, product
from operator import itemgetter
from typing import Any

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.events import AnyEvent, Event

MAX_LEAF_BYTES = 65_535
SALT_BYTES = 16

_KINDS: tuple[type[Event], ...] = AnyEvent.__args__
_MEMBERS = {
    kind.__struct_config__.tag: frozenset(field.encode_name for field in msgspec.structs.fields(kind)) | {"type"}
    for kind in _KINDS
}
_PLAIN: dict[object, tuple[type, ...]] = {
    str: (str,),
    int: (int,),
    bool: (bool,),
    str | None: (str, type(None)),
    tuple[str, ...]: (tuple,),
}
_SHAPES = {kind: frozenset(product(*(_PLAIN[field.type] for field in msgspec.structs.fields(kind)))) for kind in _KINDS}
"""Of each event, the types that its fields may have, in order: one look-up tells that nothing else is in it."""


def _of(places: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """What takes these places out of a tuple, as a tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda fields: tuple(fields[i] for i in places)


_INTEGERS = {kind: tuple(i for i, f in enumerate(msgspec.structs.fields(kind)) if f.type is int) for kind in _KINDS}
_TUPLES = {
    kind: _of([i for i, f in enumerate(msgspec.structs.fields(kind)) if f.type == tuple[str, ...]]) for kind in _KINDS
}
"""What gives those of an event's fields that are tuples, all of them."""
_TEXT = frozenset({str})
# msgspec sorts the members of a struct, and writes strings as RFC 8785 does (a differential test holds it to that).
_sorted = msgspec.json.Encoder(order="sorted")
_typed = msgspec.json.Decoder(AnyEvent)


class Unknown(msgspec.Struct, frozen=True):
    """A leaf of a later version: its tag and members as they stand."""

    tag: str
    members: Mapping[str, Any]


def encode_event(event: Event) -> bytes:
    """Write an event as the leaf that stands for it in the log: RFC 8785 bytes of all its fields, 2 µs.

    Raises `Malformed` for a lone surrogate, an integer from 2**53 on, or more than `MAX_LEAF_BYTES`; `TypeError` for a
    field of another type than declared, which would be a mistake of ours.
    """
    kind = type(event)
    shapes = _SHAPES.get(kind)
    if shapes is None:
        raise TypeError(f"`{kind.__name__}` is not in the closed vocabulary")
    fields = msgspec.structs.astuple(event)
    plain = tuple(map(type, fields)) in shapes
    if not plain or not _TEXT.issuperset(map(type, chain.from_iterable(_TUPLES[kind](fields)))):
        event = _checked(event)
        fields = msgspec.structs.astuple(event)
    for i in _INTEGERS[kind]:
        if not -(2**53) < fields[i] < 2**53:
            raise Malformed("an event holds an integer from 2**53 on")
    try:
        leaf = _sorted.encode(event)
    except UnicodeEncodeError:
        raise Malformed("an event holds a lone surrogate, which has no UTF-8 form") from None
    if len(leaf) > MAX_LEAF_BYTES:
        raise Malformed(f"an event takes more than {MAX_LEAF_BYTES} bytes")
    return leaf


def decode_event(leaf: bytes) -> AnyEvent | Unknown:
    """Read a leaf. A tag that only a later version knows gives `Unknown`; everything else not ours is `Malformed`."""
    members = _members(leaf)
    tag = members.get("type")
    if not isinstance(tag, str):
        raise Malformed("a leaf does not say which event it is")
    known = _MEMBERS.get(tag)
    # INVARIANT: a later version adds members and takes none away; one that stands in a default's place is nobody's.
    if known is None or not (members.keys() <= known or known <= members.keys()):
        return Unknown(tag, members)
    try:
        event: AnyEvent = _typed.decode(leaf)
        return event
    except (msgspec.DecodeError, RecursionError):
        raise Malformed(f"a leaf is not an event of the type `{tag}`") from None


def payload_digest(salt: bytes, body: bytes) -> str:
    """Name a payload in an event: 64 hex digits of SHA-256 over 0x02, the 16 bytes of salt, and the body.

    The prefix keeps it apart from the tree's own hashes (0x00, 0x01). Once the salt is erased, nobody can tell which
    body it was, not even by trying all that are likely.
    """
    if len(salt) != SALT_BYTES:
        raise Malformed(f"a payload's salt has {SALT_BYTES} bytes")
    return sha256(b"\x02" + salt + body).hexdigest()


def _checked(event: Event) -> Event:
    """Slow path: an enum's member becomes its value; a field of another type than declared is refused."""
    fields = {name: _without_enum(getattr(event, name)) for name in event.__struct_fields__}
    try:
        return msgspec.convert(fields | {"type": event.__struct_config__.tag}, type(event))
    except msgspec.ValidationError as error:
        raise TypeError(f"an event of type `{type(event).__name__}`: {error}") from None


def _without_enum(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    return tuple(map(_without_enum, value)) if isinstance(value, tuple) else value


def _members(leaf: bytes) -> dict[str, Any]:
    try:
        members = json.loads(leaf.decode("utf-8"))
        if isinstance(members, dict) and len(leaf) <= MAX_LEAF_BYTES and canonical(members) == leaf:
            return members
    except (ValueError, RecursionError, Malformed):
        pass
    raise Malformed("a leaf is not one JSON object in canonical form")
