"""The agents that others speak to, as upstreams; and who has to answer there.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from urllib.parse import urlsplit

from citywatch.adapters.gateway.peers import Pushed
from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
from citywatch.adapters.upstream import HttpRecipient, HttpServer, HttpUpstream, Patience, RestUpstream
from citywatch.config import Exchanged, PeerAgent, Settings
from citywatch.core.errors import CitywatchError
from citywatch.core.names import AgentId
from citywatch.core.wire.a2a_rest import BINDING
from citywatch.core.wire.jsonrpc import Limits
from citywatch.core.wire.mcp import Definition
from citywatch.main.assembly import LEEWAY_MS, City
from citywatch.main.upstreams import Pins, owned_by, secret_at
from citywatch.service.alarm import Alarm
from citywatch.service.answering import Answering
from citywatch.service.card_watch import CardWatch
from citywatch.service.cards import Cards, Spoken, offered_card
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.ports import Upstream

CARDS_KEY = "cards.pem"
EVENTS = frozenset(("message", "error"))
"""A peer that fails in the middle of a stream says so in an event of its own kind."""


def peer_upstreams(city: City, pins: Pins, connected: Callable[[str], None] | None = None) -> dict[str, Upstream]:
    """Each peer at its own address, in the binding that it speaks, and nowhere else.

    `connected` is told of each connection that is opened to one of them.
    """
    settings = city.settings
    limits = settings.limits
    replies = Limits(size=limits.reply_bytes, depth=limits.depth, nodes=limits.nodes)
    found: dict[str, Upstream] = {}
    for name, peer in settings.peers.items():
        takes_tokens = isinstance(peer.reach.credential, Exchanged)
        opened = None if connected is None else partial(connected, name)
        http = _at(city, peer, peer.reach.url, pins, takes_tokens=takes_tokens, opened=opened)
        found[name] = RestUpstream(http, replies) if peer.binding == BINDING else http
    return found


def recipients(settings: Settings) -> dict[str, HttpRecipient]:
    """Where each agent takes its pushes, by its name."""
    own = frozenset(listen.port for listen in settings.listen)
    return {name: HttpRecipient(name, own=own) for name, agent in settings.agents.items() if agent.push}


def push_taker(exchange: Exchange) -> Pushed:
    """What takes a push: first who pushes, then what."""

    async def taken(address: str, secrets: Sequence[str]) -> Callable[[bytes], Awaitable[None]]:
        return partial(exchange.pushes.receive, await exchange.pushes.known(address, secrets))

    return taken


def card_upstreams(city: City, pins: Pins) -> dict[str, Upstream]:
    """Where each peer's card is. It is asked for without a token: a card is for whoever would speak to the peer."""
    return {name: _at(city, peer, peer.card, pins) for name, peer in city.settings.peers.items()}


async def offered_cards(
    city: City, pins: Pins, caller: str, only: str | None
) -> AsyncIterator[tuple[str, Definition | CitywatchError]]:
    """What each peer offers as its card today, or why that is not known; `only` asks no other than this one."""
    upstreams = card_upstreams(city, pins)
    for name, peer in sorted(city.settings.peers.items()):
        if only not in (None, name):
            continue
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


def card_watch(settings: Settings, served: Cards) -> CardWatch:
    """Who looks whether the peers' cards are still those that were approved."""
    return CardWatch(served, settings.peers, settings.limits.card_interval_ms / 1000)


def look_at_cards(watch: CardWatch, say: Callable[[str], None]) -> Callable[[], Awaitable[None]]:
    """Tell the operator which peers have another card, and whose card is not to be had."""
    held = Alarm(
        "messages are held back: the card is another than was approved", "every card is as it was approved", say
    )
    unseen = Alarm("a peer's card is not to be had", "the card of every peer is to be had again", say)

    async def look() -> None:
        held.rest() if not watch.held else held.ring(", ".join(sorted(watch.held)))
        unseen.rest() if not watch.failed else unseen.ring(
            "; ".join(f"{peer}: {why}" for peer, why in watch.failed.items())
        )

    return look


def _at(
    city: City,
    peer: PeerAgent,
    url: str,
    pins: Pins,
    *,
    takes_tokens: bool = False,
    opened: Callable[[], None] | None = None,
) -> HttpUpstream:
    seconds = peer.timeout_ms / 1000
    patience = Patience(first_byte=seconds, total=max(seconds, Patience().total))
    server = HttpServer(
        name=peer.name,
        url=url,
        ca=peer.reach.ca,
        takes_tokens=takes_tokens,
        patience=patience,
        kinds=EVENTS,
        opened=opened,
        shown=_answering(city, peer) if urlsplit(url).scheme == "https" else None,
        owned=owned_by(peer.reach.owner) if urlsplit(url).scheme == "http" else None,
    )
    pin = pins.of(peer.reach.spiffe_id) if peer.reach.spiffe_id else None
    return HttpUpstream(server, secret_at(peer.reach.credential), pin)


def _answering(city: City, peer: PeerAgent) -> Answering | None:
    """Who has to answer at the address of a peer that is an agent of ours."""
    if not peer.declared.agent:
        return None
    return Answering(
        AgentId(city.settings.trust_domain, peer.declared.agent),
        store=city.store,
        clock=city.clock,
        bundle=city.bundle,
        leeway_ms=LEEWAY_MS,
    )
