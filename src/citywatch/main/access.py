"""Access tokens, put together: the keys of each generation of the authority, and for which servers they are written.

Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from citywatch.adapters.gateway.app import Route
from citywatch.adapters.keys import KeyKind, KeySigner, SecretDirectory, open_key
from citywatch.adapters.upstream import HttpServer, HttpTokenEndpoint, HttpUpstream
from citywatch.config import Exchanged, Http, Settings
from citywatch.core.canonical import digest
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.foreign import ForeignIssuer, parse_key_set
from citywatch.core.wire.oauth import metadata_url
from citywatch.service.access import KEYS_PATH, METADATA_PATH, AccessKeys, AccessTokens, Resource
from citywatch.service.borrowed import Borrowed, Lender, TokenEndpoint
from citywatch.service.discovery import check_metadata
from citywatch.service.enforcer import Enforcer
from citywatch.service.exchange import Exchange
from citywatch.service.judged import Judged
from citywatch.service.ports import Chance, Clock
from citywatch.service.rotation import AuthorityRow
from citywatch.service.tokens import TokenExchange

JSON = "application/json"
MAX_KEY_FILE = 262_144
ASK_S = 10.0


def resources(settings: Settings) -> dict[str, Resource]:
    """By the name of a server or peer that is shown tokens: its resource."""
    return {
        name: Resource(identifier=reach.credential.resource, scopes=reach.credential.scopes)
        for name, reach in _over_http(settings)
        if isinstance(reach.credential, Exchanged) and reach.credential.at is None
    }


def borrowed(
    settings: Settings,
    tokens: AccessTokens | None,
    clock: Clock,
    chance: Chance,
    stands: Callable[[Judged], Awaitable[None]] | None = None,
) -> Borrowed | None:
    """What asks servers' own authorization servers for tokens; None where the file names none."""
    lenders: dict[str, tuple[Lender, TokenEndpoint]] = {}
    for name, reach in _over_http(settings):
        if isinstance(reach.credential, Exchanged) and (at := reach.credential.at) is not None:
            lender = Lender(
                resource=reach.credential.resource,
                scopes=reach.credential.scopes,
                issuer=at.issuer,
                client=at.client_id,
                grant=at.grant,
            )
            lenders[name] = (lender, HttpTokenEndpoint(at.token_endpoint, ca=at.ca, timeout_s=ASK_S))
    if tokens is None or not lenders:
        return None
    return Borrowed(tokens=tokens, lenders=lenders, clock=clock, chance=chance, stands=stands)


def access_tokens(
    settings: Settings, keys: SecretDirectory, row: Callable[[], AuthorityRow], clock: Clock, chance: Chance
) -> AccessTokens | None:
    """What writes the tokens that servers are shown; None where this gateway issues none."""
    if settings.issuer is None:
        return None
    signing = GenerationKeys(keys, row).now
    return AccessTokens(
        issuer=settings.issuer,
        resources=resources(settings),
        keys=signing,
        clock=clock,
        chance=chance,
        hands_over=bool(settings.resources),
    )


async def check_published(settings: Settings, name: str, caller: str) -> str:
    """Hold what a server publishes of itself as a resource against the file; return a remark, raise what differs."""
    reach = dict(_over_http(settings)).get(name)
    if reach is None or not isinstance(reach.credential, Exchanged) or settings.issuer is None:
        return ""
    resource, at = reach.credential.resource, reach.credential.at
    upstream = HttpUpstream(HttpServer(name=name, url=metadata_url(reach.url, resource), ca=reach.ca), None)
    try:
        return await check_metadata(upstream, caller, resource, settings.issuer if at is None else at.issuer)
    finally:
        await upstream.close()


def read_issuers(settings: Settings) -> dict[str, ForeignIssuer]:
    """The foreign issuers of the file by their `iss`, with their keys as they are now; `Malformed` if they cannot be
    read."""
    found = {}
    for name, one in settings.issuers.items():
        try:
            data = Path(one.keys).read_bytes()[: MAX_KEY_FILE + 1]
            if len(data) > MAX_KEY_FILE:
                raise Malformed(f"it has more than {MAX_KEY_FILE} bytes")
            keys = parse_key_set(data)
        except (OSError, Malformed) as failure:
            raise Malformed(f"the keys of the issuer `{name}` in `{one.keys}` cannot be used: {failure}") from None
        found[one.issuer] = ForeignIssuer(issuer=one.issuer, audience=one.audience, keys=keys, digest=digest(data))
    return found


async def keep_issuers(settings: Settings, enforcer: Enforcer, seconds: float) -> None:
    """Follow the foreign issuers' keys as their files change; those of a file that cannot be read stay as they were."""
    while True:
        await asyncio.sleep(seconds)
        with suppress(CitywatchError):
            found, known = read_issuers(settings), enforcer.rules.issuers
            if {name: one.digest for name, one in found.items()} != {name: one.digest for name, one in known.items()}:
                enforcer.rules = msgspec.structs.replace(enforcer.rules, issuers=found)


def key_name(generation: int) -> str:
    """The file of the key that signs access tokens while this generation of the authority signs papers."""
    return f"authority-{generation}-access.pem"


class GenerationKeys:
    """The keys of all generations that are believed, by the authority's row as it stands."""

    def __init__(self, keys: SecretDirectory, row: Callable[[], AuthorityRow]) -> None:
        self._keys = keys
        self._row = row
        self._signers: dict[int, KeySigner] = {}

    def now(self) -> AccessKeys:
        row = self._row()
        self._signers = {
            one.number: self._signers.get(one.number) or open_key(self._keys, key_name(one.number), KeyKind.P256)
            for one in row.generations
        }
        return AccessKeys(self._signers[row.active], tuple(one.public for one in self._signers.values()))


def handed_over(
    settings: Settings, exchange: Exchange, bundle: Callable[[], TrustBundle], audience: str
) -> TokenExchange | None:
    """What hands tokens to agents; None where there is no resource server that they go to by themselves."""
    tokens = exchange.outward.tokens
    if tokens is None or not settings.resources:
        return None
    return TokenExchange(exchange.enforcer, tokens, bundle, audience)


def access_routes(tokens: AccessTokens | None) -> dict[tuple[str, str], Route]:
    """Where servers find who issues their tokens, and the keys that verify them. Neither is a secret."""
    if tokens is None:
        return {}

    async def metadata(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, tokens.metadata()

    async def keys(_: bytes) -> tuple[int, str, bytes]:
        return 200, JSON, tokens.key_set()

    return {("GET", METADATA_PATH): metadata, ("GET", KEYS_PATH): keys}


def _over_http(settings: Settings) -> Iterator[tuple[str, Http]]:
    for name, server in settings.servers.items():
        if isinstance(server.reach, Http):
            yield name, server.reach
    yield from ((name, peer.reach) for name, peer in settings.peers.items())
