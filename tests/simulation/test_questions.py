"""Whose answer goes where: an id names one open request at a time, on either side."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core import events
from citywatch.core.enforce.held import TaskRow, task_key
from citywatch.core.errors import Refused
from citywatch.core.wire.jsonrpc import Response
from citywatch.service.ports import Append
from tests.simulation.city import AGENT, LEGACY, City, answers, code_of

EVERYTHING = '@id("all") permit(principal, action, resource);'
GREETING = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
ROOTS = {"jsonrpc": "2.0", "id": 9, "method": "roots/list"}
ELICITATION = {"jsonrpc": "2.0", "id": 9, "method": "elicitation/create", "params": {"message": "Delete everything?"}}


def reply(rpc_id: int, result: dict[str, Any]) -> Response:
    return Response(rpc_id, result, None, b'{"jsonrpc":"2.0","id":%d,"result":{}}' % rpc_id)


async def open_session(city: City) -> str:
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": GREETING}, session="theirs")
    session = (await city.exchange.request(city.call("initialize", None), city.credential(), {})).session
    assert session is not None
    return session


@pytest.mark.parametrize("in_session", [True, False])
async def test_a_second_question_under_the_id_of_an_open_one_is_refused_by_name(in_session: bool) -> None:
    """The agent's answer to the harmless one would count as its answer to the other."""
    city = await City(EVERYTHING).settle_in()
    session = await open_session(city) if in_session else None
    city.answer = answers(ROOTS, ELICITATION, DONE, media="sse")
    outcome = await city.exchange.request(city.call(session=session), city.credential(), {})
    assert outcome.stream is not None
    assert b"roots/list" in (await anext(outcome.stream)).body
    (last,) = [delivery.body async for delivery in outcome.stream]
    assert b"id_in_use" in last
    assert b"Delete everything?" not in last
    asked = [e for e in await city.events() if isinstance(e, events.Decided) and e.direction == "to_agent"]
    assert [(e.method, e.code) for e in asked] == [("roots/list", None), ("elicitation/create", "id_in_use")]
    (end,) = [e for e in await city.events() if isinstance(e, events.Settled) and e.code == "id_in_use"]
    assert (end.outcome, end.final) == ("failed", True)
    assert not [body for _, body in city.upstream.sent if b'"id":9' in body], "the server would take it for an answer"

    city.answer = answers(media="none", status=202)
    answer = city.exchange.answer(
        city.call("response", None, session=session), reply(9, {"roots": []}), city.credential(), {}
    )
    if in_session:  # the first question stands, and what answers it is judged as its answer
        assert (await answer).status == 202
        released = (await city.events())[-1]
        assert isinstance(released, events.Settled)
        assert (released.call, released.outcome) == (asked[0].call, "released")
    else:
        with pytest.raises(Refused):
            await answer
    assert await city.store.scan("open") == []


async def test_questions_of_different_ids_wait_side_by_side_and_an_id_is_free_once_it_is_answered() -> None:
    city = await City(EVERYTHING).settle_in()
    session = await open_session(city)
    city.answer = answers(ROOTS, {**ELICITATION, "id": "9"}, {**ROOTS, "id": 10}, media="sse")
    outcome = await city.exchange.request(city.call(session=session), city.credential(), {})
    assert outcome.stream is not None
    assert len([delivery async for delivery in outcome.stream]) == 3
    city.answer = answers(media="none", status=202)
    await city.exchange.answer(
        city.call("response", None, session=session), reply(9, {"roots": []}), city.credential(), {}
    )
    city.answer = answers(ELICITATION, DONE, media="sse")
    outcome = await city.exchange.request(city.call(session=session), city.credential(), {})
    assert outcome.stream is not None
    assert b"Delete everything?" in (await anext(outcome.stream)).body
    await outcome.stream.aclose()


async def test_a_question_on_a_stream_without_a_session_ends_with_it() -> None:
    """Else a server that counts from nought in each stream could ask no agent twice."""
    city = await City(EVERYTHING).settle_in()
    for _ in range(3):
        city.answer = answers(ROOTS, DONE, media="sse")
        outcome = await city.exchange.request(city.call(), city.credential(), {})
        assert outcome.stream is not None
        assert len([delivery async for delivery in outcome.stream]) == 2
    assert await city.store.scan("asked") == []
    assert await city.store.scan("open") == []
    ended = [e for e in await city.events() if isinstance(e, events.Settled) and e.code == "abandoned"]
    assert [e.detail for e in ended] == ["the stream it came on is over"] * 3


async def test_an_agents_request_under_the_id_of_an_open_one_in_its_session_is_refused_by_name() -> None:
    """A server that finds the way back by the id alone would send an unfiltered list where only a ping is expected."""
    city = await City(EVERYTHING).settle_in()
    session, other = await open_session(city), await open_session(city)
    worked = asyncio.Event()
    send = city.upstream.send

    async def slowly(*arguments: Any, **named: Any) -> MemoryAnswer:
        answer: MemoryAnswer = await send(*arguments, **named)
        if b"tools/list" in arguments[1]:
            await worked.wait()
        return answer

    city.upstream.send = slowly  # type: ignore[method-assign]
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": {"tools": []}})
    first = asyncio.ensure_future(city.ask(city.call("tools/list", None, session=session)))
    while b"tools/list" not in city.upstream.sent[-1][1]:
        await asyncio.sleep(0)
    city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": {"tools": ["unapproved"]}})
    sent = len(city.upstream.sent)
    told = await city.ask(city.call("ping", None, session=session))
    assert code_of(told) == "id_in_use"
    assert "unapproved" not in str(told)
    denied = (await city.events())[-1]
    assert isinstance(denied, events.Decided)
    assert (denied.decision, denied.code) == ("deny", "id_in_use")
    assert len(city.upstream.sent) == sent

    city.answer = answers(DONE)
    assert code_of(await city.ask(city.call(session=other))) is None  # other sessions, other ids, no session
    assert code_of(await city.ask(city.call())) is None
    city.answer = answers({**DONE, "id": "1"})
    assert code_of(await city.ask(city.call(session=session, rpc_id="1"))) is None
    worked.set()
    assert (await first)["result"] == {"tools": []}
    city.answer = answers(DONE)
    assert code_of(await city.ask(city.call(session=session))) is None, "the id is free again"
    assert await city.store.scan("open") == []


async def test_of_requests_of_one_id_that_come_at_once_one_goes_through() -> None:
    city = await City(EVERYTHING).settle_in()
    session = await open_session(city)
    city.answer = answers(DONE)
    told = await asyncio.gather(*(city.ask(city.call(session=session)) for _ in range(8)))
    codes = [code_of(one) for one in told]
    assert codes.count(None) >= 1
    assert set(codes) <= {None, "id_in_use"}
    forwarded = [body for _, body in city.upstream.sent if b"tools/call" in body]
    assert len(forwarded) == codes.count(None)
    assert await city.store.scan("open") == []


async def test_a_call_that_is_parked_keeps_its_id() -> None:
    city = await City(EVERYTHING).settle_in()
    session = await open_session(city)
    progress = b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
    city.answer = lambda _: MemoryAnswer([(progress, "event-1")], media="sse")
    outcome = await city.exchange.request(city.call(session=session), city.credential(), {})
    assert outcome.stream is not None
    assert len([delivery async for delivery in outcome.stream]) == 1
    assert len(await city.store.scan("parked")) == 1
    city.answer = answers(DONE)
    assert code_of(await city.ask(city.call(session=session))) == "id_in_use"
    assert code_of(await city.ask(city.call(session=session, rpc_id=2))) == "reply_unexpected"
    end = city.call("transport/end", None, session=session, rpc_id=None)
    await city.exchange.end(end, city.credential(), {})
    assert await city.store.scan("parked") == await city.store.scan("open") == []


async def test_a_question_belongs_to_the_task_of_the_call_that_it_came_with() -> None:
    city = await City(EVERYTHING).settle_in()
    row = TaskRow(agent=AGENT, principal="alice", started=1)
    await city.store.append(Append(puts=((task_key("t-1"), msgspec.json.encode(row)),)))
    city.answer = answers(ROOTS, DONE, media="sse")
    outcome = await city.exchange.request(city.call(task="t-1"), city.credential(), {})
    assert outcome.stream is not None
    async for _ in outcome.stream:
        pass
    asked = [e for e in await city.events() if isinstance(e, events.Decided)]
    assert [(e.direction, e.task) for e in asked] == [("to_server", "t-1"), ("to_agent", "t-1")]
