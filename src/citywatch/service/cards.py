"""The cards of peers: fetched, held against what a person approved, served with our address under our signature.

    may this caller speak to the peer? → what does it offer now? → is that what was approved? → rewrite, sign

Decides nothing of its own: a person approves a card like a tool's definition, the gates' rules say who may speak to
whom. INVARIANTS: a card that nobody approved, or that changed since, is withheld, and the change is an entry, once,
which holds messages to that peer back; the same words under another signature are the same card; who is not named
beside a peer learns nothing of it; the key that signs cards signs nothing else, for a peer chooses most of what is
signed.
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
from citywatch.core.enforce.needs import CARD, Key, Pin, agent_key, definition_key, pin_key
from citywatch.core.enforce.offers import offers_key, report
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
from citywatch.service.ports import Append, Loaded, Signer, Upstream
from citywatch.service.snapshots import versions_of

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
    return Definition(kind=CARD, name="", value=a2a_card.content(a2a_card.check_card(value, url)))


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
        check_time(credential, self._enforcer.clock.now_ms(), rules.leeway_ms)
        name = credential.agent.rpartition("/")[2]
        whose = agent_key(name)
        loaded = await self._enforcer.store.load((whose,), ())
        check_standing(credential.agent, credential.key, self._enforcer.snapshots.decode(whose, loaded))
        declared = rules.peers.get(peer)
        if declared is None or name not in declared.callers:
            raise Refused(Code.SERVER_UNKNOWN, f"`{peer[:80]}` is no peer of `{name}`")
        try:
            one = await offered_card(self._upstreams[peer], self._spoken[peer].url, credential.agent)
            pin, changed = await self._held_against(peer, one)
        except Malformed as failure:
            raise Refused(Code.REPLY_MALFORMED, str(failure)) from None
        if pin is None:
            raise Refused(Code.TOOL_NOT_APPROVED, "nobody approved this agent's card")
        if changed:
            raise Refused(Code.TOOL_CHANGED, "this agent's card changed after approval")
        at, pushes = self._spoken[peer], bool(declared.push and name in declared.pushes)
        a2a_card.check_spoken(one.value, at.url, at.binding)
        return self._signed(
            a2a_card.served(one.value, here, declared.skills, at.binding, pushes=pushes, extensions=declared.extensions)
        )

    async def look(self, peer: str) -> bool:
        """Hold a peer's card as it is now against its approval; whether it is that card, or nobody approved one.

        What is there and is no card of this peer's agent is a changed card. Raises `Unavailable` where none is to be
        had: then nothing is known, and what was held back stays held back.
        """
        if (await self._pinned(peer))[0] is None:
            return True
        try:
            one = await offered_card(self._upstreams[peer], self._spoken[peer].url, "")
            _, changed = await self._held_against(peer, one)
        except Malformed as failure:
            other = Definition(kind=CARD, name="", value={"malformed": str(failure)})
            _, changed = await self._held_against(peer, other)
        return not changed

    async def _pinned(self, peer: str) -> tuple[Pin | None, Mapping[Key, Any], Loaded]:
        rows = (pin_key(peer, CARD, ""), definition_key(peer, CARD, ""), offers_key(peer))
        loaded = await self._enforcer.store.load(rows, ())
        known = {key: self._enforcer.snapshots.decode(key, loaded) for key in rows}
        return known[rows[0]], known, loaded

    async def _held_against(self, peer: str, one: Definition) -> tuple[Pin | None, bool]:
        """The approval, and whether what is offered is another card; if it is, that is on record from now on."""
        pin, known, loaded = await self._pinned(peer)
        approved = known[definition_key(peer, CARD, "")]
        body = definition_bytes(one.value)
        digest = definition_digest(body)
        if pin is not None and type(approved) is dict and definition_bytes(a2a_card.content(approved)) == body:
            digest = pin.digest  # it was approved with a signature, by an earlier version
        told = report(peer, (one,), (digest,), known)
        if told.changes:
            now = self._enforcer.clock.now_ms()
            notes = entries.reported(peer, told, replica=self._enforcer.replica, now=now)
            reads = versions_of(tuple(known), loaded)
            await self._enforcer.store.append(Append(entries=notes, reads=reads, puts=told.puts))
        return pin, pin is not None and (pin.digest != digest or pin.offered is not None)

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
