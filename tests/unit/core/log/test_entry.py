"""What a leaf's bytes are, what they may not be, and how an older reader takes a newer leaf."""

import hashlib
from enum import StrEnum
from typing import Any

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.call import Effect
from citywatch.core.errors import Malformed
from citywatch.core.log.entry import MAX_LEAF_BYTES, Unknown, decode_event, encode_event, payload_digest

LOST = events.Lost(at=1, replica="gw", call="c")
DECIDED = events.Decided(
    at=1_763_800_000_000,
    replica="gw-1",
    call="0b1e",
    direction="to_server",
    agent="spiffe://example.org/agent/billing",
    key="kPrK",
    server="crm",
    method="tools/call",
    name="refund",
    revision="2026-07-28",
    effect=Effect.IRREVERSIBLE,
    decision="deny",
    code=None,
    policies=("b", "a"),
    detail="é\n\u2028",
    policy="0f",
    manifest="0e",
    pin=None,
    body="0d",
)


def test_the_bytes_are_pinned() -> None:
    """Changing these breaks every log that was ever written."""
    assert encode_event(LOST) == b'{"at":1,"call":"c","replica":"gw","type":"lost"}'
    resolved = events.Resolved(at=1, replica="gw", call="c", outcome="did_not_happen", by="operator:a", reason="r")
    dropped = events.OffersDropped(at=1, replica="gw", server="crm", count=7)
    assert encode_event(dropped) == b'{"at":1,"count":7,"replica":"gw","server":"crm","type":"offers_dropped"}'
    assert encode_event(resolved) == (
        b'{"at":1,"by":"operator:a","call":"c","outcome":"did_not_happen","reason":"r","replica":"gw","type":"resolved"}'
    )
    assert encode_event(DECIDED).decode() == (
        '{"agent":"spiffe://example.org/agent/billing","asserted":[],"assumes":[],"at":1763800000000,"body":"0d","call":"0b1e",'
        '"carriers":[],"code":null,'
        '"decision":"deny","detail":"é\\n\u2028","direction":"to_server","effect":"irreversible","grants":[],"handles":[],'
        '"hears":[],"key":"kPrK","manifest":"0e","method":"tools/call","name":"refund","pin":null,"policies":["b","a"],"policy":"0f",'
        '"proved":"",'
        '"redacted":[],"replica":"gw-1","revision":"2026-07-28","rooted":"","server":"crm","sources":[],"task":null,"type":"decided",'
        '"via":[]}'
    )


@pytest.mark.parametrize("name", [field.name for field in msgspec.structs.fields(events.Decided)])
def test_every_field_reaches_the_leaf(name: str) -> None:
    """INVARIANT 6. Hashing a chosen list is how verdicts fell out of other people's logs."""
    other: dict[type, Any] = {str: "changed", int: 7, tuple: ("changed",), Effect: "read", type(None): "changed"}
    changed = msgspec.structs.replace(DECIDED, **{name: other[type(getattr(DECIDED, name))]})
    assert encode_event(changed) != encode_event(DECIDED)


def test_what_has_no_canonical_form_is_malformed() -> None:
    for broken in (
        msgspec.structs.replace(LOST, call="\ud800"),
        msgspec.structs.replace(LOST, at=2**53),
        msgspec.structs.replace(LOST, at=-(2**53)),
        msgspec.structs.replace(LOST, call="x" * MAX_LEAF_BYTES),
        msgspec.structs.replace(DECIDED, policies=("\udfff",)),
    ):
        with pytest.raises(Malformed):
            encode_event(broken)


def test_the_longest_entry_fits_a_bundle() -> None:
    overhead = len(encode_event(msgspec.structs.replace(LOST, call="")))
    assert len(encode_event(msgspec.structs.replace(LOST, call="x" * (65_535 - overhead)))) == 65_535
    with pytest.raises(Malformed):
        encode_event(msgspec.structs.replace(LOST, call="x" * (65_536 - overhead)))


@pytest.mark.parametrize(
    "change",
    [{"at": 1.0}, {"at": float("nan")}, {"at": True}, {"at": "1"}, {"call": None}, {"call": 1}, {"call": b"c"}],
    ids=repr,
)
def test_a_field_of_another_type_is_our_mistake(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        encode_event(msgspec.structs.replace(LOST, **change))
    with pytest.raises(TypeError):
        encode_event(msgspec.structs.replace(DECIDED, effect="read", policies=("a", 1.5)))


class Colour(StrEnum):
    RED = "red"


def test_an_enums_member_is_its_value() -> None:
    for plain, enum in ((LOST, Colour.RED),):
        assert encode_event(msgspec.structs.replace(plain, call=enum)) == encode_event(
            msgspec.structs.replace(plain, call="red")
        )
    assert b'"policies":["red"]' in encode_event(msgspec.structs.replace(DECIDED, policies=(Colour.RED,)))


class Foreign(events.Event, frozen=True, kw_only=True, tag="foreign"):
    """Not in the closed vocabulary."""


def test_the_vocabulary_is_closed() -> None:
    with pytest.raises(TypeError):
        encode_event(Foreign(at=1, replica="gw"))


def test_a_later_versions_event_is_kept_and_said_to_be_unknown() -> None:
    leaf = b'{"at":1,"quota":3.5,"replica":"gw","type":"quota_spent"}'
    assert decode_event(leaf) == Unknown("quota_spent", {"at": 1, "quota": 3.5, "replica": "gw", "type": "quota_spent"})


def test_a_later_versions_new_field_does_not_hide_the_event() -> None:
    assert decode_event(b'{"at":1,"call":"c","extra":[1],"replica":"gw","type":"lost"}') == LOST
    plain = encode_event(DECIDED)
    assert decode_event(plain.replace(b'"sources":[],', b"")) == DECIDED, "an entry of before that member"
    assert isinstance(decode_event(plain.replace(b'"sources":', b'"sourcds":')), Unknown), "a member in its place"


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b'{"at":1,"call":"c","replica":"gw"}',
        b'{"at":1,"call":"c","replica":"gw","type":7}',
        b'{"at":1,"replica":"gw","type":"lost"}',
        b'{"at":"1","call":"c","replica":"gw","type":"lost"}',
        b'{"at":1.5,"call":"c","replica":"gw","type":"lost"}',
        b'{"at":9007199254740992,"call":"c","replica":"gw","type":"lost"}',
        b'{"call":"c","at":1,"replica":"gw","type":"lost"}',
        b'{"at":1,"call":"c","replica":"gw","type":"lost"} ',
        b'{"at":1,"at":1,"call":"c","replica":"gw","type":"lost"}',
        b'{"at":1,"call":"\\u0063","replica":"gw","type":"lost"}',
        b'{"at":1,"call":"\\ud800","replica":"gw","type":"lost"}',
        b'{"at":1,"call":NaN,"replica":"gw","type":"later"}',
        b'{"type":' + b"[" * 50_000 + b"}",
        b'{"at":' + b"9" * 5_000 + b',"type":"lost"}',
        b'{"at":1,"call":"' + b"x" * 65_535 + b'","replica":"gw","type":"lost"}',
    ],
    ids=lambda leaf: repr(leaf[:40]),
)
def test_bytes_that_are_not_an_events_one_form_are_malformed(leaf: bytes) -> None:
    with pytest.raises(Malformed):
        decode_event(leaf)


def test_a_payload_is_named_by_prefix_salt_and_body() -> None:
    salt, body = bytes(range(16)), b"pay 5 to mallory"
    assert payload_digest(salt, body) == hashlib.sha256(b"\x02" + salt + body).hexdigest()
    for wrong in (b"", salt[:15], salt + b"p"):
        with pytest.raises(Malformed):
            payload_digest(wrong, body)
