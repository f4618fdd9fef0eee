"""The door: which papers a request shows, verified once and remembered by hash.

Decides which credential a request proves, not what its holder may do; expiry, registration and revocation are asked
again for each call in `core.enforce.verify`. INVARIANTS: only verified credentials are remembered, under the SHA-256 of
the very bytes shown; a certificate and a token on one request must name the same agent and key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from citywatch.adapters.gateway.protocol import Peer
from citywatch.core.errors import Code, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.x509 import verify_x509_svid

MAX_REMEMBERED = 10_000


class Door:
    """Turns what a request shows into a `Credential`, or refuses it."""

    def __init__(self, bundle: Callable[[], TrustBundle], audience: str) -> None:
        self._bundle = bundle
        self._audience = audience
        self._remembered: dict[bytes, Credential] = {}
        self._generation = 0

    def enter(self, headers: list[tuple[bytes, bytes]], peer: Peer) -> Credential:
        """Return the credential this request proves; raise `Refused` if it proves none.

        A TLS client certificate is proved by the handshake, a JWT-SVID is a bearer token. Both together must agree.
        """
        shown = None
        for name, value in headers:
            if name == b"authorization":
                if shown is not None:
                    raise Refused(Code.CREDENTIAL_MALFORMED, "two Authorization headers")
                shown = value
        by_token = None if shown is None else self._token(shown, peer)
        by_certificate = None if peer.certificate is None else self._certificate(peer.certificate)
        if by_certificate is None:
            if by_token is None:
                raise Refused(Code.CREDENTIAL_MISSING)
            return by_token
        if by_token is not None and (by_token.agent, by_token.key) != (by_certificate.agent, by_certificate.key):
            raise Refused(Code.CREDENTIAL_MALFORMED, "the certificate and the token name different agents or keys")
        return by_certificate

    def _token(self, shown: bytes, peer: Peer) -> Credential:
        """Verified once per connection: a kept-alive connection shows the same bytes each time."""
        if peer.proved is not None and peer.proved[:2] == (shown, self._generation):
            credential: Credential = peer.proved[2]
            return credential
        scheme, _, token = shown.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Refused(Code.CREDENTIAL_MALFORMED, "the Authorization header is not a bearer token")
        credential = self._once(token, lambda: verify_jwt_svid(token, self._bundle(), self._audience))
        peer.proved = (shown, self._generation, credential)
        return credential

    def _certificate(self, der: bytes) -> Credential:
        return self._once(der, lambda: verify_x509_svid([der], self._bundle()))

    def _once(self, shown: bytes, check: Callable[[], Credential]) -> Credential:
        key = hashlib.sha256(shown).digest()
        credential = self._remembered.get(key)
        if credential is None:
            credential = check()
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = credential
        return credential

    def forget(self) -> None:
        """The trust bundle changed: what was verified against the old one is verified again."""
        self._generation += 1
        self._remembered.clear()
