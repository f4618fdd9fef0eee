"""The cards of peers: fetched, held against what a person approved, served with our address under our signature.

    may this caller speak to the peer? → what does it offer now? → is that what was approved? → rewrite, sign

Decides nothing of its own: a person approves a card like a tool's definition, the gates' rules say who may speak to
whom. INVARIANTS: a card that nobody approved, or that changed since, is withheld, and the change is an entry, once; who
is not named beside a peer learns nothing of it; the key that signs cards signs nothing else, for a peer chooses most
of what is signed.
SPEC: A2A 1.0 §8.4; RFC 7515 §7.2, RFC 8785.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from citywatch.core.canonical import canonical
from citywatch.core.enforce.needs import Pin, agent_key, pin_key
from citywatch.core.enforce.offers import definition_key, offers_key, report
from citywatch.core.enforce.pinning import definition_bytes, definition_digest
from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.credential import Credential, check_time
from citywatch.core.signature import format_jwk, parse_spki, thumbprint
from citywatch.core.wire import a2a_card
from citywatch.core.wire.jsonrpc import FROM_SERVER, parse_json
from citywatch.core.wire.mcp import Definition
from citywatch.service import entries
from citywatch.service.enforcer import Enforcer
from citywatch.service.ports import Append, Signer, Upstream
from citywatch.service.snapshots import versions_of

KIND: Final = "card"
FETCH_S: Final = 10.0


async def offered_card(upstream: Upstream, url: str, caller: str) -> Definition:
    """What a peer offers as its card today. Raises `Malformed`, `Refused` or `Unavailable`."""
    try:
        async with asyncio.timeout(FETCH_S):
            answer = await upstream.listen(caller, {}, None)
            try:
                if answer.status != 200 or answer.media != "json" or answer.body is None:
                    raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"no card: status {answer.status}")
                value, _ = parse_json(answer.body, FROM_SERVER)
            finally:
                await answer.close()
    except TimeoutError:
        raise Unavailable(Code.UPSTREAM_TIMEOUT, "the card took too long") from None
    return Definition(kind=KIND, name="", value=a2a_card.check_card(value, url))


class Spoken(msgspec.Struct, frozen=True):
    """Where a peer takes messages, and in which binding."""

    url: str
    binding: str


class Cards:
    """Serves the cards of this gateway's peers."""

    def __init__(
        self, enforcer: Enforcer, upstreams: Mapping[str, Upstream], spoken: Mapping[str, Spoken], signer: Signer
    ) -> None:
        """`upstreams` are where the cards are, `spoken` where and how the peers take messages."""
        self._enforcer = enforcer
        self._upstreams = upstreams
        self._spoken = spoken
        self._signer = signer

    def key(self) -> bytes:
        """The public key that verifies the cards, as a JWK."""
        public = parse_spki(self._signer.public)
        return msgspec.json.encode({**format_jwk(public), "kid": thumbprint(public), "alg": "ES256", "use": "sig"})

    async def card(self, peer: str, credential: Credential, here: str) -> bytes:
        """The peer's card for this caller; `here` is the address under which it reached us."""
        rules = self._enforcer.rules
        now = self._enforcer.clock.now_ms()
        check_time(credential, now, rules.leeway_ms)
        name = credential.agent.rpartition("/")[2]
        rows = (agent_key(name), pin_key(peer, KIND, ""), definition_key(peer, KIND, ""), offers_key(peer))
        loaded = await self._enforcer.store.load(rows, ())
        known = {key: self._enforcer.snapshots.decode(key, loaded) for key in rows}
        check_standing(credential.agent, credential.key, known[rows[0]])
        declared = rules.peers.get(peer)
        if declared is None or name not in declared.callers:
            raise Refused(Code.SERVER_UNKNOWN, f"`{peer[:80]}` is no peer of `{name}`")
        try:
            one = await offered_card(self._upstreams[peer], self._spoken[peer].url, credential.agent)
            digest = definition_digest(definition_bytes(one.value))
        except Malformed as failure:
            raise Refused(Code.REPLY_MALFORMED, str(failure)) from None
        told = report(peer, (one,), (digest,), known)
        if told.changes:
            notes = entries.reported(peer, told, replica=self._enforcer.replica, now=now)
            await self._enforcer.store.append(Append(entries=notes, reads=versions_of(rows, loaded), puts=told.puts))
        pin: Pin | None = known[rows[1]]
        if pin is None:
            raise Refused(Code.TOOL_NOT_APPROVED, "nobody approved this agent's card")
        if pin.digest != digest or pin.offered is not None:
            raise Refused(Code.TOOL_CHANGED, "this agent's card changed after approval")
        at, pushes = self._spoken[peer], bool(declared.push and name in declared.pushes)
        a2a_card.check_spoken(one.value, at.url, at.binding)
        return self._signed(a2a_card.served(one.value, here, declared.skills, at.binding, pushes=pushes))

    def _signed(self, card: dict[str, Any]) -> bytes:
        """# SPEC: A2A 1.0 §8.4: a JWS over the canonical card without its signatures, the payload detached."""
        kid = thumbprint(parse_spki(self._signer.public))
        protected = _b64url(canonical({"alg": "ES256", "kid": kid, "typ": "JOSE"}))
        r, s = decode_dss_signature(self._signer.sign(f"{protected}.{_b64url(canonical(card))}".encode()))
        signature = _b64url(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        # What is required stands there even if it is empty; the canonical form leaves it out.
        return msgspec.json.encode(
            {"capabilities": {}, **card, "signatures": [{"protected": protected, "signature": signature}]}
        )


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
