"""May this key have new papers? An agent proves a registered key, with a proof that serves once.

Decides that the bytes prove, now, for us and for the first time, a key that the agent is registered with; and, when the
agent changes its key, that it holds the new one too. Issues nothing (`service.authority`) and draws nothing.

A request is JSON: `{"key": <jwk>, "proof": <token>}`, and to change the key also `next` (a JWK) and `next_proof` (a
token). A proof is an ES256 token of the type `citywatch-renew+jwt` with `sub` (the agent), `aud` (the gateway's id),
`iat`, `exp` (at most a minute later), `jti` and, to change the key, `next` (its thumbprint). The new key signs a token
of the type `citywatch-next-key+jwt` with the same `sub`, `aud`, `iat`, `exp`, `jti`, and `by`, the old key's
thumbprint: so each signature names the other key, and neither half can be put together with another.

INVARIANTS: any bytes give an `UnprovenRenewal` or `Refused`; only `verify_renewal` makes a `Renewal`; a proof is good
once, also if the clock goes back; whoever is revoked gets nothing.
SPEC: after RFC 9449 (DPoP) §4.3 and §11.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.registration import AgentRow
from citywatch.core.identity.token import Compact, check_signature, parse_compact, parse_object, text_claim, time_claim
from citywatch.core.identity.x509 import check_domain
from citywatch.core.names import AgentId, parse_agent_id
from citywatch.core.signature import P256Key, parse_jwk, thumbprint

PROOF_TYPE = "citywatch-renew+jwt"
NEXT_TYPE = "citywatch-next-key+jwt"
MAX_REQUEST_BYTES = 32_768
LONGEST_PROOF_MS = 60_000
MAX_UNEXPIRED_PROOFS = 32
_MEMBERS = ({"key", "proof"}, {"key", "proof", "next", "next_proof"})
_SHORTEST_NONCE = 16


class UnprovenRenewal(msgspec.Struct, frozen=True):
    """A request taken apart: whom it says it is from. Nothing is proved yet; it says which rows to load."""

    agent: AgentId
    key: P256Key
    thumbprint: str
    proof: Compact
    next_key: P256Key | None
    next_proof: Compact | None


class Renewal(msgspec.Struct, frozen=True, kw_only=True):
    """`agent` proved `old`, a registered key, and `key`: the one to issue for. They differ when the key is changed."""

    agent: AgentId
    key: P256Key
    thumbprint: str
    old: str
    nonce: str
    expires: int


class SpentProofs(msgspec.Struct, frozen=True):
    """The proofs that a key has spent: nonces with their expiry, and up to which expiry all others count as spent."""

    spent: tuple[tuple[str, int], ...] = ()
    floor: int = 0


def parse_renewal(body: bytes, domain: str) -> UnprovenRenewal:
    """Take a request apart; raise `Refused` for whatever is not one of ours, by the code that fits."""
    try:
        if len(body) > MAX_REQUEST_BYTES:
            raise Malformed(f"a renewal has at most {MAX_REQUEST_BYTES} bytes")
        request = parse_object(body)
        if request.keys() not in _MEMBERS:
            raise Malformed("a renewal has `key` and `proof`, and to change the key `next` and `next_proof`")
        key, proof = parse_key(request["key"]), parse_proof(request["proof"], PROOF_TYPE)
        changes = "next" in request
        next_key = parse_key(request["next"]) if changes else None
        next_proof = parse_proof(request["next_proof"], NEXT_TYPE) if changes else None
        subject = text_claim(proof.claims, "sub")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    check_domain(subject, domain)
    try:
        agent = parse_agent_id(subject)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_BAD_NAME, str(error)) from None
    return UnprovenRenewal(agent, key, thumbprint(key), proof, next_key, next_proof)


def verify_renewal(request: UnprovenRenewal, row: AgentRow | None, *, audience: str, now: int, leeway: int) -> Renewal:
    """Return what the agent proved, or raise `Refused`. Times are milliseconds.

    1. the key signed the proof · 2. for us · 3. now · 4. the agent is registered with this key and not revoked · 5. if
    the key changes, the new one signed a proof of the same words that names the old one.
    Whether the proof was used before is `spend_proof`'s, because that takes the row of all proofs.
    """
    claims = request.proof.claims
    try:
        check_signature(request.proof, request.key)  # 1
    except Malformed:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the key did not sign the proof") from None
    if claims.get("aud") != audience:  # 2
        raise Refused(Code.CREDENTIAL_WRONG_AUDIENCE, "the proof is not for this gateway")
    nonce, expires = check_moment(claims, now, leeway)  # 3
    # 4. Anybody may ask here: only who holds a key of the agent learns more than that his own is not one.
    if row is None or row.agent != str(request.agent) or request.thumbprint not in row.keys:
        raise Refused(Code.KEY_NOT_REGISTERED)
    if (refusal := row.refusal) is not None:
        raise Refused(refusal)
    key = _verify_next(request)  # 5
    return Renewal(
        agent=request.agent,
        key=key,
        thumbprint=thumbprint(key),
        old=request.thumbprint,
        nonce=digest(nonce.encode("utf-8")),
        expires=expires,
    )


def spend_proof(spent: SpentProofs, renewal: Renewal, *, now: int, leeway: int) -> SpentProofs:
    """Return the row with this proof spent; refuse one that was spent before.

    Proofs that have expired are forgotten, and with them every proof that would have expired by then (`floor`): a clock
    that goes back makes no old proof new.
    """
    if renewal.expires <= spent.floor or any(nonce == renewal.nonce for nonce, _ in spent.spent):
        raise Refused(Code.CREDENTIAL_EXPIRED, "the proof was used before")
    kept = tuple(pair for pair in spent.spent if pair[1] + leeway > now)
    forgotten = [expires for nonce, expires in spent.spent if expires + leeway <= now]
    if len(kept) >= MAX_UNEXPIRED_PROOFS:
        raise Refused(Code.RATE_EXCEEDED, "too many renewals within a minute")
    return SpentProofs((*kept, (renewal.nonce, renewal.expires)), max([spent.floor, *forgotten]))


def proofs_key(thumbprint: str) -> tuple[str, str]:
    """Where the proofs that a key has spent lie."""
    return ("proofs", thumbprint)


def parse_proofs(value: bytes | None) -> SpentProofs:
    """Read the row of spent proofs; None is the row of a key that never renewed."""
    try:
        return SpentProofs() if value is None else msgspec.json.decode(value, type=SpentProofs)
    except msgspec.DecodeError:
        raise Malformed("the row of spent proofs cannot be read") from None


def format_proofs(spent: SpentProofs) -> bytes:
    """The inverse of `parse_proofs`."""
    return msgspec.json.encode(spent)


def check_moment(claims: Mapping[str, Any], now: int, leeway: int) -> tuple[str, int]:
    """The nonce and the end of a proof that is of this minute; `Refused` for any other."""
    try:
        issued, expires, nonce = time_claim(claims, "iat"), time_claim(claims, "exp"), text_claim(claims, "jti")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    if not 0 < expires - issued <= LONGEST_PROOF_MS or len(nonce) < _SHORTEST_NONCE:
        raise Refused(Code.CREDENTIAL_MALFORMED, "a proof lives for a minute at most and has a `jti` of 16 characters")
    if now >= expires + leeway:
        raise Refused(Code.CREDENTIAL_EXPIRED, "the proof has expired")
    if now < issued - leeway:
        raise Refused(Code.CREDENTIAL_NOT_YET_VALID, "the proof is not valid yet")
    return nonce, expires


def _verify_next(request: UnprovenRenewal) -> P256Key:
    claims = request.proof.claims
    if request.next_key is None or request.next_proof is None:
        if "next" in claims:  # someone took the other half away
            raise Refused(Code.CREDENTIAL_MALFORMED, "the proof names a next key that is not there")
        return request.key
    expected = {name: claims[name] for name in ("sub", "aud", "iat", "exp", "jti")} | {"by": request.thumbprint}
    if claims.get("next") != thumbprint(request.next_key) or request.next_proof.claims != expected:
        raise Refused(Code.CREDENTIAL_MALFORMED, "the two proofs do not belong together")
    try:
        check_signature(request.next_proof, request.next_key)
    except Malformed:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the next key did not sign its proof") from None
    return request.next_key


def parse_key(value: object) -> P256Key:
    """A public key as requests show it; `Malformed` for everything else."""
    key = parse_jwk(value, use="sig") if isinstance(value, dict) else None
    if not isinstance(key, P256Key):
        raise Malformed("a key is not a public JWK on P-256")
    return key


def parse_proof(value: object, typ: str) -> Compact:
    """A proof of the type `typ`, taken apart; `Malformed` for everything else."""
    if not isinstance(value, str) or not value.isascii():
        raise Malformed("a proof is not a compact token")
    return parse_compact(value.encode("ascii"), typ=typ, members=frozenset())
