"""What the gateway answers itself, beside the servers: its bundle, a renewal of papers, how it is.

Decides nothing; `service` does. A handler takes the body and returns a status, a media type and a body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec

from citywatch.adapters.gateway.app import ProvenRoute, Route
from citywatch.config import Settings
from citywatch.core.errors import Malformed
from citywatch.core.identity.credential import Credential
from citywatch.core.plan.contract import Held
from citywatch.core.plan.text import parse_plan
from citywatch.core.wire.jsonrpc import Limits, parse_json
from citywatch.service.access import TOKEN_PATH
from citywatch.service.cards import Cards
from citywatch.service.issuer import Issuer
from citywatch.service.joining import Invitations
from citywatch.service.plans import Plans
from citywatch.service.publisher import Publisher
from citywatch.service.tokens import TokenExchange
from citywatch.service.waiting import Waiting

JSON = "application/json"
BUNDLE_ENDPOINT = "/.well-known/spiffe-bundle"
"""Where other trust domains find our bundle. SPEC: SPIFFE Federation §5.2: without any authentication."""
SVID_BUNDLE_ENDPOINT = f"{BUNDLE_ENDPOINT}/svid"
"""The same for SPIRE, which refuses a bundle with uses that it does not know."""
TICKET_FORM = 'expected {"ticket": "<id>"}, and "wait_ms" to be told as soon as it was answered'
TICKET_LIMITS = Limits(size=1_024, depth=2, nodes=8)
PLAN_LIMITS = Limits(size=128 * 1024, depth=32, nodes=20_000)


def own_names(settings: Settings) -> frozenset[str]:
    """Under which names we are asked, those that servers know as their tokens' issuer and peers push to among them."""
    issuer = (urlsplit(settings.issuer).hostname or "") if settings.issuer is not None else "localhost"
    pushed = [urlsplit(peer.declared.push).hostname or "" for peer in settings.peers.values() if peer.declared.push]
    own = {"localhost", "127.0.0.1", "::1", issuer, *pushed, *settings.names, *(one.host for one in settings.listen)}
    return frozenset(own)


def routes(issuer: Issuer | None, publisher: Publisher, *, enforcing: bool) -> Mapping[tuple[str, str], Route]:
    """The gateway's own addresses, by method and path. What watches it is told if it enforces nothing.

    Without an `issuer` papers and bundle are somebody else's to give.
    """

    async def health(_: bytes) -> tuple[int, str, bytes]:
        log = publisher.health
        status = "ok" if log.failed is None else "the log is not published for now: its disk or a witness is away"
        if log.refused is not None:
            status = "the log is not published: a witness or the signer refused"
        if not enforcing:
            status = f"UNSAFE: observing, nothing is enforced; {status}"
        return 200, JSON, msgspec.json.encode({"status": status, "published": log.size, "enforcing": enforcing})

    return {("GET", "/citywatch/health"): health, **({} if issuer is None else _issuing(issuer))}


def _issuing(issuer: Issuer) -> Mapping[tuple[str, str], Route]:
    async def bundle(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, issuer.bundle()

    async def svid_bundle(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, issuer.svid_bundle()

    async def renew(body: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, await issuer.renew(body)

    return {
        ("GET", "/citywatch/bundle"): bundle,
        ("GET", BUNDLE_ENDPOINT): bundle,
        ("GET", SVID_BUNDLE_ENDPOINT): svid_bundle,
        ("POST", "/citywatch/renew"): renew,
    }


def bundle_pages(issuer: Issuer) -> Mapping[str, Callable[[], bytes]]:
    """What the address with a certificate of the Web's shows."""
    return {BUNDLE_ENDPOINT: issuer.bundle, SVID_BUNDLE_ENDPOINT: issuer.svid_bundle}


def join_routes(invitations: Invitations) -> Mapping[tuple[str, str], Route]:
    """Where an agent that was invited gets its first papers."""

    async def join(body: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, await invitations.join(body)

    return {("POST", "/citywatch/join"): join}


def card_routes(cards: Cards) -> Mapping[tuple[str, str], Route]:
    """Where the key is that verifies the cards of agents: it is no secret, and nothing else is signed with it."""

    async def key(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, cards.key()

    return {("GET", "/citywatch/card-key"): key}


def proven_routes(plans: Plans, waiting: Waiting) -> Mapping[tuple[str, str], ProvenRoute]:
    """The addresses for agents with papers: an agent's own plan, what it is held to, what became of its tickets."""

    async def write(credential: Credential, body: bytes) -> tuple[int, str, bytes]:
        value, _ = parse_json(body, PLAN_LIMITS)
        return 200, JSON, _held(await plans.write(credential, parse_plan(value)))

    async def present(credential: Credential, _: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, _held(await plans.present(credential))

    async def ticket(credential: Credential, body: bytes) -> tuple[int, str, bytes]:
        value, _ = parse_json(body, TICKET_LIMITS)
        if type(value) is not dict or not {"ticket"} <= set(value) <= {"ticket", "wait_ms"}:
            raise Malformed(TICKET_FORM)
        name, wait_ms = value["ticket"], value.get("wait_ms", 0)
        if type(name) is not str or type(wait_ms) is not int or wait_ms < 0:
            raise Malformed(TICKET_FORM)
        state, expires = await waiting.answered(credential, name, wait_ms / 1000)
        return 200, JSON, msgspec.json.encode({"ticket": name, "state": state, "expires": expires})

    return {
        ("POST", "/citywatch/plan"): write,
        ("GET", "/citywatch/plan"): present,
        ("POST", "/citywatch/ticket"): ticket,
    }


def token_route(exchange: TokenExchange | None) -> Mapping[tuple[str, str], ProvenRoute]:
    """Where agents are given tokens, if there is any resource server that takes them."""
    if exchange is None:
        return {}

    async def token(credential: Credential, body: bytes) -> tuple[int, str, bytes]:
        status, said = await exchange.exchange(credential, body)
        return status, JSON, said

    return {("POST", TOKEN_PATH): token}


def _held(held: Held | None) -> bytes:
    """Digest, who vouches, under which assumption; not what it says: whoever hijacks an agent would like to read it."""
    told: dict[str, str | None] = {"plan": None, "kind": None, "assumes": None}
    if held is not None:
        told = {"plan": held.digest, "kind": held.kind.value, "assumes": held.kind.assumes}
    return msgspec.json.encode(told)
