"""Over TLS the relay shows the certificate and no token; when that is refused, the next one, and asks once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from citywatch.adapters.bridge.bearer import Bearer
from citywatch.adapters.bridge.client import GatewayClient, PapersRefused
from citywatch.adapters.bridge.relay import Chain, Relay
from citywatch.adapters.tls import GatewayPin
from citywatch.core.errors import Code, Refused
from tests.identity_city import HOUR
from tests.unit.adapters.bridge.gate import Answer, Asked, Gate, open_gate, plain, says
from tests.unit.adapters.test_tls import Town

LIMIT = 1 << 20
Certificate = tuple[Sequence[bytes], Path]


class Certificates:
    """A bearer with certificates in a row: each that is refused gives way to the next."""

    def __init__(self, *given: Certificate | None) -> None:
        self.given = given
        self.number = 0
        self.client: GatewayClient

    async def token(self) -> str:
        return f"token-{self.number}"

    async def replace(self, refused: str) -> str:
        assert refused == f"token-{self.number}"
        self.number += 1
        self.client.forget()
        return await self.token()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    town = Town(tmp_path)
    town.gateway()
    return town


@asynccontextmanager
async def opened(
    town: Town, answer: Answer, *given: Certificate | None, chain: Chain | None = None
) -> AsyncIterator[tuple[Gate, Relay]]:
    papers = Certificates(*given)
    async with open_gate(answer, town.tls.context) as gate:
        papers.client = GatewayClient(
            f"https://localhost:{gate.port}", lambda: town.pin(papers.given[papers.number]), connect_s=10
        )
        try:
            yield gate, Relay(papers.client, cast(Bearer, papers), chain)
        finally:
            await papers.client.close()


async def ask(relay: Relay) -> bytes:
    return await (await relay.ask(b"POST", b"/mcp/desk", [(b"authorization", b"Bearer mine")], b"{}")).read(LIMIT)


async def test_the_certificate_is_shown_and_no_token(town: Town) -> None:
    good = town.agent("good.pem")
    async with opened(town, says(plain(b"1")), good) as (gate, relay):
        assert await ask(relay) == b"1"
    assert gate.certificates == [good[0][0]]
    assert [b"authorization" in asked.headers for asked in gate.asked] == [False]


async def test_acts_are_shown_under_the_chain_of_the_moment_and_what_only_finds_tools_is_not(town: Town) -> None:
    held = [("t-1", ["one"]), ("t-2", ["one", "two"])]
    act = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "_meta": {"progressToken": 7}}}
    own = {**act, "params": {"name": "pay", "_meta": {"citywatch/chain": ["mine"]}}}
    listing = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    bodies = [json.dumps(one).encode() for one in (act, listing, own)]
    bodies += [b"no message", b'{"jsonrpc":"2.0","method":"notifications/initialized"}']
    async with opened(town, says(plain(b"1")), town.agent("good.pem"), chain=lambda: held[0]) as (gate, relay):
        for body in bodies:
            await (await relay.ask(b"POST", b"/mcp/desk", [], body)).read(LIMIT)
        held.pop(0)
        await (await relay.ask(b"POST", b"/mcp/desk", [], bodies[0])).read(LIMIT)
    first, *others, last = (asked.body for asked in gate.asked)
    meta = {"progressToken": 7, "citywatch/task": "t-1", "citywatch/chain": ["one"]}
    assert json.loads(first) == {**act, "params": {"name": "pay", "_meta": meta}}
    assert others == bodies[1:]
    assert json.loads(last)["params"]["_meta"]["citywatch/chain"] == ["one", "two"]


async def test_an_agents_own_plan_and_tickets_are_asked_for_as_they_stand_and_no_other_address_is(town: Town) -> None:
    chain = ("t-1", ["one"])
    own = [(b"POST", b"/citywatch/plan"), (b"GET", b"/citywatch/plan"), (b"POST", b"/citywatch/ticket")]
    act = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay"}}).encode()
    async with opened(town, says(plain(b"1")), town.agent("good.pem"), chain=lambda: chain) as (gate, relay):
        for method, path in own:
            await (await relay.ask(method, path, [], None if method == b"GET" else act)).read(LIMIT)
        strange = [(b"DELETE", b"/citywatch/plan"), (b"GET", b"/citywatch/ticket"), (b"POST", b"/citywatch/renew")]
        for method, path in [*strange, (b"POST", b"/citywatch/plan/"), (b"POST", b"/citywatch/../citywatch/plan")]:
            with pytest.raises(Refused) as caught:
                await relay.ask(method, path, [], b"{}")
            assert caught.value.code is Code.SERVER_UNKNOWN
    assert [(asked.method, asked.path) for asked in gate.asked] == own
    assert [asked.body for asked in gate.asked] == [act, b"", act]


async def test_a_certificate_that_tls_refuses_is_replaced_and_the_request_arrives_once(town: Town) -> None:
    good = town.agent("good.pem")
    async with opened(town, says(plain(b"1")), town.agent("late.pem", ago=2 * HOUR), good) as (gate, relay):
        assert await ask(relay) == b"1"
    assert gate.certificates == [good[0][0]]
    assert (len(gate.asked), gate.refused) == (1, [Code.CREDENTIAL_EXPIRED])


async def test_a_certificate_that_the_gateway_refuses_is_replaced_on_a_connection_of_its_own(town: Town) -> None:
    first, second = town.agent("first.pem"), town.agent("second.pem")

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"2") if asked.connection == 2 else plain(b"{}", status=b"401 Unauthorized"))

    async with opened(town, answer, first, second) as (gate, relay):
        assert await ask(relay) == b"2"
        assert await ask(relay) == b"2"
    assert gate.certificates == [first[0][0], second[0][0]]


async def test_papers_that_are_refused_twice_are_refused(town: Town) -> None:
    late = town.agent("late.pem", ago=2 * HOUR)
    async with opened(town, says(plain(b"1")), late, late) as (gate, relay):
        with pytest.raises(PapersRefused) as caught:
            await ask(relay)
    assert caught.value.code is Code.CREDENTIAL_EXPIRED
    assert gate.asked == []


async def test_a_connection_that_was_busy_when_papers_changed_is_not_used_again(town: Town) -> None:
    """Else the next request would be made with papers that may have ended meanwhile."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await go_on.wait()
        writer.write(plain(b"1"))

    async with open_gate(answer, town.tls.context) as gate:
        client = GatewayClient(
            f"https://localhost:{gate.port}", lambda: GatewayPin(town.bundle, town.clock.now_ms, 0), connect_s=10
        )

        async def once() -> bytes:
            return await (await client.request(b"POST", b"/mcp/desk", [], b"{}")).read(LIMIT)

        first = asyncio.create_task(once())
        await begun.wait()
        client.forget()
        go_on.set()
        assert await first == await once() == await once() == b"1"
        await client.close()
    assert [asked.connection for asked in gate.asked] == [1, 2, 2]
