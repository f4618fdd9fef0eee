"""Envelopes against their definition, and their signatures against other people's code."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed, Refused
from citywatch.core.identity.envelope import (
    LONGEST_MS,
    MAX_NAMES,
    REPLY_TYPE,
    TYPE,
    Answered,
    Arrived,
    Envelope,
    Items,
    ReplyTo,
    envelope_claims,
    fitting,
    message_digest,
    parse_claims,
    read_envelope,
    reply_digest,
    verify_envelope,
    verify_reply,
)
from citywatch.core.label import Label, is_above
from citywatch.core.signature import format_jwk, thumbprint
from citywatch.core.wire import enveloped
from citywatch.service.authority import p256
from spec import envelope as law
from tests.property.test_labels import LABELS
from tests.simulation.envelopes import ISSUER, KEYS, NOW, SENDER, SIGNER, written

PUBLIC: dict[str, Any] = format_jwk(p256(SIGNER.public))
NAMES = st.frozensets(st.from_regex(r"(principal|server|outside|agent|domain):[!-~]{1,20}", fullmatch=True), max_size=6)
READERS = st.frozensets(st.text("abc.:/-é", min_size=1, max_size=8), max_size=6)
HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)
SOME_LABELS = st.builds(Label, st.none() | NAMES, st.none() | READERS)


@st.composite
def envelopes(draw: st.DrawFn) -> Envelope:
    newest = draw(st.lists(HASHES, max_size=16))
    more = draw(st.integers(0, 5)) if len(newest) == 16 else 0
    return Envelope(
        issuer=ISSUER,
        sender=SENDER,
        receiver=draw(st.text("abc:/.", min_size=1, max_size=20)),
        issued=NOW,
        expires=NOW + draw(st.sampled_from((1000, LONGEST_MS))),
        name=draw(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)),
        message=draw(HASHES),
        label=draw(SOME_LABELS),
        items=Items(count=len(newest) + more, newest=tuple(newest), before=draw(HASHES) if more else None),
        task=draw(st.none() | st.just("t-1")),
        chain=draw(st.none() | HASHES),
        hops=draw(st.integers(0, 64)),
        trace=None,
    )


def verdict(token: str, arrived: Arrived, now: int) -> int | None:
    try:
        verify_envelope(token.encode(), {"partner.example": KEYS}, arrived, now=now, leeway=0)
    except Refused as refusal:
        return int(refusal.detail.removeprefix("step ").partition(":")[0])
    return None


def by_definition(token: str, arrived: Arrived, now: int) -> int | None:
    jwks = {kid: _jwk(kid) for kid in KEYS}
    told = {"message": arrived.message, "sender": arrived.sender, "receiver": arrived.receiver}
    return law.judge(token, {"partner.example": jwks}, told, now, 0)


def _jwk(kid: str) -> dict[str, Any]:
    return ECKey.import_key(PUBLIC).as_dict(private=False) | {"kid": kid}


@given(envelopes(), st.data())
def test_ours_and_the_definition_agree_on_every_envelope_and_on_what_differs_in_one_thing(
    one: Envelope, data: st.DataObject
) -> None:
    claims = envelope_claims(one)
    assert parse_claims(claims) == one
    arrived = Arrived(message=one.message, sender=SENDER, receiver=one.receiver)
    assert verdict(written(claims), arrived, NOW) is None
    changed = data.draw(st.sampled_from(sorted(claims)))
    claims[changed] = data.draw(
        st.sampled_from((None, "", "x", 0, -1, 65, True, [], {}, "a" * 64, NOW, 2**53, "spiffe://a/gateway"))
        | st.sampled_from(sorted(claims)).map(claims.get)
    )
    try:
        token = written(claims)
    except Malformed:
        return
    assert verdict(token, arrived, NOW) == by_definition(token, arrived, NOW)


@given(envelopes(), st.binary(max_size=40), st.integers(0, 2000))
def test_any_bytes_are_believed_or_refused(one: Envelope, noise: bytes, at: int) -> None:
    token = written(envelope_claims(one)).encode()
    for text in (noise, token[:at] + noise + token[at:]):
        try:
            read_envelope(text)
        except Malformed:
            continue


def test_joserfc_believes_what_we_write_and_we_what_it_does() -> None:
    one = Envelope(
        issuer=ISSUER, sender=SENDER, receiver="r", issued=NOW, expires=NOW + 1000, name="n", message="a" * 64,
        label=Label(frozenset(("principal:bob",)), None), items=Items(count=0, newest=(), before=None),
        task=None, chain=None, hops=0, trace=None,
    )  # fmt: skip
    claims = envelope_claims(one)
    key = ECKey.import_key(PUBLIC)
    found = jws.deserialize_compact(written(claims), key, algorithms=["ES256"])
    assert found.headers() == {"alg": "ES256", "kid": thumbprint(p256(SIGNER.public)), "typ": TYPE}
    assert json.loads(found.payload) == claims
    private = ECKey.import_key(SIGNER.private_pem())
    token = jws.serialize_compact(found.headers(), canonical(claims), private, algorithms=["ES256"])
    arrived = Arrived(message="a" * 64, sender=SENDER, receiver="r")
    assert verdict(token, arrived, NOW) is None


@given(LABELS)
def test_a_label_in_an_envelope_is_never_below_the_one_that_it_stands_for(label: Label) -> None:
    fitted = fitting(label)
    assert is_above(fitted, label)
    assert all(one is None or len(one) <= MAX_NAMES for one in (fitted.origins, fitted.readers))


@given(st.dictionaries(st.text(max_size=5), st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e6, 1e6) | st.text()))
def test_a_message_has_the_digest_of_the_definition(params: dict[str, Any]) -> None:
    if any(name.startswith("$") for name in params):
        return  # our own tag for long integers (spec/log.md §1)
    assert message_digest("SendMessage", params, "s") == law.message_digest("SendMessage", params, "s", None)


# ---- replies -----------------------------------------------------------------------------------------------------

GATE = "spiffe://acme.example/gateway"


def reply_verdict(token: str, answered: Answered, now: int) -> int | None:
    try:
        verify_reply(token.encode(), {"partner.example": KEYS}, answered, now=now, leeway=0)
    except Refused as refusal:
        return int(refusal.detail.removeprefix("step ").partition(":")[0])
    return None


def reply_by_definition(token: str, answered: Answered, now: int) -> int | None:
    told = {
        "message": answered.message,
        "sender": answered.sender,
        "receivers": sorted(answered.receivers),
        "request": answered.reply.request,
        "number": answered.reply.number,
    }
    return law.judge_reply(token, {"partner.example": {kid: _jwk(kid) for kid in KEYS}}, told, now, 0)


@given(envelopes(), HASHES, st.integers(0, 2**31 - 1), st.data())
def test_the_envelope_of_a_reply_is_judged_as_the_definition_says(
    one: Envelope, request: str, number: int, data: st.DataObject
) -> None:
    one = msgspec.structs.replace(one, receiver=GATE, reply=ReplyTo(request, number))
    claims = envelope_claims(one)
    assert parse_claims(claims, reply=True) == one
    answered = Answered(
        message=one.message, sender=SENDER, receivers=frozenset((GATE,)), reply=ReplyTo(request, number)
    )
    token = written(claims, typ=REPLY_TYPE)
    assert reply_verdict(token, answered, NOW) is None
    assert verdict(token, Arrived(message=one.message, sender=SENDER, receiver=GATE), NOW) == 1
    assert reply_verdict(written(claims), answered, NOW) == 1
    changed = data.draw(st.sampled_from(sorted(claims)))
    claims[changed] = data.draw(
        st.sampled_from((None, "", "x", 0, -1, 65, True, [], {}, "a" * 64, NOW, 2**31, 2**53, "spiffe://a/gateway"))
        | st.sampled_from(sorted(claims)).map(claims.get)
    )
    try:
        token = written(claims, typ=REPLY_TYPE)
    except Malformed:
        return
    assert reply_verdict(token, answered, NOW) == reply_by_definition(token, answered, NOW)


PLAIN = st.dictionaries(
    st.sampled_from(("text", "own", "id")), st.text("aü", max_size=3) | st.integers(0, 9), max_size=3
)
BESIDE = st.dictionaries(
    st.sampled_from(("own", "citywatch/sender", "citywatch/code", "more")), st.text("ab", max_size=3), max_size=4
)


@st.composite
def results(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    spoken = draw(st.booleans())
    thing: dict[str, Any] = draw(PLAIN)
    member = "metadata" if spoken or draw(st.booleans()) else "_meta"
    if draw(st.booleans()):
        thing = {**thing, member: draw(BESIDE | st.text("a", max_size=2) | st.none())}
    name = draw(st.sampled_from((None, "message", "task", "statusUpdate", "artifactUpdate", "other")))
    return (thing if name is None else {name: thing}), spoken


@given(results())
def test_a_reply_has_the_digest_of_the_definition_in_its_envelope_and_out_of_it(
    told: tuple[dict[str, Any], bool],
) -> None:
    result, spoken = told
    bare, token = enveloped.parted(result, spoken=spoken)
    assert token is None
    assert reply_digest(bare) == law.reply_digest(result, spoken)
    sealed = enveloped.put_in(bare, "a.b.c", spoken=spoken)
    if sealed is not None:
        assert enveloped.parted(sealed, spoken=spoken) == (bare, "a.b.c")
        assert law.reply_digest(sealed, spoken) == law.reply_digest(result, spoken)
