"""Whose token is this? A JWT-SVID of our trust domain for our gateway becomes a `Credential`, or is refused.

Decides that our authority signed this token for exactly one agent and for this gateway alone. Does not decide whether
it is still valid (`credential.check_time`) nor whether the agent is registered or revoked. It is a bearer token:
whoever holds it is taken for the agent, which is why it lives for minutes.

Two things are stricter than JWT-SVID asks, because we issue every token that we accept: `kid` and `typ` are required,
and `aud` is one audience. One claim is ours: `citywatch_key`, the thumbprint of the registered key that the token was
issued to. It asks for no proof of that key; it makes the token void when the key is revoked or replaced.

INVARIANT: any bytes give a `Credential` or `Refused`.
SPEC: JWT-SVID §2 to §4, RFC 7519 §4.1, RFC 8725.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.credential import Credential, Kind
from citywatch.core.identity.token import Compact, check_signature, parse_compact, text_claim, time_claim
from citywatch.core.identity.x509 import check_domain
from citywatch.core.names import AgentId, parse_agent_id
from citywatch.core.signature import P256Key, parse_b64url

TYPE = "JWT"
KEY_CLAIM = "citywatch_key"


def verify_jwt_svid(token: bytes | str, bundle: TrustBundle, audience: str) -> Credential:
    """Return the credential that a JWT-SVID proves to the gateway named `audience`; raise `Refused` otherwise.

    1. well-formed, ES256, exactly `alg`, `typ`, `kid` · 2. names one agent of our domain · 3. a key of our authority
    signed it · 4. it is for us and nobody else. The domain is asked before the signature, so that a stranger with good
    papers of another domain is told so.
    """
    data = token.encode("utf-8", "surrogatepass") if isinstance(token, str) else token
    try:
        compact = parse_compact(data, typ=TYPE, members=frozenset({"kid"}))  # 1
        subject = text_claim(compact.claims, "sub")
        key = _thumbprint_claim(compact.claims)
        not_before, not_after = time_claim(compact.claims, _start(compact.claims)), time_claim(compact.claims, "exp")
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_MALFORMED, str(error)) from None
    agent = subject_agent(subject, bundle.domain)  # 2
    check_signer(compact, bundle.keys)  # 3
    if compact.claims.get("aud") not in (audience, [audience]):  # 4
        raise Refused(Code.CREDENTIAL_WRONG_AUDIENCE, "the token is not for this gateway alone")
    return Credential(
        agent=str(agent),
        key=key,
        kind=Kind.JWT,
        not_before=not_before,
        not_after=not_after,
        digest=digest(data),
        audience=audience,
    )


def subject_agent(subject: str, domain: str) -> AgentId:
    """The one agent of our domain that a token names; `Refused` if it names anything else."""
    check_domain(subject, domain)
    try:
        return parse_agent_id(subject)
    except Malformed as error:
        raise Refused(Code.CREDENTIAL_BAD_NAME, str(error)) from None


def check_signer(compact: Compact, keys: Mapping[str, P256Key]) -> None:
    """Refuse a token that none of the authority's keys signed; `keys` are those for tokens of its kind."""
    kid = compact.header["kid"]
    key = keys.get(kid) if isinstance(kid, str) else None
    if key is None:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the token's `kid` names no key of the trust domain's authority")
    try:
        check_signature(compact, key)
    except Malformed:
        raise Refused(Code.CREDENTIAL_UNTRUSTED, "the trust domain's authority did not sign the token") from None


def _thumbprint_claim(claims: Mapping[str, Any]) -> str:
    text = text_claim(claims, KEY_CLAIM)
    if len(parse_b64url(text)) != 32:
        raise Malformed(f"the claim `{KEY_CLAIM}` is not a thumbprint")
    return text


def _start(claims: Mapping[str, Any]) -> str:
    return "nbf" if "nbf" in claims else "iat"
