"""Sessions of an agent: how many, which one makes room, and what becomes of them and of a name that is given again."""

from __future__ import annotations

from typing import Any

from citywatch.core.errors import Code, Unavailable
from citywatch.core.identity.registration import AgentRow, agent_key, format_row
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, KEY, LEGACY, City, answers, code_of

EVERYTHING = '@id("all") permit(principal, action, resource);'
GREETING = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
CALLER = f"{AGENT}#0"


async def open_session(city: City, name: str) -> str:
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": GREETING}, session=name)
    session = (await city.exchange.request(city.call("initialize", None), city.credential(), {})).session
    assert session is not None
    city.answer = answers(DONE)
    return session


async def test_at_the_limit_the_oldest_session_makes_room() -> None:
    """Else an agent whose client never ends one, or whose server makes it open new ones, is locked out for good."""
    city = await City(EVERYTHING).settle_in()
    first, second, third = [await open_session(city, name) for name in ("one", "two", "three")]
    assert code_of(await city.ask(city.call(session=first))) is None
    fourth = await open_session(city, "four")
    assert code_of(await city.ask(city.call(session=first))) == "session_unknown"
    for session in (second, third, fourth):
        assert code_of(await city.ask(city.call(session=session))) is None
    assert city.upstream.ended == [(CALLER, "one")]
    for number in range(40):
        await open_session(city, f"more {number}")
    assert len(await city.store.scan("session")) == 3
    ((_, listed),) = await city.store.scan("sessions")
    assert len(listed.value) < 200


async def test_below_the_limit_none_is_ended_and_an_ended_one_takes_no_room() -> None:
    city = await City(EVERYTHING).settle_in()
    first, second, third = [await open_session(city, name) for name in ("one", "two", "three")]
    city.answer = answers(media="none", status=200)
    end = city.call("transport/end", None, session=second, rpc_id=None)
    assert (await city.exchange.end(end, city.credential(), {})).status == 200
    fourth = await open_session(city, "four")
    for session in (first, third, fourth):
        assert code_of(await city.ask(city.call(session=session))) is None
    assert city.upstream.ended == [(CALLER, "two")]


async def test_what_waited_in_a_session_that_makes_room_is_closed() -> None:
    city = await City(EVERYTHING).settle_in()
    first = await open_session(city, "one")
    city.answer = answers({"jsonrpc": "2.0", "id": 9, "method": "roots/list"}, DONE, media="sse")
    outcome = await city.exchange.request(city.call(session=first), city.credential(), {})
    assert outcome.stream is not None
    assert len([delivery async for delivery in outcome.stream]) == 2
    assert len(await city.store.scan("asked")) == 1
    for name in ("two", "three", "four"):
        await open_session(city, name)
    assert await city.store.scan("asked") == await city.store.scan("open") == []


async def test_a_server_that_will_not_end_a_session_holds_up_no_other() -> None:
    city = await City(EVERYTHING).settle_in()

    async def refuse(*arguments: Any) -> int:
        raise Unavailable(Code.UPSTREAM_UNAVAILABLE)

    city.upstream.end = refuse  # type: ignore[assignment,method-assign]
    sessions = [await open_session(city, str(number)) for number in range(5)]
    assert code_of(await city.ask(city.call(session=sessions[-1]))) is None


async def test_who_is_given_a_revoked_agents_name_is_another_caller() -> None:
    """Upstreams keep connections and running programs by caller: what the first one left there is not the heir's."""
    city = await City(EVERYTHING).settle_in()
    await city.ask(city.call())
    city.clock.advance(1000)
    heir = AgentRow(agent=AGENT, keys=("another key",), added_at=city.clock.now_ms())
    await city.store.append(Append(puts=((agent_key("clerk"), format_row(heir)),)))
    await city.ask(city.call(), city.credential(key="another key"))
    callers = [caller for caller, _ in city.upstream.sent]
    assert len(set(callers)) == 2


async def test_an_agent_that_changes_its_key_stays_the_same_caller() -> None:
    city = await City(EVERYTHING).settle_in()
    await city.ask(city.call())
    row = AgentRow(agent=AGENT, keys=(KEY, "the next key"), added_at=0)
    await city.store.append(Append(puts=((agent_key("clerk"), format_row(row)),)))
    await city.ask(city.call(), city.credential(key="the next key"))
    assert {caller for caller, _ in city.upstream.sent} == {CALLER}
