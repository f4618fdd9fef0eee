"""The door: which papers a request shows, verified once and remembered by hash.

Decides which credential a request proves, not what its holder may do; expiry, registration and revocation are asked
again for each call in `core.enforce.verify`. Which trust domain's bundle judges them is `core.identity.elsewhere`'s.
INVARIANTS: only verified papers are remembered, under the SHA-256 of
the very bytes shown, and a token that proves nobody (a WIT-SVID) never among those that do; all that one request shows
must name the same agent and key; a signed message yields its credential only with its body, and once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from citywatch.adapters.gateway.protocol import Peer
from citywatch.adapters.gateway.secure import Chain
from citywatch.core.errors import Code, Refused
from citywatch.core.http_signature import Head
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.elsewhere import Domains, verify_bound, verify_certificate, verify_token
from citywatch.core.identity.message import MessageProof, shown_token
from citywatch.core.identity.wit import BoundToken
from citywatch.service.messages import Messages

MAX_REMEMBERED = 10_000
_Verified = TypeVar("_Verified", Credential, BoundToken)


class Approach:
    """Who asks, as far as the head of a request says."""

    __slots__ = ("_credential", "_messages", "_proof")

    def __init__(self, credential: Credential | None, proof: MessageProof | None, messages: Messages) -> None:
        self._credential = credential
        self._proof = proof
        self._messages = messages

    @property
    def agent(self) -> str:
        """Whose request it is, as far as its head proves; what a message and a credential say agrees."""
        shown = self._credential if self._proof is None else self._proof.credential
        if shown is None:
            raise Refused(Code.CREDENTIAL_MISSING)
        return shown.agent

    async def enter(self, body: bytes) -> Credential:
        """The credential that the whole request proves; a signed message's is spent with it."""
        if self._proof is not None:
            signed = await self._messages.take(self._proof, body)
            return self._credential or signed
        if self._credential is None:
            raise Refused(Code.CREDENTIAL_MISSING)
        return self._credential


class Door:
    """Turns what a request shows into a `Credential`, or refuses it."""

    def __init__(self, domains: Callable[[], Domains], audience: str, messages: Messages) -> None:
        self._domains = domains
        self._audience = audience
        self._messages = messages
        self._remembered: dict[bytes, Credential] = {}
        self._bound: dict[bytes, BoundToken] = {}
        self._generation = 0

    def approach(self, scope: Mapping[str, Any], peer: Peer) -> Approach:
        """Judge the head of a request before its body is read; raise `Refused` if it proves nobody.

        A TLS client certificate is proved by the handshake, a JWT-SVID is a bearer token, a WIT-SVID is proved by a
        signature over the message. What is shown together must agree.
        """
        headers = scope["headers"]
        proof = self._message(scope)
        credential = self._shown(headers, peer)
        if proof is None and credential is None:
            raise Refused(Code.CREDENTIAL_MISSING)  # before the body is read: strangers are given no place for one
        if proof is not None and credential is not None:
            _check_agree(proof.credential, credential)
        return Approach(credential, proof, self._messages)

    def _message(self, scope: Mapping[str, Any]) -> MessageProof | None:
        token = shown_token(scope["headers"])
        if token is None:
            return None
        query = scope["query_string"]
        head = Head(
            method=scope["method"],
            target=scope["raw_path"] + (b"?" + query if query else b""),
            secure=scope["scheme"] == "https",
            headers=scope["headers"],
        )
        return self._messages.verify(head, self._once(self._bound, token, lambda: verify_bound(token, self._domains())))

    def _shown(self, headers: list[tuple[bytes, bytes]], peer: Peer) -> Credential | None:
        """What the handshake or a bearer token proves; None if there was neither."""
        shown = None
        for name, value in headers:
            if name == b"authorization":
                if shown is not None:
                    raise Refused(Code.CREDENTIAL_MALFORMED, "two Authorization headers")
                shown = value
        by_token = None if shown is None else self._token(shown, peer)
        by_certificate = None if not peer.chain else self._certificate(peer.chain)
        if by_certificate is None:
            return by_token
        if by_token is not None:
            _check_agree(by_token, by_certificate)
        return by_certificate

    def _token(self, shown: bytes, peer: Peer) -> Credential:
        """Verified once per connection: a kept-alive connection shows the same bytes each time."""
        if peer.proved is not None and peer.proved[:2] == (shown, self._generation):
            credential: Credential = peer.proved[2]
            return credential
        scheme, _, token = shown.partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise Refused(Code.CREDENTIAL_MALFORMED, "the Authorization header is not a bearer token")
        credential = self._once(self._remembered, token, lambda: verify_token(token, self._domains(), self._audience))
        peer.proved = (shown, self._generation, credential)
        return credential

    def _certificate(self, chain: Chain) -> Credential:
        """All of it is remembered, not the leaf alone: what is above decides until when it is good, and whether."""
        return self._once(self._remembered, b"".join(chain), lambda: verify_certificate(chain, self._domains()))

    @staticmethod
    def _once(remembered: dict[bytes, _Verified], shown: bytes, check: Callable[[], _Verified]) -> _Verified:
        key = hashlib.sha256(shown).digest()
        found = remembered.get(key)
        if found is None:
            found = check()
            if len(remembered) >= MAX_REMEMBERED:
                remembered.clear()
            remembered[key] = found
        return found

    def forget(self) -> None:
        """A trust bundle changed: what was verified against the old one is verified again."""
        self._generation += 1
        self._remembered.clear()
        self._bound.clear()


def _check_agree(one: Credential, other: Credential) -> None:
    if (one.agent, one.key) != (other.agent, other.key) or (one.proved and other.proved not in ("", one.proved)):
        raise Refused(Code.CREDENTIAL_MALFORMED, "what the request shows names different agents or keys")
