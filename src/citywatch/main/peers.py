"""The agents that others speak to, as upstreams; and where their credentials come from, as those of servers do.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
from citywatch.adapters.upstream import HttpServer, HttpUpstream, Patience, RestUpstream
from citywatch.adapters.upstream.credential import Credential, from_environment, from_file
from citywatch.adapters.upstream.http import Pin
from citywatch.config import Exchanged, FromEnvironment, FromFile, PeerAgent, Settings
from citywatch.core.errors import CitywatchError
from citywatch.core.wire.a2a_rest import BINDING
from citywatch.core.wire.jsonrpc import Limits
from citywatch.core.wire.mcp import Definition
from citywatch.service.cards import Cards, Spoken, offered_card
from citywatch.service.enforcer import Enforcer
from citywatch.service.ports import Upstream

CARDS_KEY = "cards.pem"
EVENTS = frozenset(("message", "error"))
"""A peer that fails in the middle of a stream says so in an event of its own kind."""


class Pins(Protocol):
    """What makes a connection that of somebody who is known by a SPIFFE ID."""

    def of(self, spiffe_id: str) -> Callable[[], Awaitable[Pin]]: ...


def peer_upstreams(settings: Settings, pins: Pins) -> dict[str, Upstream]:
    """Each peer at its own address, in the binding that it speaks, and nowhere else."""
    limits = settings.limits
    replies = Limits(size=limits.reply_bytes, depth=limits.depth, nodes=limits.nodes)
    found: dict[str, Upstream] = {}
    for name, peer in settings.peers.items():
        http = _at(peer, peer.reach.url, pins, isinstance(peer.reach.credential, Exchanged))
        found[name] = RestUpstream(http, replies) if peer.binding == BINDING else http
    return found


def card_upstreams(settings: Settings, pins: Pins) -> dict[str, Upstream]:
    """Where each peer's card is. It is asked for without a token: a card is for whoever would speak to the peer."""
    return {name: _at(peer, peer.card, pins) for name, peer in settings.peers.items()}


async def offered_cards(
    settings: Settings, pins: Pins, caller: str
) -> AsyncIterator[tuple[str, Definition | CitywatchError]]:
    """What each peer offers as its card today, or why that is not known."""
    upstreams = card_upstreams(settings, pins)
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


def _at(peer: PeerAgent, url: str, pins: Pins, takes_tokens: bool = False) -> HttpUpstream:
    seconds = peer.timeout_ms / 1000
    patience = Patience(first_byte=seconds, total=max(seconds, Patience().total))
    server = HttpServer(
        name=peer.name, url=url, ca=peer.reach.ca, takes_tokens=takes_tokens, patience=patience, kinds=EVENTS
    )
    pin = pins.of(peer.reach.spiffe_id) if peer.reach.spiffe_id else None
    return HttpUpstream(server, secret_at(peer.reach.credential), pin)
