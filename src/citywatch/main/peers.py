"""The agents that others speak to, as upstreams; and where their credentials come from, as those of servers do.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial

from citywatch.adapters.gateway.peers import Pushed
from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
from citywatch.adapters.upstream import HttpRecipient, HttpServer, HttpUpstream, Patience, RestUpstream
from citywatch.adapters.upstream.credential import Credential, from_environment, from_file
from citywatch.config import Exchanged, FromEnvironment, FromFile, PeerAgent, Settings
from citywatch.core.errors import CitywatchError
from citywatch.core.wire.a2a_rest import BINDING
from citywatch.core.wire.jsonrpc import Limits
from citywatch.core.wire.mcp import Definition
from citywatch.service.cards import Cards, Spoken, offered_card
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.ports import Upstream

CARDS_KEY = "cards.pem"
EVENTS = frozenset(("message", "error"))
"""A peer that fails in the middle of a stream says so in an event of its own kind."""


def peer_upstreams(settings: Settings) -> dict[str, Upstream]:
    """Each peer at its own address, in the binding that it speaks, and nowhere else."""
    limits = settings.limits
    replies = Limits(size=limits.reply_bytes, depth=limits.depth, nodes=limits.nodes)
    found: dict[str, Upstream] = {}
    for name, peer in settings.peers.items():
        http = _at(peer, peer.reach.url, isinstance(peer.reach.credential, Exchanged))
        found[name] = RestUpstream(http, replies) if peer.binding == BINDING else http
    return found


def recipients(settings: Settings) -> dict[str, HttpRecipient]:
    """Where each agent takes its pushes, by its name."""
    return {
        name: HttpRecipient(HttpUpstream(HttpServer(name=name, url=agent.push, kinds=frozenset()), None))
        for name, agent in settings.agents.items()
        if agent.push is not None
    }


def push_taker(exchange: Exchange) -> Pushed:
    """What takes a push: first who pushes, then what."""

    async def taken(address: str, secrets: Sequence[str]) -> Callable[[bytes], Awaitable[None]]:
        return partial(exchange.pushes.receive, await exchange.pushes.known(address, secrets))

    return taken


def card_upstreams(settings: Settings) -> dict[str, Upstream]:
    """Where each peer's card is. It is asked for without a token: a card is for whoever would speak to the peer."""
    return {name: _at(peer, peer.card) for name, peer in settings.peers.items()}


async def offered_cards(settings: Settings, caller: str) -> AsyncIterator[tuple[str, Definition | CitywatchError]]:
    """What each peer offers as its card today, or why that is not known."""
    upstreams = card_upstreams(settings)
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


def _at(peer: PeerAgent, url: str, takes_tokens: bool = False) -> HttpUpstream:
    seconds = peer.timeout_ms / 1000
    patience = Patience(first_byte=seconds, total=max(seconds, Patience().total))
    server = HttpServer(
        name=peer.name, url=url, ca=peer.reach.ca, takes_tokens=takes_tokens, patience=patience, kinds=EVENTS
    )
    return HttpUpstream(server, secret_at(peer.reach.credential))
