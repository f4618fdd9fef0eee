"""A caller goes away at every instant that there is: its call is closed at once, and the log says what became of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from citywatch.adapters.gateway.app import Gateway
from citywatch.adapters.gateway.protocol import Peer
from citywatch.adapters.memory import MemoryAnswer, MemoryStore
from citywatch.core import events
from citywatch.core.errors import Code, Unavailable
from citywatch.core.wire.jsonrpc import FROM_AGENT, Response
from citywatch.service.ports import Append, Appended, Exhausted, Stale
from citywatch.service.replies import Outcome
from citywatch.service.unhindered import unhindered
from tests.simulation.city import LEGACY, City, answers

EVERYTHING = '@id("all") permit(principal, action, resource);'
GREETING = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}}
QUESTION = {"jsonrpc": "2.0", "id": 9, "method": "roots/list"}
PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"content": []}}
OWED = ("tools/call", "initialize", "roots/list")
INSTANTS = 200
"""More than any of these calls has; a run that ends before its instant comes ends the test."""


class LateStore(MemoryStore):
    """Gives way after its commit too, as a disk does that has yet to sync."""

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        outcome = await super().append(append)
        await asyncio.sleep(0)
        return outcome


def resumable(_: bytes) -> MemoryAnswer:
    """A stream that can be taken up again, and breaks before its reply."""
    dies = Unavailable(Code.UPSTREAM_UNAVAILABLE, "gone")
    return MemoryAnswer([(json.dumps(PROGRESS).encode(), "event-1")], media="sse", dies=dies)


def dead(_: bytes) -> MemoryAnswer:
    raise Unavailable(Code.UPSTREAM_UNAVAILABLE, "connection refused")


SERVERS: dict[str, Callable[[bytes], MemoryAnswer]] = {
    "a reply": answers(DONE),
    "no reply that is one": answers({"jsonrpc": "2.0", "id": 7, "result": {}}),
    "only a status": answers(media="none", status=202),
    "nobody there": dead,
    "a stream": answers(PROGRESS, QUESTION, DONE, media="sse"),
    "a stream without a reply": answers(PROGRESS, media="sse"),
    "a stream to resume": resumable,
}


def gateway(city: City) -> Gateway:
    return Gateway(
        exchange=city.exchange,
        door=None,  # type: ignore[arg-type]
        limits=FROM_AGENT,
        body_time=1.0,
        max_in_flight=1,
        routes={},
        hosts=frozenset(),
        closed=lambda: None,
    )


async def deliver(city: City, outcome: Outcome) -> None:
    """What the gateway does with an outcome, over a connection that gives way at each write."""

    async def send(_: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(0)

    await gateway(city)._deliver(send, Peer("somebody"), outcome)


async def leave(work: Any, instant: int, *, for_good: bool) -> bool:
    """Cancel `work` after so many turns of the loop (`for_good`: and at each turn after); whether it was in time."""
    task = asyncio.ensure_future(work)
    for _ in range(instant):
        await asyncio.sleep(0)
    in_time = not task.done()
    task.cancel()
    while not task.done():
        await asyncio.sleep(0)
        if for_good:
            task.cancel()
    for _ in range(20):  # whatever was left to itself would show now
        await asyncio.sleep(0)
    if not task.cancelled() and task.exception() is not None:
        raise task.exception()
    return in_time


async def assert_whole(city: City) -> list[events.Settled]:
    """Each call that was let through and is owed an end has exactly one, other than those that wait in a session."""
    log = await city.events()
    ends = [event for event in log if isinstance(event, events.Settled)]
    owed = {e.call for e in log if isinstance(e, events.Decided) and e.decision == "allow" and e.method in OWED}
    waiting = {
        json.loads(row.value)["call"]["id"] for kind in ("parked", "asked") for _, row in await city.store.scan(kind)
    }
    assert sorted(end.call for end in ends) == sorted(owed - waiting)
    assert len(await city.store.scan("open")) == len(waiting)
    return ends


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "again and again"])
@pytest.mark.parametrize("store", [MemoryStore, LateStore])
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", ["look", "pay"])
async def test_a_call_that_is_left_at_any_instant_is_closed(
    server: str, name: str, store: type[MemoryStore], for_good: bool
) -> None:
    arguments = {"to": "ann", "amount": 1} if name == "pay" else {}
    details = set()
    for instant in range(INSTANTS):
        city = await City(EVERYTHING, store=store()).settle_in()
        city.answer = SERVERS[server]

        async def go(city: City = city) -> None:
            outcome = await city.exchange.request(city.call(name=name, arguments=arguments), city.credential(), {})
            await deliver(city, outcome)

        in_time = await leave(go(), instant, for_good=for_good)
        assert len([body for _, body in city.upstream.sent if b"tools/call" in body]) <= 1
        ends = await assert_whole(city)
        assert await city.store.scan("open") == []
        ours = [e.call for e in await city.events() if isinstance(e, events.Decided) and e.method == "tools/call"]
        details |= {end.detail for end in ends if end.code == "abandoned" and end.call in ours}
        if any(end.detail == "it was not forwarded" for end in ends if end.call in ours):
            assert city.upstream.sent == []
        if not in_time:
            break
    else:
        raise AssertionError("it never ended")
    assert "the caller went away after it was forwarded" in details
    assert ("it was not forwarded" in details) is (store is LateStore)


@pytest.mark.parametrize("store", [MemoryStore, LateStore])
@pytest.mark.parametrize("server", SERVERS)
async def test_so_is_one_in_a_session_and_what_can_be_resumed_is_kept(server: str, store: type[MemoryStore]) -> None:
    parked = 0
    for instant in range(INSTANTS):
        city = await City(EVERYTHING, store=store()).settle_in()
        city.answer = answers({"jsonrpc": "2.0", "id": 1, "result": GREETING}, session="theirs")
        session = (await city.exchange.request(city.call("initialize", None), city.credential(), {})).session
        city.answer = SERVERS[server]

        async def go(city: City = city, session: str | None = session) -> None:
            await deliver(city, await city.exchange.request(city.call(session=session), city.credential(), {}))

        in_time = await leave(go(), instant, for_good=False)
        await assert_whole(city)
        parked += len(await city.store.scan("parked"))
        end = city.call("transport/end", None, session=session, rpc_id=None)
        await leave(city.exchange.end(end, city.credential(), {}), instant, for_good=True)
        if await city.store.scan("session") == []:
            assert await city.store.scan("open") == []
        await assert_whole(city)
        if not in_time:
            break
    else:
        raise AssertionError("it never ended")
    assert (parked > 0) is (server == "a stream to resume")


@pytest.mark.parametrize("store", [MemoryStore, LateStore])
async def test_an_answer_that_was_let_through_to_a_server_arrives_though_its_agent_left(
    store: type[MemoryStore],
) -> None:
    reply = Response(9, {"roots": []}, None, b'{"jsonrpc":"2.0","id":9,"result":{"roots":[]}}')
    for instant in range(INSTANTS):
        city = await City(EVERYTHING, store=store()).settle_in()
        city.answer = answers(QUESTION, media="sse")
        outcome = await city.exchange.request(city.call(), city.credential(), {})
        assert outcome.stream is not None
        await anext(outcome.stream)
        city.answer = answers(media="none", status=202)
        answer = city.exchange.answer(city.call("response", None), reply, city.credential(), {})
        in_time = await leave(answer, instant, for_good=True)
        arrived = [body for _, body in city.upstream.sent if b'"roots":' in body]
        released = [e for e in await city.events() if isinstance(e, events.Settled) and e.outcome == "released"]
        assert len(arrived) == len(released) <= 1
        assert bool(arrived) is (await city.store.scan("asked") == [])
        await outcome.stream.aclose()
        assert await city.store.scan("open") == []
        if not in_time:
            break
    else:
        raise AssertionError("it never ended")


async def test_a_call_that_cannot_be_closed_for_now_still_ends_as_cancelled_and_is_lost_at_the_next_start() -> None:
    city = await City(EVERYTHING, store=LateStore()).settle_in()
    task = asyncio.ensure_future(city.ask(city.call()))
    while not await city.store.scan("open"):
        await asyncio.sleep(0)
    city.store.broken = Unavailable(Code.STORE_UNAVAILABLE, "the disk is full")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    city.store.broken = None
    assert len(await city.store.scan("open")) == 1


async def test_work_that_may_not_be_cut_is_not_and_no_cancellation_is_swallowed() -> None:
    done = []

    async def work() -> str:
        for _ in range(5):
            await asyncio.sleep(0)
        done.append(True)
        return "whole"

    assert await unhindered(work()) == "whole"
    task = asyncio.ensure_future(unhindered(work()))
    for _ in range(4):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(done) == 2
