"""The envelope of a message or a reply: what its sender's gateway says of it, under that gateway's signature.

Decides the form of an envelope, which message it is of, and whether one that came may be believed. Does not decide what
shaped the message (`enforce.said`), nor whether the envelope came before (`service.envelopes` keeps their names).

INVARIANTS: any bytes give a `VerifiedEnvelope` or `Refused`; an envelope is of one message, from one sender, to one
receiver, for a minute; that of a reply is of one message of the reply to one request; what does not fit is summarised
against the flow (too many origins: anybody; too many readers: nobody), never left out; a payload has one form; an
envelope passes for no token of another kind, nor one for it.
SPEC: docs/reference/envelope.md; RFC 7515, RFC 8785; W3C Trace Context §3.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.canonical import canonical, digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.token import check_signature, parse_compact, text_claim, time_claim
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.label import Label, format_label, parse_label
from citywatch.core.names import parse_spiffe_id
from citywatch.core.signature import P256Key, parse_b64url

TYPE: Final = "citywatch-envelope+jws"
REPLY_TYPE: Final = "citywatch-reply+jws"
LONGEST_MS: Final = 60_000
MAX_NAMES: Final = 32
MAX_NAME: Final = 256
MAX_ITEMS: Final = 16
MAX_HOPS: Final = 64
MAX_LABEL_BYTES: Final = 3_072
_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_TRACE: Final = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_TASK: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MEMBERS: Final = frozenset(
    "iss sub aud iat exp jti message label items task chain hops traceparent".split()  # every one, always
)
_REPLY_MEMBERS: Final = _MEMBERS | {"request", "number"}


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """What the sender's context holds: how many items, the digests of the newest, and one digest over those before."""

    count: int
    newest: tuple[str, ...]
    before: str | None


class ReplyTo(msgspec.Struct, frozen=True):
    """Which request a reply is to (`request_digest`), and which of the messages of that reply this is, from 0."""

    request: str
    number: int


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one message. `message` is its digest, times are milliseconds; `reply` is a reply's alone.

    `chain` is the hash of the last link of the sender's chain, `hops` the number of agents that it came through (0:
    nobody knows).
    """

    issuer: str
    sender: str
    receiver: str
    issued: int
    expires: int
    name: str
    message: str
    label: Label
    items: Items
    task: str | None
    chain: str | None
    hops: int
    trace: str | None
    reply: ReplyTo | None = None


class VerifiedEnvelope(msgspec.Struct, frozen=True):
    """An envelope that a gateway signed whose key was trusted, for this message. Only `verify_envelope` makes one."""

    envelope: Envelope
    domain: str


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A message as it arrived: its digest, the SPIFFE ID that its papers prove, and who is spoken to."""

    message: str
    sender: str
    receiver: str


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as it arrived: its digest, who was spoken to, the names by which we ask, what it has to be a reply to."""

    message: str
    sender: str
    receivers: frozenset[str]
    reply: ReplyTo


def message_digest(method: str, params: Mapping[str, Any], skill: str | None = None, kind: str | None = None) -> str:
    """What names a message: method, skill, type, and its parameters without the metadata that gateways write."""
    named = {"method": method, "params": dict(params), "skill": skill, "type": kind}
    return digest(b"citywatch/envelope/message/v1\n" + canonical(named))


def reply_digest(result: Mapping[str, Any]) -> str:
    """What names one message of a reply: its result, without what gateways write beside it."""
    return digest(b"citywatch/envelope/reply/v1\n" + canonical(dict(result)))


def request_digest(envelope: str) -> str:
    """What names a request that went out in an envelope, which is of no other; else its `message_digest` does."""
    return digest(envelope.encode("utf-8"))


def fitting(label: Label) -> Label:
    """The label as an envelope has room for it. # INVARIANT: what does not fit is summarised against the flow."""
    origins, readers = label.origins, label.readers
    if origins is not None and not _fit(origins):
        origins = None
    if readers is not None and not _fit(readers):
        readers = frozenset()
    return Label(origins, readers)


def _fit(names: frozenset[str]) -> bool:
    sizes = [len(one.encode("utf-8", "replace")) for one in names]
    return len(sizes) <= MAX_NAMES and max(sizes, default=0) <= MAX_NAME and sum(sizes) <= MAX_LABEL_BYTES // 2


def envelope_claims(one: Envelope) -> dict[str, Any]:
    """An envelope as the claims that are signed; `parse_claims` is the inverse."""
    return {
        "iss": one.issuer,
        "sub": one.sender,
        "aud": one.receiver,
        "iat": one.issued // 1000,
        "exp": one.expires // 1000,
        "jti": one.name,
        "message": one.message,
        "label": format_label(one.label),
        "items": {"count": one.items.count, "newest": list(one.items.newest), "before": one.items.before},
        "task": one.task,
        "chain": one.chain,
        "hops": one.hops,
        "traceparent": one.trace,
        **({} if one.reply is None else {"request": one.reply.request, "number": one.reply.number}),
    }


def parse_claims(claims: Mapping[str, Any], *, reply: bool = False) -> Envelope:
    """What claims say; `Malformed` for any that are not an envelope's, all of them and no other."""
    if claims.keys() != (_REPLY_MEMBERS if reply else _MEMBERS):
        raise Malformed("an envelope has exactly the members that the specification names")
    label, hops = claims["label"], claims["hops"]
    if type(label) is not dict or not _names_fit(label):
        raise Malformed("the label of an envelope is an object of at most 32 origins and readers")
    if type(hops) is not int or not 0 <= hops <= MAX_HOPS:
        raise Malformed(f"the hops of an envelope are a number from 0 to {MAX_HOPS}")
    return Envelope(
        issuer=_spiffe(claims, "iss"),
        sender=_spiffe(claims, "sub"),
        receiver=text_claim(claims, "aud"),
        issued=time_claim(claims, "iat"),
        expires=time_claim(claims, "exp"),
        name=_matching(claims, "jti", _TASK),
        message=_matching(claims, "message", _HASH),
        label=parse_label(label),
        items=_items(claims["items"]),
        task=_maybe(claims, "task", _TASK),
        chain=_maybe(claims, "chain", _HASH),
        hops=hops,
        trace=_maybe(claims, "traceparent", _TRACE),
        reply=_reply_to(claims) if reply else None,
    )


def read_envelope(token: bytes, *, reply: bool = False) -> Envelope:
    """What an envelope says, unverified; `Malformed` for what is none. For a record of one that was verified before."""
    typ = REPLY_TYPE if reply else TYPE
    return parse_claims(parse_compact(token, typ=typ, members=frozenset({"kid"})).claims, reply=reply)


def verify_envelope(
    token: bytes, trusted: Mapping[str, Mapping[str, P256Key]], arrived: Arrived, *, now: int, leeway: int
) -> VerifiedEnvelope:
    """Return what may be believed of a message; raise `Refused` otherwise. Times are milliseconds.

    `trusted` gives the keys for envelopes of each trust domain, by `kid`.

    1. its form: a compact JWS of this type, every member there · 2. its issuer is the gateway of a domain whose keys
    are trusted · 3. one of these keys, the one it names, signed it · 4. it is of this minute · 5. it is for us · 6. its
    sender is of the issuer's own domain, and whoever brings it is that sender or the issuer · 7. it is of this message
    """
    one, domain = _by_a_gateway(token, trusted, now, leeway, reply=False)  # 1 to 4
    if one.receiver != arrived.receiver:  # 5
        raise _refused("5: it is for another receiver")
    if parse_spiffe_id(one.sender).domain != domain:  # 6
        raise _refused("6: its sender is not of its issuer's domain")
    if arrived.sender not in (one.sender, one.issuer):
        raise _refused("6: it is not its sender who brings it")
    if one.message != arrived.message:  # 7
        raise _refused("7: it is of another message")
    return VerifiedEnvelope(one, domain)


def verify_reply(
    token: bytes, trusted: Mapping[str, Mapping[str, P256Key]], answered: Answered, *, now: int, leeway: int
) -> VerifiedEnvelope:
    """Return what may be believed of a reply; raise `Refused` otherwise. Times are milliseconds.

    1. to 4. as for a message, of the type of a reply's · 5. it is for us, who asked · 6. its sender is whom we asked,
    and of the issuer's own domain · 7. it is of this reply · 8. to our request, in its place among what it is told in
    """
    one, domain = _by_a_gateway(token, trusted, now, leeway, reply=True)  # 1 to 4
    if one.receiver not in answered.receivers:  # 5
        raise _refused("5: it is for another receiver")
    if one.sender != answered.sender or parse_spiffe_id(one.sender).domain != domain:
        raise _refused("6: its sender is not who was asked")
    if one.message != answered.message:
        raise _refused("7: it is of another reply")
    if one.reply != answered.reply:  # 8
        raise _refused("8: it is a reply to something else, or in another place")
    return VerifiedEnvelope(one, domain)


def _by_a_gateway(
    token: bytes, trusted: Mapping[str, Mapping[str, P256Key]], now: int, leeway: int, *, reply: bool
) -> tuple[Envelope, str]:
    """What the gateway of a domain signed just now, of whatever message, and which domain."""
    try:
        compact = parse_compact(token, typ=REPLY_TYPE if reply else TYPE, members=frozenset({"kid"}))  # 1
        one = parse_claims(compact.claims, reply=reply)
        if canonical(compact.claims) != parse_b64url(compact.text.split(".")[1]):
            raise Malformed("its payload is not in the one form that RFC 8785 gives it")
    except Malformed as error:
        raise _refused(f"1: {error}") from None
    issuer = parse_spiffe_id(one.issuer)  # 2
    keys = trusted.get(issuer.domain)
    if keys is None or str(issuer) != gateway_id(issuer.domain):
        raise _refused("2: its issuer is no gateway of a domain that is trusted")
    key = keys.get(compact.header["kid"]) if type(compact.header["kid"]) is str else None  # 3
    if key is None:
        raise _refused("3: the domain has no such key for envelopes")
    try:
        check_signature(compact, key)
    except Malformed:
        raise _refused("3: the key did not sign it") from None
    if not 0 < one.expires - one.issued <= LONGEST_MS:  # 4
        raise _refused("4: it is not for a minute at most")
    if now >= one.expires + leeway or now < one.issued - leeway:
        raise _refused("4: it is not of this minute")
    return one, issuer.domain


def as_trace(value: object) -> str | None:
    """A `traceparent` as an envelope can have it; None for what is none."""
    return value if isinstance(value, str) and _TRACE.match(value) else None


def _refused(why: str) -> Refused:
    return Refused(Code.ENVELOPE_REFUSED, f"step {why}")


def _names_fit(label: Mapping[str, Any]) -> bool:
    """So many, and each once: a label has one form."""
    lists = [label.get(name) for name in ("origins", "readers")]
    return all(
        one is None
        or (
            type(one) is list
            and len(one) <= MAX_NAMES
            and all(type(name) is str and 0 < len(name.encode("utf-8", "replace")) <= MAX_NAME for name in one)
            and one == sorted(set(one))
        )
        for one in lists
    )


def _items(value: object) -> Items:
    if type(value) is not dict or value.keys() != {"count", "newest", "before"}:
        raise Malformed("the items of an envelope are an object of `count`, `newest` and `before`")
    count, newest, before = value["count"], value["newest"], value["before"]
    if type(newest) is not list or len(newest) > MAX_ITEMS or not all(_is_hash(one) for one in newest):
        raise Malformed(f"the newest items of an envelope are at most {MAX_ITEMS} digests")
    if type(count) is not int or not len(newest) <= count < 2**31 or (before is not None) != (count > len(newest)):
        raise Malformed("an envelope counts its items, and has a digest over those that it does not name")
    if before is not None and not _is_hash(before):
        raise Malformed("an envelope's digest over earlier items is none")
    return Items(count=count, newest=tuple(newest), before=before)


def _reply_to(claims: Mapping[str, Any]) -> ReplyTo:
    number = claims["number"]
    if type(number) is not int or not 0 <= number < 2**31:
        raise Malformed("the number of a message in a reply counts from 0")
    return ReplyTo(_matching(claims, "request", _HASH), number)


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.match(value) is not None


def _spiffe(claims: Mapping[str, Any], name: str) -> str:
    return str(parse_spiffe_id(text_claim(claims, name)))


def _matching(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = text_claim(claims, name)
    if not pattern.match(value):
        raise Malformed(f"the member `{name}` of an envelope has another form")
    return value


def _maybe(claims: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str | None:
    return None if claims[name] is None else _matching(claims, name, pattern)
