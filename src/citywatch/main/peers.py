"""The agents that others speak to, as upstreams; and where their credentials come from, as those of servers do.

Decides nothing.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping

from cryptography.x509 import Certificate

from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
from citywatch.adapters.tls import SpiffePin
from citywatch.adapters.upstream import HttpServer, HttpUpstream, Patience, Proof, RestUpstream
from citywatch.adapters.upstream.credential import Credential, from_environment, from_file
from citywatch.config import Exchanged, FromEnvironment, FromFile, PeerAgent, Settings
from citywatch.core.errors import CitywatchError
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.names import format_agent_id
from citywatch.core.wire.a2a_rest import BINDING
from citywatch.core.wire.jsonrpc import Limits
from citywatch.core.wire.mcp import Definition
from citywatch.service.cards import Cards, Spoken, offered_card
from citywatch.service.enforcer import Enforcer
from citywatch.service.ports import Upstream

CARDS_KEY = "cards.pem"
ProofOf = Callable[[PeerAgent], Proof | None]
EVENTS = frozenset(("message", "error"))
"""A peer that fails in the middle of a stream says so in an event of its own kind."""


def peer_upstreams(settings: Settings, proof: ProofOf) -> dict[str, Upstream]:
    """Each peer at its own address, in the binding that it speaks, and nowhere else."""
    limits = settings.limits
    replies = Limits(size=limits.reply_bytes, depth=limits.depth, nodes=limits.nodes)
    found: dict[str, Upstream] = {}
    for name, peer in settings.peers.items():
        http = _at(peer, peer.reach.url, proof, isinstance(peer.reach.credential, Exchanged))
        found[name] = RestUpstream(http, replies) if peer.binding == BINDING else http
    return found


def card_upstreams(settings: Settings, proof: ProofOf) -> dict[str, Upstream]:
    """Where each peer's card is. It is asked for without a token: a card is for whoever would speak to the peer."""
    return {name: _at(peer, peer.card, proof) for name, peer in settings.peers.items()}


def proofs(settings: Settings, bundle: Callable[[], TrustBundle], now: Callable[[], int], leeway_ms: int) -> ProofOf:
    """What a peer has to show that is to prove an agent's key: that agent's certificate, under today's bundle."""

    def proof_of(peer: PeerAgent) -> Proof | None:
        if not peer.svid:
            return None
        name = format_agent_id(settings.agent_id(peer.declared.agent))
        made: dict[tuple[Certificate, ...], SpiffePin] = {}

        def proof() -> tuple[ssl.SSLContext, Callable[[ssl.SSLObject], object]]:
            today = bundle()
            pin = made.get(today.certificates)
            if pin is None:
                made.clear()
                pin = made[today.certificates] = SpiffePin(today, name, now, leeway_ms)
            return pin.context, pin.check

        return proof

    return proof_of


async def offered_cards(
    settings: Settings, caller: str, proof: ProofOf
) -> AsyncIterator[tuple[str, Definition | CitywatchError]]:
    """What each peer offers as its card today, or why that is not known."""
    upstreams = card_upstreams(settings, proof)
    for name, peer in sorted(settings.peers.items()):
        try:
            yield name, await offered_card(upstreams[name], peer.reach.url, caller)
        except CitywatchError as failure:
            yield name, failure
        finally:
            await upstreams[name].close()


def cards(settings: Settings, keys: SecretDirectory, enforcer: Enforcer, upstreams: Mapping[str, Upstream]) -> Cards:
    """What serves the cards, under a key of their own."""
    spoken = {name: Spoken(peer.reach.url, peer.binding) for name, peer in settings.peers.items()}
    return Cards(enforcer, upstreams, spoken, open_key(keys, CARDS_KEY, KeyKind.P256))


def secret_at(place: FromEnvironment | FromFile | Exchanged | None) -> Credential | None:
    """What gives a credential each time it is needed; None where there is none, or a token for each message."""
    if place is None or isinstance(place, Exchanged):
        return None
    return from_environment(place.name) if isinstance(place, FromEnvironment) else from_file(place.path)


def _at(peer: PeerAgent, url: str, proof: ProofOf, takes_tokens: bool = False) -> HttpUpstream:
    seconds = peer.timeout_ms / 1000
    patience = Patience(first_byte=seconds, total=max(seconds, Patience().total))
    server = HttpServer(
        name=peer.name, url=url, ca=peer.reach.ca, takes_tokens=takes_tokens, patience=patience, kinds=EVENTS
    )
    return HttpUpstream(server, secret_at(peer.reach.credential), proof(peer))
