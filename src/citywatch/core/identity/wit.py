"""Whose key is this? A WIT-SVID of our trust domain says which agent a public key is, or is refused.

Decides that our authority signed this token, and for which agent and key. It proves nobody: whoever reads it on the
way has it too. Only a message that the key in it signed makes a `Credential` of it (`message`).

A WIT-SVID has no audience and no `EdDSA`: the key in `cnf` is on P-256 and says `ES256`, as SPIFFE's list asks.
INVARIANT: any bytes give a `BoundToken` or `Refused`; a JWT-SVID never passes for one, nor the other way round: the
type stands in the header, and the bundle says of each key which kind it signs.
SPEC: SPIFFE WIT-SVID §2 to §4, draft-ietf-wimse-workload-creds §3.1, RFC 7800 §3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.jwt import check_signer, subject_agent
from citywatch.core.identity.token import ALGORITHM, parse_compact, text_claim, time_claim
from citywatch.core.signature import P256Key, parse_jwk, thumbprint

TYPE = "wit+jwt"


class BoundToken(msgspec.Struct, frozen=True, kw_only=True):
    """What the authority says of a key. Times are milliseconds; `digest` is the token's SHA-256 in hex.

    `vouched` is the SPIFFE ID that an authority which is not ours vouches for (`Credential.key`), empty for ours.
    """

    agent: str
    key: P256Key
    thumbprint: str
    not_before: int
    not_after: int
    digest: str
    vouched: str = ""


def verify_wit_svid(token: bytes, bundle: TrustBundle) -> BoundToken:
    """Return what a WIT-SVID says; raise `Refused` otherwise.

    1. well-formed, ES256, exactly `alg`, `typ`, `kid` · 2. a strict key in `cnf`, for ES256 · 3. one agent of our
    domain · 4. signed by a key of our authority that is for WIT-SVIDs.
    """
    return read_wit_svid(token, bundle, lambda subject: str(subject_agent(subject, bundle.domain)))


def read_wit_svid(token: bytes, bundle: TrustBundle, named: Callable[[str], str]) -> BoundToken:
    """As `verify_wit_svid`; `named` says which agent a subject is, and refuses what is none."""
    try:
        compact = parse_compact(token, typ=TYPE, members=frozenset({"kid"}))  # 1
        key = _confirmed(compact.claims)  # 2
        subject = text_claim(compact.claims, "sub")
        not_before, not_after = time_claim(compact.claims, "iat"), time_claim(compact.claims, "exp")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    agent = named(subject)  # 3
    check_signer(compact, bundle.bound)  # 4
    return BoundToken(
        agent=agent,
        key=key,
        thumbprint=thumbprint(key),
        not_before=not_before,
        not_after=not_after,
        digest=digest(token),
    )


def _confirmed(claims: Mapping[str, Any]) -> P256Key:
    """The one key in `cnf`. Another member beside it could name another key to another reader."""
    confirmation = claims.get("cnf")
    if not isinstance(confirmation, dict) or confirmation.keys() != {"jwk"}:
        raise Malformed("the claim `cnf` does not hold one `jwk` and nothing else")
    jwk = confirmation["jwk"]
    if not isinstance(jwk, dict) or jwk.get("alg") != ALGORITHM:
        raise Malformed(f"the key in `cnf` does not say that it is for {ALGORITHM}")
    key = parse_jwk(jwk, use="sig")
    if not isinstance(key, P256Key):
        raise Malformed("the key in `cnf` is not on P-256")
    return key
