"""What a peer without papers may ask for: bounded in size, in number and in what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from citywatch.adapters.gateway.app import UNPROVEN_BODY, UNPROVEN_PLACES, Gateway
from citywatch.adapters.gateway.door import Door
from citywatch.adapters.gateway.protocol import Peer
from citywatch.core import events
from citywatch.core.identity.elsewhere import Domains
from citywatch.core.wire.jsonrpc import FROM_SERVER
from citywatch.service.exchange import Exchange
from tests.identity_city import GATEWAY, signer
from tests.identity_city import City as Papers
from tests.simulation.city import City

MANY = 2000


class Request:
    """One HTTP request whose body arrives when we say so."""

    def __init__(
        self, gateway: Gateway, path: str = "/citywatch/renew", more: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        self.read = 0
        self.status: int | None = None
        self._coming: asyncio.Queue[tuple[bytes, bool]] = asyncio.Queue()
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": [(b"host", b"localhost"), *more],
            "state": {"peer": Peer("127.0.0.1:9")},
        }
        self.task = asyncio.ensure_future(gateway(scope, self._receive, self._send))

    def say(self, data: bytes, *, more: bool = False) -> None:
        self._coming.put_nowait((data, more))

    async def answer(self) -> int:
        await self.task
        assert self.status is not None
        return self.status

    async def _receive(self) -> dict[str, Any]:
        data, more = await self._coming.get()
        self.read += len(data)
        return {"type": "http.request", "body": data, "more_body": more}

    async def _send(self, event: Any) -> None:
        self.status = event.get("status", self.status)


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[Gateway, City, Papers]]:
    city, papers = City(), Papers()

    async def renew(body: bytes) -> tuple[int, str, bytes]:
        return 200, "application/json", await papers.issuer.renew(body)

    opened = Gateway(
        exchange=Exchange(city.enforcer, {"bank": city.upstream}, FROM_SERVER, 3),
        door=Door(lambda: Domains(home=papers.bundle), GATEWAY, papers.messages),
        limits=FROM_SERVER,
        body_time=60,
        max_in_flight=8,
        routes={("POST", "/citywatch/renew"): renew},
        hosts=frozenset({"localhost"}),
        closed=lambda: None,
    )
    begun = asyncio.all_tasks()
    yield opened, city, papers
    left = asyncio.all_tasks() - begun
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


async def settled(requests: Sequence[Request]) -> None:
    """Let every request get as far as it can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_no_more_of_a_renewal_is_kept_than_a_renewal_can_have() -> None:
    async with gateway() as (opened, _, _):
        request = Request(opened)
        for _ in range(63):
            request.say(b"x" * 65_536, more=True)
        await settled([request])
        assert request.status == 400
        assert request.read <= UNPROVEN_BODY + 65_536


async def test_half_sent_renewals_hold_few_places_and_none_of_a_call() -> None:
    async with gateway() as (opened, _, papers):
        slow = [Request(opened) for _ in range(MANY)]
        for request in slow:
            request.say(b"x" * 1000, more=True)
        await settled(slow)
        assert len([one for one in slow if not one.task.done()]) <= UNPROVEN_PLACES
        assert {one.status for one in slow if one.task.done()} == {408}
        assert await Request(opened, "/mcp/bank").answer() == 401
        key = signer()
        await papers.admin.add_agent("billing", key.public, "alice")
        honest, body = Request(opened), papers.proof(key)
        honest.say(body[:100], more=True)
        await settled([honest])
        honest.say(body[100:])
        assert await honest.answer() == 200


async def test_a_renewal_that_is_refused_leaves_an_entry() -> None:
    async with gateway() as (opened, city, papers):
        for body, code in ((b'{"key":{},"proof":"x"}', 401), (papers.proof(signer()), 403)):
            request = Request(opened)
            request.say(body)
            assert await request.answer() == code
        rejected = [event for event in await city.events() if isinstance(event, events.Rejected)]
        assert [event.code for event in rejected] == ["credential_malformed", "key_not_registered"]
        assert {event.peer for event in rejected} == {"127.0.0.1"}


async def test_a_flood_of_refused_renewals_does_not_fill_the_log() -> None:
    async with gateway() as (opened, city, _):
        requests = [Request(opened) for _ in range(500)]
        for request in requests:
            request.say(b"{}")
            await request.answer()
        assert len(await city.events()) < 50
