"""Did a key of this person sign this very request, just now, for us? RFC 9421 in a profile for people.

Decides that a request to the approvals API is the holder's of an Ed25519 key: its method, target, authority and body.
Does not decide whose key that is (`people`), nor whether the request came before (`service.callers`). It proves who
asks; it is no answer to a ticket, which is a statement with a signature of its own (`statement`).

    signature-input: <label>=("@method" "@authority" "@request-target" "content-digest")
                     ;created=…;expires=…;nonce="…";keyid="<RFC 7638 thumbprint>";tag="citywatch-approvals"

INVARIANTS
1. Any bytes give a `Request` or `Refused`; it speaks of a body only by `http_signature.check_digest`.
2. What is signed here is no statement of an approval: that begins otherwise (`statement.PREFIX`), so that no front end
   gets an answer signed as a request, or a request as an answer.
SPEC: RFC 9421, narrowed as `http_signature` says; RFC 7638 for `keyid`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.http_signature import Described, Head, Profile, check_instant, read_signature
from citywatch.core.signature import Ed25519Key, verify_ed25519

PROFILE: Final = Profile(
    tag="citywatch-approvals",
    algorithm="ed25519",
    always=("@method", "@authority", "@request-target"),
    if_sent=frozenset({"content-digest"}),
    steers=("citywatch-",),
)


class Claim(msgspec.Struct, frozen=True):
    """A request that says under which key it was signed; nothing of it is proved."""

    key: str
    described: Described


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a request, proved to be the holder's of `key`. Good once, until `expires` (ms)."""

    key: str
    nonce: str
    expires: int
    digest: str | None


def read_request(head: Head) -> Claim:
    """What a request says of its signature; `Refused` if it has none, or not in the one form."""
    if not any(name in (b"signature", b"signature-input") for name, _ in head.headers):
        raise Refused(Code.CREDENTIAL_MISSING, "the request is not signed")
    try:
        described = read_signature(head, PROFILE)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    if described.key is None:
        raise Refused(Code.CREDENTIAL_MALFORMED, "a request's signature has no `keyid`")
    return Claim(described.key, described)


def verify_request(claim: Claim, key: Ed25519Key, *, now: int, leeway: int) -> Request:
    """The request, of this minute and signed under this key; `Refused` otherwise. Times are milliseconds."""
    described = claim.described
    check_instant(described, now=now, leeway=leeway)
    try:
        verify_ed25519(key, described.signed, described.signature)
    except Malformed:
        raise stranger() from None
    return Request(key=claim.key, nonce=described.nonce, expires=described.expires, digest=described.digest)


def stranger() -> Refused:
    """The same for a key that nobody has and for a signature that is not its: who may come in is not to be listed."""
    return Refused(Code.CREDENTIAL_UNTRUSTED, "the key that the request names is nobody's here, or did not sign it")
