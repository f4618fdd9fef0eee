"""How this process proves itself to somebody in another trust domain, and what it asks of them: mTLS by SPIFFE IDs.

Decides nothing. INVARIANT: whom we speak to is judged by the bundle of the domain that the file names for it, as it is
believed at that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from citywatch.adapters.tls import GatewayTls, SpiffePin, TlsKey
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.elsewhere import Domains
from citywatch.core.names import parse_spiffe_id
from citywatch.main.assembly import GATEWAY_TTL_MS, LEEWAY_MS, City
from citywatch.main.federation import neighbours

Pin = Callable[[], Awaitable[SpiffePin]]


class Pins:
    """What this process shows, drawn when it is first needed, and the pins that go with it."""

    def __init__(self, city: City, domains: Callable[[], Domains] | None = None) -> None:
        """Without `domains`, what is on file of them is read when it is first needed."""
        self._city = city
        self._domains = domains
        self._shown: GatewayTls | None = None
        self._since = 0
        self._made: dict[str, tuple[TrustBundle, GatewayTls, SpiffePin]] = {}
        self._one_at_a_time = asyncio.Lock()

    def of(self, spiffe_id: str) -> Pin:
        """What makes a connection that of this SPIFFE ID and nobody else's; asked for each new one."""

        async def pin() -> SpiffePin:
            async with self._one_at_a_time:
                bundle, shown = await self._bundle(spiffe_id), await self._ours()
                known = self._made.get(spiffe_id)
                if known is None or known[0] != bundle or known[1] is not shown:
                    made = SpiffePin(bundle, spiffe_id, self._city.clock.now_ms, LEEWAY_MS, shown=shown)
                    known = self._made[spiffe_id] = (bundle, shown, made)
                return known[2]

        return pin

    async def _bundle(self, spiffe_id: str) -> TrustBundle:
        if self._domains is None:
            known = neighbours(self._city)
            await known.load()
            self._domains = known.domains
        domain = parse_spiffe_id(spiffe_id).domain
        try:
            believed = self._domains().of(domain)
        except Refused as failure:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, failure.detail) from None
        if believed is not None:
            return believed.bundle
        if domain != self._city.settings.trust_domain:
            raise Unavailable(Code.UPSTREAM_UNAVAILABLE, f"nothing is known of `{domain}`")
        return self._city.bundle()

    async def _ours(self) -> GatewayTls:
        now, outside = self._city.clock.now_ms(), self._city.outside
        if outside is not None:
            papers = outside.papers()
            shown = GatewayTls()
            shown.install(papers.chain, TlsKey(papers.key), self._city.bundle())
            return shown
        if self._shown is None or not self._since <= now <= self._since + GATEWAY_TTL_MS // 2:
            shown = GatewayTls()
            await self._city.renew_gateway(shown)
            self._shown, self._since = shown, now
        return self._shown
