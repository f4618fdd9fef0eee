"""Whom one running gateway believes and what it shows of itself, kept fresh: its own authority's, SPIRE's, neighbours'.

Decides nothing about papers; `core.identity` does. INVARIANT: what is believed anew is verified anew, and each listener
follows without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from citywatch.adapters.gateway.door import Door
from citywatch.adapters.tls import GatewayTls, TlsKey
from citywatch.core.errors import CitywatchError, Malformed
from citywatch.core.identity.elsewhere import Domains, check_certificate
from citywatch.main.assembly import GATEWAY_TTL_MS, City, operator
from citywatch.main.federation import neighbours
from citywatch.main.pins import Pins
from citywatch.service.alarm import Alarm
from citywatch.service.messages import Messages
from citywatch.service.outside import Outside

REFRESH_S = 5.0


class Trust:
    """The papers and bundles of one gateway process."""

    def __init__(self, city: City) -> None:
        self._city = city
        self._outside = _outside(city)
        if self._outside is not None:
            city.outside = self._outside
        self._known = neighbours(city)
        self._following: asyncio.Task[None] | None = None
        self._door: Door | None = None
        self._tls: GatewayTls | None = None
        self._renewed = self._shown = 0

    async def begin(self) -> None:
        """Have papers, know the other trust domains as anybody here did last, and put on file whom the file names of
        them; `Unavailable` if somebody else has to give us papers and does not."""
        if self._outside is not None:
            self._following = asyncio.create_task(self._outside.run())
            try:
                await self._outside.begin()
            except BaseException:
                await self.close()
                raise
        await self._known.load()
        settings = self._city.settings
        for name in settings.agents:
            if called := settings.called(name):
                await self._city.admin.recognise(settings.agent_id(name), called, operator())

    def door(self, messages: Messages) -> Door:
        """The door, which forgets what it verified when somebody is believed anew."""
        self._door = Door(self._known.domains, self._city.audience, messages)
        return self._door

    async def tls(self) -> GatewayTls | None:
        """Our side of TLS, if anything listens with it."""
        if any(listen.tls for listen in self._city.settings.listen):
            self._tls = GatewayTls()
            await self._show()
        self._renewed = self._city.clock.now_ms()
        self._shown = 0 if self._outside is not None else self._city.row().sequence
        self._known.changed = self._changed
        if self._outside is not None:
            self._outside.changed = self._changed
        return self._tls

    def domains(self) -> Domains:
        """Whom this process believes at present."""
        return self._known.domains()

    def pins(self) -> Pins:
        """How this gateway proves itself, and what it asks, where it calls others by SPIFFE IDs."""
        return Pins(self._city, self._known.domains)

    def judge(self) -> Callable[[tuple[bytes, ...]], None] | None:
        """What holds a certificate against its own domain's bundle; None where only our own authority is believed."""
        if self._outside is None and not self._city.settings.federation:
            return None
        return lambda chain: check_certificate(chain, self._known.domains())

    def chores(self, say: Callable[[str], None]) -> tuple[Coroutine[Any, Any, None], ...]:
        """What keeps all this fresh, until cancelled."""
        own = self._keep_fresh() if self._outside is None else self._attend(say)
        return own, self._known.run()

    def look_around(self, say: Callable[[str], None]) -> Callable[[], Awaitable[None]]:
        """Tell the operator when a neighbour's bundle is not to be had."""
        alarm = Alarm("another trust domain's bundle is not to be had", "every bundle is to be had again", say)

        async def look() -> None:
            failed = self._known.failed
            alarm.rest() if not failed else alarm.ring("; ".join(failed.values()))

        return look

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _show(self) -> None:
        """Give our listeners a certificate: a fresh one of our own authority's, or what SPIRE gave us last."""
        if self._tls is None:
            return
        others = tuple(self._known.bundles().values())
        if self._outside is None:
            await self._city.renew_gateway(self._tls, others)
            return
        papers = self._outside.papers()
        self._tls.install(papers.chain, TlsKey(papers.key), self._city.bundle(), others)

    def _changed(self) -> None:
        if self._door is not None:
            self._door.forget()
        if self._tls is None:
            return
        others = tuple(self._known.bundles().values())
        if self._outside is None:
            self._tls.believe(self._city.bundle(), others)
            return
        papers = self._outside.papers()
        with suppress(Malformed):  # a key that is not the certificate's: what was shown before stays
            self._tls.install(papers.chain, TlsKey(papers.key), self._city.bundle(), others)

    async def _attend(self, say: Callable[[str], None]) -> None:
        """Tell the operator when whoever issues our papers is away, and end if nobody follows it any more."""
        alarm = Alarm("no new papers come from SPIRE; those at hand go on until they end", "SPIRE is there again", say)
        while self._following is not None and self._outside is not None and not self._following.done():
            alarm.ring(self._outside.failed) if self._outside.failed else alarm.rest()
            await asyncio.sleep(1.0)

    async def _keep_fresh(self) -> None:
        """Renew the gateway's key and certificate; see if another process rotated the authority, and believe that."""
        while True:
            await asyncio.sleep(REFRESH_S)
            with suppress(CitywatchError, OSError):  # store or disk are away for a moment: the append refuses calls
                await self.look_again()

    async def look_again(self) -> None:
        """See if another process rotated the authority; renew what we show if that is due.

        # INVARIANT: whom the bundle believes that we give away, the listeners believe too: what is retired ends and
        # what is new begins everywhere in one step of the loop, and waits for no entry. A fresh certificate does.
        """
        city = self._city
        before = city.row().sequence
        after = (await city.look_at_authority()).sequence
        if after != before:
            self._changed()
        now = city.clock.now_ms()
        if after != self._shown or is_due(now, self._renewed):
            await self._show()
            self._renewed, self._shown = now, after


def is_due(now: int, renewed: int) -> bool:
    """Whether half of the certificate's life is over, or the clock was put back to before it began."""
    return not renewed <= now <= renewed + GATEWAY_TTL_MS // 2


def _outside(city: City) -> Outside | None:
    """Who gives us our papers, if our own authority does not."""
    spire = city.settings.spire
    if spire is None:
        return None
    from citywatch.adapters.workload import WorkloadClient

    return Outside(
        identity=WorkloadClient(spire.socket, spire.spiffe_id),
        spiffe_id=spire.spiffe_id,
        domain=city.settings.trust_domain,
        store=city.store,
        clock=city.clock,
        replica=city.replica.name,
    )
