"""A verified credential: this caller held that name's papers. And the two questions that time keeps open.

Decides whether a verified credential is valid at an instant. Does not verify papers (`x509`, `jwt`, `message`) nor ask
whether the agent is registered or revoked (`registration`): those are kept apart because a verification holds for good
and is cached by the caller under `digest`, while time and registration are asked again for each request.

INVARIANT: only `verify_x509_svid`, `verify_jwt_svid`, `verify_message` and, for what another authority vouches for,
`elsewhere` make a `Credential`; a gateway's or an authority's papers are of another type and never name an agent.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from citywatch.core.errors import Code, Refused


class Kind(StrEnum):
    """How the caller proved itself: by the key in a TLS handshake, by showing a token, by signing the message."""

    X509 = "x509"
    JWT = "jwt"
    WIT = "wit"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """Who called, by papers that the trust domain's authority signed.

    `agent` is the SPIFFE ID's text and `key` the RFC 7638 thumbprint of the key it was issued to. For an X.509-SVID
    the caller has proved that key in the handshake, with a WIT-SVID by a signature over the message; a JWT-SVID is a
    bearer token, and `key` says for which registered
    key it was issued, so that revoking the key voids the token. Times are milliseconds, `not_after` exclusive.
    `digest` is the SHA-256 of the leaf's DER or of the token, in hex.

    Where another authority than ours vouches for the agent, it changes the agent's keys as it likes and tells nobody.
    There `key` is the SPIFFE ID that it vouches for, so that a new key cleans no context, and `proved` the thumbprint
    of the key that this caller proved, empty for a bearer token.
    """

    agent: str
    key: str
    kind: Kind
    not_before: int
    not_after: int
    digest: str
    audience: str | None = None
    proved: str = ""

    @property
    def holder(self) -> str:
        """The key that a chain of grants has to end at; no chain ends at a name."""
        return self.proved or self.key


class GatewayCredential(msgspec.Struct, frozen=True, kw_only=True):
    """The trust domain's gateway, as its certificate proves it to an agent."""

    gateway: str
    not_before: int
    not_after: int
    digest: str


def check_time(credential: Credential | GatewayCredential, now: int, leeway: int) -> None:
    """Refuse a credential that has expired, or is not valid yet, at `now`; all three are milliseconds.

    `leeway` forgives a difference of clocks in both directions, and has no default because it is a security parameter.
    """
    if now >= credential.not_after + leeway:
        raise Refused(Code.CREDENTIAL_EXPIRED, "the credential has expired")
    if now < credential.not_before - leeway:
        raise Refused(Code.CREDENTIAL_NOT_YET_VALID, "the credential is not valid yet")
