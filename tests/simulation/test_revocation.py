"""What stays open for an agent after a call was let through ends when the agent is revoked; and who hears nothing of
revocations refuses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from citywatch.adapters.memory import MemoryAnswer
from citywatch.core import events
from citywatch.core.errors import Code, Refused, Unavailable
from citywatch.service.admin import Admin
from citywatch.service.halts import Halts
from citywatch.service.ports import Append
from citywatch.service.streams import LISTEN
from citywatch.service.watch import NOTICED, Watch
from tests.simulation.city import DOMAIN, City
from tests.simulation.test_attacks import EVERYTHING

PROGRESS = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}
DONE = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "the secret"}]}}


class Silent(MemoryAnswer):
    """A stream on which a server says something and then nothing, until `goes_on` is set."""

    def __init__(self, *after: Any) -> None:
        super().__init__([(json.dumps(PROGRESS).encode(), None)], media="sse")
        self.after = after
        self.goes_on = asyncio.Event()

    async def messages(self) -> AsyncIterator[tuple[bytes, str | None]]:
        yield self._messages[0]
        await self.goes_on.wait()
        for message in self.after:
            yield json.dumps(message).encode(), None


def admin(city: City) -> Admin:
    return Admin(store=city.store, clock=city.clock, replica="another process", domain=DOMAIN)


def watch_of(city: City, max_staleness: float = 5.0) -> Watch:
    return Watch(city.store, city.exchange.listening, max_staleness)


@pytest.fixture
async def city() -> City:
    return await City(EVERYTHING).settle_in()


async def opened(city: City, answer: MemoryAnswer, **changes: Any) -> AsyncIterator[bytes]:
    """A stream of which the first message was read."""
    city.answer = lambda _: answer
    outcome = await city.exchange.request(city.call(**changes), city.credential(), {})
    assert outcome.stream is not None
    stream = outcome.stream

    async def bodies() -> AsyncIterator[bytes]:
        async for delivery in stream:
            yield delivery.body

    found = bodies()
    assert b"progress" in await anext(found)
    return found


async def rest(stream: AsyncIterator[bytes]) -> list[bytes]:
    async with asyncio.timeout(5):
        return [body async for body in stream]


async def test_an_open_stream_whose_server_says_nothing_is_closed_with_the_reason(city: City) -> None:
    looks, answer = watch_of(city), Silent(DONE)
    stream = await opened(city, answer)
    reading = asyncio.ensure_future(rest(stream))
    await looks.look()
    await asyncio.sleep(0.01)
    assert not reading.done(), "in good standing it stays open"

    await admin(city).revoke_agent("clerk", "turned", "op")
    await looks.look()
    (last,) = await reading
    assert b"agent_revoked" in last
    assert answer.closed
    assert not city.exchange.listening.any
    settled = [event for event in await city.events() if isinstance(event, events.Settled)]
    assert (settled[-1].outcome, settled[-1].code) == ("failed", "agent_revoked")
    assert await city.store.scan("open") == []


async def test_an_open_ear_is_closed_as_well(city: City) -> None:
    city.upstream.listen = lambda *_: _instead(Silent())  # type: ignore[method-assign]
    call = city.call(LISTEN, None, rpc_id=None, body=b"")
    outcome = await city.exchange.listen(call, city.credential(), {})
    assert outcome.stream is not None
    stream = outcome.stream
    assert b"progress" in (await anext(stream)).body
    reading = asyncio.ensure_future(anext(stream, None))
    await admin(city).revoke_agent("clerk", "turned", "op")
    await watch_of(city).look()
    async with asyncio.timeout(5):
        assert await reading is None


async def _instead(answer: MemoryAnswer) -> MemoryAnswer:
    return answer


async def test_what_a_server_said_at_the_moment_of_the_revocation_is_not_delivered(city: City) -> None:
    answer = Silent(PROGRESS, DONE)
    stream = await opened(city, answer)
    reading = asyncio.ensure_future(rest(stream))
    await admin(city).revoke_agent("clerk", "turned", "op")
    answer.goes_on.set()
    await watch_of(city).look()
    assert b"the secret" not in b"".join(await reading)


async def test_a_stream_that_began_while_the_revocation_was_heard_is_closed_by_the_next_look(city: City) -> None:
    looks, answer = watch_of(city), Silent(DONE)
    outcome_of = city.upstream.send

    async def revoked_meanwhile(*arguments: Any, **named: Any) -> Any:
        sent = await outcome_of(*arguments, **named)
        await admin(city).revoke_agent("clerk", "turned", "op")
        await looks.look()  # there is no stream yet
        return sent

    city.upstream.send = revoked_meanwhile  # type: ignore[method-assign]
    city.answer = lambda _: Silent(DONE)
    outcome = await city.exchange.request(city.call(), city.credential(), {})
    assert outcome.stream is not None
    reading = asyncio.ensure_future(anext(outcome.stream))
    await asyncio.sleep(0.01)
    await looks.look()
    async with asyncio.timeout(5):
        assert b"agent_revoked" in (await reading).body
    assert not answer.closed


async def test_a_revocation_leaves_the_streams_of_others_alone(city: City) -> None:
    looks, answer = watch_of(city), Silent(DONE)
    stream = await opened(city, answer)
    with pytest.raises(Refused):
        await admin(city).revoke_agent("nobody", "turned", "op")
    await city.store.append(Append(puts=NOTICED))
    await looks.look()
    answer.goes_on.set()
    assert b"the secret" in (await rest(stream))[-1]
    assert not city.exchange.listening.any


async def test_a_look_that_was_cut_short_is_made_up_for(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, answer = watch_of(city), Silent(DONE)
    reading = asyncio.ensure_future(rest(await opened(city, answer)))
    await looks.look()
    await admin(city).revoke_agent("clerk", "turned", "op")
    stands = city.enforcer.stands

    async def away(*_: Any) -> Any:
        raise Unavailable(Code.STORE_UNAVAILABLE)

    monkeypatch.setattr(city.enforcer, "stands", away)
    await looks.look()
    assert not reading.done()
    monkeypatch.setattr(city.enforcer, "stands", stands)
    await looks.look()
    assert b"agent_revoked" in (await reading)[-1]


async def test_programs_that_run_for_a_revoked_agent_are_ended_and_others_go_on(city: City) -> None:
    await city.ask(city.call())
    looks = watch_of(city)
    await looks.look()
    assert city.upstream.callers() != ()
    assert city.upstream.dismissed == []
    await admin(city).revoke_agent("clerk", "turned", "op")
    await looks.look()
    assert city.upstream.dismissed == [f"spiffe://{DOMAIN}/agent/clerk#0"]


async def test_who_hears_nothing_for_too_long_refuses_and_closes_what_is_open(city: City) -> None:
    looks, answer = watch_of(city, max_staleness=0.05), Silent(DONE)
    assert looks.stale() is not None, "before the first look nothing is known"
    await looks.look()
    assert looks.stale() is None
    reading = asyncio.ensure_future(rest(await opened(city, answer)))
    await asyncio.sleep(0.01)
    city.store.broken = Unavailable(Code.STORE_UNAVAILABLE, "gone")
    await looks.look()
    assert not reading.done(), "for a moment it may be so"
    await asyncio.sleep(0.06)
    await looks.look()
    assert (why := looks.stale()) is not None
    assert why.code is Code.VIEW_STALE
    city.store.broken = None
    assert b"view_stale" in (await reading)[-1]
    await looks.look()
    assert looks.stale() is None


async def test_a_stream_is_looked_at_once_where_nothing_is_revoked(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, asked = watch_of(city), 0
    stands = city.enforcer.stands

    async def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await stands(*arguments)

    answer = Silent(DONE)
    stream = await opened(city, answer)
    monkeypatch.setattr(city.enforcer, "stands", counted)
    for _ in range(5):
        await looks.look()
    assert asked == 1
    answer.goes_on.set()
    await rest(stream)


async def test_who_was_revoked_after_a_look_is_noticed(city: City) -> None:
    looks, answer = watch_of(city), Silent(DONE)
    reading = asyncio.ensure_future(rest(await opened(city, answer)))
    for _ in range(3):
        await looks.look()
    await admin(city).revoke_agent("clerk", "turned", "op")
    await looks.look()
    assert b"agent_revoked" in (await reading)[-1]


async def test_programs_are_ended_when_everything_is_stopped_and_when_their_agent_is(city: City) -> None:
    """An idle program has no stream that would end; left running, it may go on with what it was told."""
    caller = f"spiffe://{DOMAIN}/agent/clerk#0"
    looks = watch_of(city)
    for what in ("all", "clerk"):
        await city.ask(city.call())
        await looks.look()
        assert caller in city.upstream.callers()
        halts = Halts(store=city.store, clock=city.clock, replica="another process")
        await halts.halt(what, "op", "fire")
        await looks.look()
        assert city.upstream.dismissed == [caller]
        await halts.resume(what, "op", "out")
        await looks.look()
        assert city.upstream.dismissed == [caller], "and who may go on is not ended"
        city.upstream.dismissed.clear()
