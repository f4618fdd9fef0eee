"""May this key have its first papers? Whoever holds an invitation that nobody used, and the key, joins as one agent.

Decides that the bytes hold an invitation for the agent that they name, not over and not used, and prove, now and for
us, the key that is to be the agent's. Issues nothing. Where a process can be looked at (`service.workload`) no
invitation is needed; it is for machines and containers where it cannot.

A request is JSON: `{"invitation": <text>, "key": <jwk>, "proof": <token>}`. The proof is an ES256 token of the type
`citywatch-join+jwt` with `sub` (the agent), `aud` (the gateway's id), `iat`, `exp` (at most a minute later), `jti` and
`invitation`, the invitation's digest: so who only sees a proof pass by cannot join with it, nor whoever takes the
invitation on its way put another key beside it and leave the proof.

INVARIANTS: any bytes give an `UnprovenJoining` or `Refused`; an invitation is kept as its digest and good once; whoever
holds none learns no more than that; the agent named in the row, and no other, is who joins.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from typing import Final

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.renewal import MAX_REQUEST_BYTES, check_moment, parse_key, parse_proof
from citywatch.core.identity.token import Compact, check_signature, parse_object, text_claim
from citywatch.core.identity.x509 import check_domain
from citywatch.core.names import AgentId, parse_agent_id
from citywatch.core.signature import P256Key, thumbprint

JOIN_TYPE: Final = "citywatch-join+jwt"
PREFIX: Final = "cwjoin_"
"""So that whoever scans files for secrets finds a forgotten one."""
SECRET_BYTES: Final = 32
_MEMBERS: Final = {"invitation", "key", "proof"}
_INVITATION: Final = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}\Z")


class InvitationRow(msgspec.Struct, frozen=True, kw_only=True):
    """One invitation. Times are milliseconds; `used` is the thumbprint that it gave papers to."""

    agent: str
    expires: int
    by: str
    used: str = ""


class UnprovenJoining(msgspec.Struct, frozen=True):
    """A request taken apart: which invitation it holds, and for whom. Nothing is proved yet."""

    agent: AgentId
    key: P256Key
    thumbprint: str
    proof: Compact
    invitation: str


class Joining(msgspec.Struct, frozen=True, kw_only=True):
    """`agent` joins with `key`, invited by `by`."""

    agent: AgentId
    key: P256Key
    thumbprint: str
    by: str


def format_invitation(secret: bytes) -> str:
    """The invitation's text. `secret` is 32 bytes of chance."""
    if len(secret) != SECRET_BYTES:
        raise Malformed(f"an invitation has {SECRET_BYTES} bytes of chance")
    return PREFIX + urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")


def invitation_digest(text: str) -> str:
    """What is kept of an invitation; `Malformed` for what is none."""
    if not _INVITATION.match(text):
        raise Malformed(f"not an invitation: it begins with `{PREFIX}`")
    return digest(b"citywatch/invitation/v1\n" + text.encode("ascii"))


def invitation_key(invitation: str) -> tuple[str, str]:
    """Where it is on file, by its digest."""
    return ("join", invitation)


def parse_joining(body: bytes, domain: str) -> UnprovenJoining:
    """Take a request apart; raise `Refused` for whatever is not one of ours, by the code that fits."""
    try:
        if len(body) > MAX_REQUEST_BYTES:
            raise Malformed(f"a request to join has at most {MAX_REQUEST_BYTES} bytes")
        request = parse_object(body)
        if request.keys() != _MEMBERS:
            raise Malformed("a request to join has `invitation`, `key` and `proof`")
        invitation = invitation_digest(text_claim(request, "invitation"))
        key, proof = parse_key(request["key"]), parse_proof(request["proof"], JOIN_TYPE)
        subject = text_claim(proof.claims, "sub")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    check_domain(subject, domain)
    try:
        agent = parse_agent_id(subject)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_BAD_NAME, str(error)) from None
    return UnprovenJoining(agent, key, thumbprint(key), proof, invitation)


def verify_joining(
    request: UnprovenJoining, row: InvitationRow | None, *, audience: str, now: int, leeway: int
) -> Joining:
    """Return who joins with which key, or raise `Refused`. Times are milliseconds.

    1. there is such an invitation · 2. for this agent · 3. not over · 4. not used · 5. the key signed the proof ·
    6. for us and this invitation · 7. now.
    """
    if row is None:  # 1. Before any signature: who holds none costs us a look at a row.
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "nobody was invited so")
    if row.agent != str(request.agent):  # 2
        raise Refused(Code.CREDENTIAL_BAD_NAME, "the invitation is for another agent")
    if now >= row.expires:  # 3. No leeway: both times are ours.
        raise Refused(Code.CREDENTIAL_EXPIRED, "the invitation has expired")
    if row.used:  # 4
        raise Refused(Code.CREDENTIAL_EXPIRED, "the invitation was used before: if not by you, revoke the agent")
    claims = request.proof.claims
    try:
        check_signature(request.proof, request.key)  # 5
    except Malformed:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the key did not sign the proof") from None
    if claims.get("aud") != audience:  # 6
        raise Refused(Code.CREDENTIAL_WRONG_AUDIENCE, "the proof is not for this gateway")
    if claims.get("invitation") != request.invitation:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the proof is for another invitation")
    check_moment(claims, now, leeway)  # 7
    return Joining(agent=request.agent, key=request.key, thumbprint=request.thumbprint, by=row.by)


def parse_invitation_row(value: bytes) -> InvitationRow:
    """The inverse of `format_invitation_row`."""
    try:
        return msgspec.json.decode(value, type=InvitationRow)
    except msgspec.DecodeError:
        raise Malformed("the row of an invitation cannot be read") from None


def format_invitation_row(row: InvitationRow) -> bytes:
    """The row as JSON."""
    return msgspec.json.encode(row)
