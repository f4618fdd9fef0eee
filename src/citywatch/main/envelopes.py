"""Envelopes of messages, put together: the key that signs them, whom they are for, whose are believed.

Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.adapters.gateway.app import Route
from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
from citywatch.config import Http, Settings
from citywatch.core.identity.elsewhere import Domains
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.names import parse_spiffe_id
from citywatch.core.signature import P256Key, thumbprint
from citywatch.service.authority import p256
from citywatch.service.enforcer import Enforcer
from citywatch.service.envelopes import Arrivals, Envelopes
from citywatch.service.ports import Clock
from citywatch.service.reply_envelopes import ReplyArrivals, ReplyEnvelopes

ENVELOPES_KEY = "envelopes.pem"
JSON = "application/json"


def envelope_keys(keys: SecretDirectory) -> dict[str, P256Key]:
    """The public key that verifies our envelopes, by `kid`."""
    key = p256(open_key(keys, ENVELOPES_KEY, KeyKind.P256).public)
    return {thumbprint(key): key}


def envelopes(settings: Settings, keys: SecretDirectory, clock: Clock) -> Envelopes:
    """What writes the envelopes that go out, under a key of their own."""
    signer = open_key(keys, ENVELOPES_KEY, KeyKind.P256)
    return Envelopes(domain=settings.trust_domain, signer=signer, receivers=receivers(settings), clock=clock)


def receivers(settings: Settings) -> dict[str, str]:
    """By the name of a peer or server that takes envelopes: whom they are for, by SPIFFE ID or else by address."""
    found = {}
    for name, peer in settings.peers.items():
        if peer.envelope:
            ours = str(settings.agent_id(peer.declared.agent)) if peer.declared.agent else peer.envelope_for
            found[name] = ours or peer.reach.url
    for name, server in settings.servers.items():
        if server.envelope:
            there = server.reach.url if isinstance(server.reach, Http) else f"server:{name}"
            found[name] = server.envelope_for or there
    return found


def answerers(settings: Settings) -> dict[str, str]:
    """By the name of a peer or server behind the gateway of a domain that the file believes: who answers there."""
    named = {name: one.envelope_for for name, one in settings.peers.items() if one.envelope}
    named |= {name: one.envelope_for for name, one in settings.servers.items() if one.envelope}
    return {name: who for name, who in named.items() if who and parse_spiffe_id(who).domain in settings.federation}


def arrivals(enforcer: Enforcer, known: Callable[[], Domains], leeway_ms: int) -> Arrivals:
    """What takes the envelopes of other trust domains, each by the keys in that domain's own bundle."""
    rules, trusted = lambda: enforcer.rules, _trusted(known)
    return Arrivals(store=enforcer.store, clock=enforcer.clock, rules=rules, trusted=trusted, leeway_ms=leeway_ms)


def reply_envelopes(settings: Settings, keys: SecretDirectory, enforcer: Enforcer) -> ReplyEnvelopes | None:
    """What writes the envelopes of replies; None where no agent of another domain can ask."""
    return ReplyEnvelopes(enforcer, open_key(keys, ENVELOPES_KEY, KeyKind.P256)) if settings.federation else None


def reply_arrivals(
    settings: Settings, enforcer: Enforcer, known: Callable[[], Domains], own: str, leeway_ms: int
) -> ReplyArrivals | None:
    """What takes the envelopes of replies; None where nobody answers from behind a gateway that the file believes.

    `own` is the SPIFFE ID that our own papers name.
    """
    if not (named := answerers(settings)):
        return None
    asking = frozenset((own, gateway_id(settings.trust_domain)))
    return ReplyArrivals(enforcer, trusted=_trusted(known), answerers=named, own=asking, leeway_ms=leeway_ms)


def _trusted(known: Callable[[], Domains]) -> Callable[[], dict[str, dict[str, P256Key]]]:
    def trusted() -> dict[str, dict[str, P256Key]]:
        domains = known()
        return {
            domain: dict(one.bundle.envelopes) for domain, one in domains.others.items() if domain not in domains.stale
        }

    return trusted


def envelope_routes(written: Envelopes) -> dict[tuple[str, str], Route]:
    """Where the key is that verifies our envelopes: it is no secret, and nothing else is signed with it."""

    async def keys(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, written.key_set()

    return {("GET", "/citywatch/envelope-keys"): keys}
