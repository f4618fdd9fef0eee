"""An agent that polls hard holds its own places, and none of another's."""

from __future__ import annotations

import asyncio

import pytest

from citywatch.adapters.gateway.app import PLACES_OF_AN_AGENT, Gateway
from citywatch.adapters.gateway.door import Door
from citywatch.adapters.gateway.shares import Shares
from citywatch.core.errors import Code, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.elsewhere import Domains
from citywatch.core.wire.jsonrpc import FROM_SERVER
from citywatch.service.exchange import Exchange
from tests.identity_city import GATEWAY, signer
from tests.identity_city import City as Papers
from tests.simulation.city import City
from tests.unit.adapters.gateway.test_unproven import Request, settled

PATH = "/citywatch/ticket"


class Polled:
    """A gateway whose address answers when we say so, and two agents with tokens."""

    def __init__(self) -> None:
        self.papers, self.answer, self.asked = Papers(), asyncio.Event(), 0
        city = City()

        async def ticket(_: Credential, body: bytes) -> tuple[int, str, bytes]:
            self.asked += 1
            await self.answer.wait()
            if body == b"wrong":
                raise Unavailable(Code.STORE_UNAVAILABLE)
            return 200, "application/json", b"{}"

        self.gateway = Gateway(
            exchange=Exchange(city.enforcer, {"bank": city.upstream}, FROM_SERVER, 3),
            door=Door(lambda: Domains(home=self.papers.bundle), GATEWAY, self.papers.messages),
            limits=FROM_SERVER,
            body_time=60,
            max_in_flight=8,
            routes={},
            hosts=frozenset({"localhost"}),
            closed=lambda: None,
            proven={("POST", PATH): ticket},
        )

    async def token(self, name: str) -> bytes:
        await self.papers.admin.add_agent(name, signer().public, "alice")
        return (await self.papers.issuer.token(name)).value

    def ask(self, token: bytes, body: bytes = b"{}") -> Request:
        request = Request(self.gateway, PATH, [(b"authorization", b"Bearer " + token)])
        request.say(body)
        return request


async def test_an_agent_that_polls_without_end_is_told_so_and_keeps_nobody_out() -> None:
    here = Polled()
    greedy, honest = await here.token("greedy"), await here.token("honest")
    polls = [here.ask(greedy) for _ in range(100)]
    await settled(polls)
    assert here.asked == PLACES_OF_AN_AGENT
    assert [one.status for one in polls if one.task.done()] == [503] * (100 - PLACES_OF_AN_AGENT)
    other = here.ask(honest)
    await settled([other])
    assert here.asked == PLACES_OF_AN_AGENT + 1
    here.answer.set()
    assert await other.answer() == 200
    assert {await one.answer() for one in polls if one.status != 503} == {200}
    assert await here.ask(greedy).answer() == 200


async def test_half_a_body_holds_a_place_and_gives_it_back_however_it_ends() -> None:
    here = Polled()
    here.answer.set()
    token = await here.token("slow")
    halves = [Request(here.gateway, PATH, [(b"authorization", b"Bearer " + token)]) for _ in range(PLACES_OF_AN_AGENT)]
    for one in halves:
        one.say(b"{", more=True)
    await settled(halves)
    assert await here.ask(token).answer() == 503
    halves[0].task.cancel()
    await settled(halves)
    assert await here.ask(token, b"wrong").answer() == 503
    assert await here.ask(token).answer() == 200
    for one in halves[1:]:
        one.say(b"}")
        assert await one.answer() == 200


def test_a_place_is_one_of_so_many_and_nothing_is_kept_of_who_left() -> None:
    shares = Shares(1)
    with shares.place("a"), shares.place("b"):
        with pytest.raises(Unavailable) as full, shares.place("a"):
            pass
        assert full.value.code is Code.OVERLOADED
    with pytest.raises(KeyError), shares.place("a"):
        raise KeyError
    assert shares._taken == {}
