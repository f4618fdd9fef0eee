"""The agents that others speak to, as upstreams; and where their credentials come from, as those of servers do.

Decides nothing.
"""

from __future__ import annotations

from citywatch.adapters.upstream import HttpServer, HttpUpstream, Patience
from citywatch.adapters.upstream.credential import Credential, from_environment, from_file
from citywatch.config import FromEnvironment, FromFile, PeerAgent, Settings
from citywatch.service.ports import Upstream


def peer_upstreams(settings: Settings) -> dict[str, Upstream]:
    """Each peer at its own address, and nowhere else."""
    return {name: _at(peer, peer.reach.url) for name, peer in settings.peers.items()}


def card_upstreams(settings: Settings) -> dict[str, Upstream]:
    """Where each peer's card is."""
    return {name: _at(peer, peer.card) for name, peer in settings.peers.items()}


def secret_at(place: FromEnvironment | FromFile | None) -> Credential | None:
    """What gives a credential each time it is needed."""
    if place is None:
        return None
    return from_environment(place.name) if isinstance(place, FromEnvironment) else from_file(place.path)


def _at(peer: PeerAgent, url: str) -> Upstream:
    seconds = peer.timeout_ms / 1000
    patience = Patience(first_byte=seconds, total=max(seconds, Patience().total))
    return HttpUpstream(
        HttpServer(name=peer.name, url=url, ca=peer.reach.ca, patience=patience), secret_at(peer.reach.credential)
    )
