"""Did the key in this WIT-SVID sign this very request, just now, for us? RFC 9421 in the profile of WIMSE, narrowed.

Decides that a request is the holder's of a key: its method, target, authority, body and the headers that steer it.
Does not decide whether it came before (`service.messages` keeps the nonces), nor whether the agent is registered.
It is what holds where TLS ends before us: at a proxy, a load balancer, another agent's relay.

The form is `http_signature`'s; what this profile adds: the algorithm is that of the key in the token, which `keyid` may
only repeat; the token is covered, and, where they are sent, `authorization`, `last-event-id` and every `mcp-*`, `a2a-*`
and `citywatch-*` header.

INVARIANTS: any bytes give a `MessageProof` or `Refused`; it speaks of a body only by `check_body`.
SPEC: RFC 9421, draft-ietf-wimse-http-signature §3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.http_signature import Head, Profile, check_digest, check_instant, read_signature
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.wit import BoundToken
from citywatch.core.signature import verify_p256

TOKEN_HEADER: Final = b"workload-identity-token"
TAG: Final = "wimse-workload-to-workload"
ALGORITHM: Final = "ecdsa-p256-sha256"
ALWAYS: Final = ("@method", "@authority", "@request-target", TOKEN_HEADER.decode())
PROFILE: Final = Profile(
    tag=TAG,
    algorithm=ALGORITHM,
    always=ALWAYS,
    if_sent=frozenset({"authorization", "last-event-id", "content-digest"}),
    steers=("mcp-", "a2a-", "citywatch-"),
)


class MessageProof(msgspec.Struct, frozen=True, kw_only=True):
    """Whose the head of a request is; `digest` is what it says of its body. Good once, until `expires` (ms)."""

    credential: Credential
    nonce: str
    expires: int
    digest: str | None


def shown_token(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The WIT-SVID that a request shows, unverified; None if it shows none, `Refused` if it shows two."""
    shown = [value for name, value in headers if name == TOKEN_HEADER]
    if len(shown) > 1:
        raise Refused(Code.CREDENTIAL_MALFORMED, "two Workload-Identity-Token headers")
    return shown[0].strip(b" \t") if shown else None


def verify_message(head: Head, token: BoundToken, *, now: int, leeway: int) -> MessageProof:
    """Return whose a request is, as far as its head says; raise `Refused` otherwise. Times are milliseconds.

    1. it is signed as the profile has it · 2. under no other key than the token's · 3. it is of this minute ·
    4. the key in the token made it.
    """
    try:
        described = read_signature(head, PROFILE)  # 1
        if described.key not in (None, token.thumbprint):  # 2
            raise Malformed("a message's signature names another key than its token's")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    check_instant(described, now=now, leeway=leeway)  # 3
    try:
        verify_p256(token.key, described.signed, described.signature)  # 4
    except Malformed:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the token's key did not sign this message") from None
    credential = Credential(
        agent=token.agent,
        key=token.vouched or token.thumbprint,
        proved=token.thumbprint if token.vouched else "",
        kind=Kind.WIT,
        not_before=token.not_before,
        not_after=token.not_after,
        digest=token.digest,
    )
    return MessageProof(
        credential=credential, nonce=described.nonce, expires=described.expires, digest=described.digest
    )


def check_body(proof: MessageProof, body: bytes) -> Credential:
    """Return the credential of a whole request: the body is the one whose digest was signed, or there is none."""
    check_digest(proof.digest, body)
    return proof.credential
