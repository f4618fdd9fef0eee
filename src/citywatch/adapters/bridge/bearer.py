"""The agent's papers: fetched with a proof of its key, fetched again well before they end.

Over TLS the certificate is shown, which is worth nothing without the key; over plain HTTP, on loopback, the token.
Decides when to renew and whether what came back is ours: papers for this agent and this key, signed by an authority of
the bundle. Does not decide what they are shown for.
INVARIANTS: the key signs proofs and handshakes, and leaves no other trace; one renewal at a time; a renewal needs no
papers, so that none that ended or were refused stand in its way; a bundle is kept for later only from a gateway that
has proved itself over TLS, and is never older than the one before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from citywatch.adapters.bridge.client import GatewayClient
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused, Unavailable
from citywatch.core.http_signature import Head
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.jwt import verify_jwt_svid
from citywatch.core.identity.papers import MAX_PAPERS_BYTES, Introduction, Papers, parse_papers
from citywatch.core.identity.wit import BoundToken, verify_wit_svid
from citywatch.core.identity.x509 import verify_x509_svid
from citywatch.core.signature import thumbprint
from citywatch.core.wire import jsonrpc
from citywatch.service.authority import p256
from citywatch.service.ports import Chance, Clock, Signer
from citywatch.service.renewal import prove_renewal
from citywatch.service.signing import sign_message

RENEW_PATH = b"/citywatch/renew"
PATIENCE_S = 30.0
PAUSE_MS = 1_000
"""After a renewal failed, so long no other is tried: a gateway that is down is not asked by every request anew."""
_LIMITS = jsonrpc.Limits(size=65_536, depth=16, nodes=1_000)


class Bearer:
    """Holds the agent's key by a signer, and its papers."""

    def __init__(
        self,
        introduction: Introduction,
        signer: Signer,
        client: GatewayClient,
        *,
        clock: Clock,
        chance: Chance,
        remember: Callable[[TrustBundle], None],
        renewed: Callable[[], None],
    ) -> None:
        """`client` is for renewals alone, and shows no certificate. `remember` is given each newer bundle, to be found
        again after a restart; `renewed` is called when the certificate has changed.
        """
        self._agent, self._gateway = introduction.agent, introduction.gateway
        self.bundle = introduction.bundle
        self._signer, self._client = signer, client
        self._clock, self._chance = clock, chance
        self._remember, self._renewed = remember, renewed
        self._one_at_a_time = asyncio.Lock()
        self._token, self._bound, self._certificate = "", "", b""
        self._renew_at = self._until = self._pause_until = 0
        self._failure: CitywatchError | None = None

    @property
    def certificate(self) -> bytes | None:
        """The certificate (DER) to show in a handshake over TLS, if there is one that has not ended."""
        return self._certificate if self._client.secure and self._clock.now_ms() < self._until else None

    async def token(self) -> str:
        """The token of papers that are good now. While the old ones still are, a renewal that fails is tried later.

        It names them also where the certificate is what is shown.
        """
        if self._clock.now_ms() < self._renew_at:
            return self._token
        async with self._one_at_a_time:
            now = self._clock.now_ms()
            if now < self._renew_at:
                return self._token
            try:
                await self._renew()
            except CitywatchError:
                if now >= self._until:
                    raise
            return self._token

    def sign(
        self, method: bytes, target: bytes, authority: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> list[tuple[bytes, bytes]]:
        """What makes a request prove the agent's key by itself; after `token`, which sees to papers that are good."""
        if not self._bound:
            raise Refused(Code.CREDENTIAL_MISSING, "no WIT-SVID to sign with: renew introduction.json")
        head = Head(
            method=method.decode("ascii"),
            target=target,
            secure=self._client.secure,
            headers=[(b"host", authority), *headers],
        )
        now, nonce = self._clock.now_ms(), self._chance.salt().hex()
        return sign_message(head, body, self._bound.encode("ascii"), self._signer, now=now, nonce=nonce)

    async def replace(self, refused: str) -> str:
        """The token of other papers than those that the gateway has just refused."""
        async with self._one_at_a_time:
            if self._token == refused:
                self._renew_at = self._until = 0
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        now = self._clock.now_ms()
        if self._failure is not None and now < self._pause_until:
            raise self._failure
        try:
            papers = await self._ask(now)
        except CitywatchError as failure:
            self._failure, self._pause_until = failure, now + PAUSE_MS
            raise
        self._failure = None
        if papers.bundle.sequence > self.bundle.sequence:
            self.bundle = papers.bundle
            if self._client.secure:  # plain HTTP may carry on through a rotation, and leaves nothing for a TLS to come
                self._client.forget()
                self._remember(papers.bundle)
        self._token, self._bound, self._certificate = papers.token, papers.bound, papers.certificate
        self._until = papers.certificate_until if self._client.secure else papers.token_until
        self._renew_at = now + (self._until - now) // 2
        if self._client.secure:
            self._renewed()

    async def _ask(self, now: int) -> Papers:
        nonce = self._chance.salt().hex()
        body = prove_renewal(self._agent, self._gateway, self._signer, now=now, nonce=nonce)
        headers = [(b"content-type", b"application/json"), (b"accept", b"application/json")]
        try:
            async with asyncio.timeout(PATIENCE_S):
                reply = await self._client.request(b"POST", RENEW_PATH, headers, body)
                answer = await reply.read(MAX_PAPERS_BYTES)
        except TimeoutError:
            raise Unavailable(Code.UPSTREAM_TIMEOUT, "the gateway gave no papers in time") from None
        if reply.status != 200:
            raise refused_with(reply.status, answer)
        papers = parse_papers(answer, self._agent.domain)
        # A token that our bundle does not know comes from an authority that was rotated in meanwhile, or from nobody.
        believed = papers.bundle if self._client.secure else self.bundle
        found: list[Credential | BoundToken] = [verify_jwt_svid(papers.token, believed, self._gateway)]
        bound = _bound(papers.bound, believed)
        if bound is not None:
            found.append(bound)
        if self._client.secure:
            found.append(verify_x509_svid([papers.certificate], believed))
        key = thumbprint(p256(self._signer.public))
        if any((one.agent, _thumbprint(one)) != (str(self._agent), key) for one in found):
            raise Malformed("the gateway sent another agent's papers")
        return papers if bound is not None else msgspec.structs.replace(papers, bound="")


def _bound(token: str, believed: TrustBundle) -> BoundToken | None:
    """What the WIT-SVID says, if there is one to believe: an older gateway gives none, an older bundle knows no key."""
    try:
        return verify_wit_svid(token.encode("ascii"), believed) if token else None
    except Refused:
        return None


def _thumbprint(paper: Credential | BoundToken) -> str:
    return paper.key if isinstance(paper, Credential) else paper.thumbprint


def refused_with(status: int, answer: bytes) -> CitywatchError:
    """Why the gateway gave no papers, in its own code if it gave one."""
    try:
        value = jsonrpc.parse_message(answer, _LIMITS)
        error = value.error if isinstance(value, jsonrpc.Response) else None
        code = Code(str(((error or {}).get("data") or {}).get("code")))
    except (Malformed, ValueError, AttributeError):
        return Unavailable(Code.UPSTREAM_UNAVAILABLE, f"the gateway gave no papers: status {status}")
    if code in (Code.STORE_UNAVAILABLE, Code.CONFLICT, Code.DRAINING, Code.OVERLOADED):
        return Unavailable(code, "the gateway gave no papers")
    return Refused(code, "the gateway gave no papers")
