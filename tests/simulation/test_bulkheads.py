"""An upstream that is slow or fails: what it costs its own callers, and that nobody else pays."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryAnswer, MemoryClock, MemoryUpstream
from citywatch.core import events
from citywatch.core.enforce.breaker import Patience
from citywatch.core.errors import Code, Unavailable
from citywatch.service.bulkheads import Guarded, Places
from tests.simulation.test_trees import Mesh

PLACES = Places(per_caller=3, in_all=8, wait_ms=20)
PATIENCE = Patience(failures=3, rest_ms=5_000)
DONE = MemoryAnswer([(b'{"jsonrpc":"2.0","id":1,"result":{}}', None)])


class Slow(MemoryUpstream):
    """Answers when it is let; `fails` instead, if that is set."""

    def __init__(self) -> None:
        super().__init__(lambda _: DONE)
        self.let = asyncio.Event()
        self.fails: Unavailable | None = None
        self.busy = Counter[str]()
        self.most = Counter[str]()

    async def send(self, caller: str, *arguments: object, **named: object) -> MemoryAnswer:
        self.busy[caller] += 1
        self.most[caller] = max(self.most[caller], self.busy[caller])
        self.most["all"] = max(self.most["all"], self.busy.total())
        try:
            await self.let.wait()
            if self.fails is not None:
                raise self.fails
            return DONE
        finally:
            self.busy[caller] -= 1


def guarded(slow: Slow, clock: MemoryClock | None = None, places: Places = PLACES) -> Guarded:
    return Guarded("depot", slow, clock or MemoryClock(), places, PATIENCE)


async def ask(one: Guarded, caller: str) -> Code | None:
    try:
        await one.send(caller, b"", {}, None, repeatable=False)
    except Unavailable as failure:
        refused = failure
    else:
        return None
    assert refused.retry_s or refused.code is Code.UPSTREAM_TIMEOUT
    return refused.code


async def test_who_ties_up_a_slow_server_ties_up_its_own_places_alone() -> None:
    """The attack: one caller opens as many calls as it can at a server that does not answer. With nothing but a bound
    for all together it takes every place, and nobody else gets one."""
    free = guarded(Slow(), places=Places(per_caller=50, in_all=8, wait_ms=20))
    mallory = [asyncio.ensure_future(ask(free, "mallory")) for _ in range(50)]
    await asyncio.sleep(0.001)
    assert await ask(free, "clerk") == Code.UPSTREAM_CROWDED
    for one in mallory:
        one.cancel()

    slow = Slow()
    door = guarded(slow)
    mallory = [asyncio.ensure_future(ask(door, "mallory")) for _ in range(50)]
    await asyncio.sleep(0.001)
    honest = [asyncio.ensure_future(ask(door, "clerk")) for _ in range(3)]
    refused, _ = await asyncio.wait(mallory, timeout=2)
    assert [one.result() for one in refused] == [Code.UPSTREAM_CROWDED] * 47
    slow.let.set()
    assert await asyncio.gather(*honest) == [None] * 3
    assert await asyncio.gather(*mallory[:3]) == [None] * 3
    assert slow.most["mallory"] == 3


async def test_a_burst_within_the_places_and_one_that_waits_a_moment_go_through() -> None:
    slow = Slow()
    door = guarded(slow)
    burst = [asyncio.ensure_future(ask(door, "clerk")) for _ in range(6)]
    await asyncio.sleep(0.001)
    slow.let.set()
    assert await asyncio.gather(*burst) == [None] * 6
    assert slow.most["clerk"] == 3


async def test_all_together_take_no_more_than_there_is_and_in_the_order_in_which_they_came() -> None:
    slow = Slow()
    door = guarded(slow, places=Places(per_caller=3, in_all=8, wait_ms=5_000))
    asked = [asyncio.ensure_future(ask(door, f"agent-{one % 5}")) for one in range(15)]
    await asyncio.sleep(0.001)
    slow.let.set()
    assert await asyncio.gather(*asked) == [None] * 15
    assert slow.most["all"] == 8


async def test_a_caller_that_a_server_failed_leaves_it_alone_and_tries_with_one() -> None:
    slow, clock = Slow(), MemoryClock()
    door = guarded(slow, clock)
    slow.let.set()
    slow.fails = Unavailable(Code.UPSTREAM_TIMEOUT, "late")
    told = [await ask(door, "clerk") for _ in range(5)]
    assert told == [Code.UPSTREAM_TIMEOUT] * 3 + [Code.CIRCUIT_OPEN] * 2
    assert await ask(door, "night") == Code.UPSTREAM_TIMEOUT, "each finds out for itself"
    slow.fails = None
    assert await ask(door, "night") is None, "and closes it to nobody else"
    assert await ask(door, "clerk") == Code.CIRCUIT_OPEN
    clock.advance(PATIENCE.rest_ms)
    slow.let.clear()
    first = asyncio.ensure_future(ask(door, "clerk"))
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        assert await ask(door, "clerk") == Code.CIRCUIT_OPEN, "one tries, and one alone"
    slow.let.set()
    assert await first is None
    assert [await ask(door, "clerk") for _ in range(5)] == [None] * 5


async def test_what_the_gateway_itself_could_not_do_is_not_held_against_the_server() -> None:
    slow = Slow()
    slow.let.set()
    slow.fails = Unavailable(Code.OVERLOADED, "no free connection", retry_s=1)
    door = guarded(slow)
    assert [await ask(door, "clerk") for _ in range(6)] == [Code.OVERLOADED] * 6


class Stream(MemoryAnswer):
    def __init__(self, dies: Unavailable | None = None) -> None:
        super().__init__([(b"{}", None)], media="sse", dies=dies)


async def test_a_stream_has_its_place_until_it_is_closed_and_counts_as_answered_once_it_speaks() -> None:
    class Streaming(MemoryUpstream):
        async def send(self, *arguments: object, **named: object) -> MemoryAnswer:
            return Stream()

    clock = MemoryClock()
    door = Guarded("depot", Streaming(lambda _: DONE), clock, PLACES, PATIENCE)
    streams = [await door.send("clerk", b"", {}, None, repeatable=False) for _ in range(3)]
    assert await ask(door, "clerk") == Code.UPSTREAM_CROWDED
    for one in streams:
        assert [raw async for raw, _ in one.messages()] == [b"{}"]
        await one.close()
        await one.close()
    assert await ask(door, "clerk") is None


@pytest.mark.parametrize("speaks", [True, False])
async def test_a_stream_that_dies_before_its_first_word_is_a_failure_and_one_that_spoke_was_an_answer(
    speaks: bool,
) -> None:
    class Dying(MemoryUpstream):
        async def send(self, *arguments: object, **named: object) -> MemoryAnswer:
            gone = Unavailable(Code.UPSTREAM_UNAVAILABLE, "it went away")
            return MemoryAnswer([(b"{}", None)] if speaks else [], media="sse", dies=gone)

    door = Guarded("depot", Dying(lambda _: DONE), MemoryClock(), PLACES, Patience(failures=1, rest_ms=100))
    stream = await door.send("clerk", b"", {}, None, repeatable=False)
    with pytest.raises(Unavailable):
        _ = [one async for one in stream.messages()]
    await stream.close()
    assert await ask(door, "clerk") == (None if speaks else Code.CIRCUIT_OPEN)


async def test_a_refusal_is_in_the_log_and_what_it_spent_stays_spent() -> None:
    mesh = await Mesh().open()
    slow = Slow()
    mesh.exchange.upstreams["billing"] = guarded(slow, mesh.clock)  # type: ignore[index]
    task = await mesh.given("clerk", calls=8)
    calls = [asyncio.ensure_future(mesh.tell("clerk", "billing", task)) for _ in range(5)]
    done, _ = await asyncio.wait(calls, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
    assert {one.result() for one in done} == {Code.UPSTREAM_CROWDED}
    await asyncio.sleep(0.05)
    for one in calls:
        one.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    failed = [one for one in await mesh.events() if isinstance(one, events.Settled) and one.code == "upstream_crowded"]
    assert len(failed) == 2
    assert await mesh.look("clerk", task) is None
    assert [await mesh.look("clerk", task) for _ in range(3)] == [None, None, Code.BUDGET_SPENT]


STEPS = st.lists(
    st.tuples(st.sampled_from(["clerk", "night", "stock"]), st.sampled_from(["ask", "leave", "let", "pause"])),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_however_they_come_and_go_every_place_is_given_back(steps: list[tuple[str, str]]) -> None:
    async def run() -> None:
        slow = Slow()
        door = guarded(slow, places=Places(per_caller=2, in_all=3, wait_ms=5))
        asked: list[asyncio.Future[Code | None]] = []
        for caller, step in steps:
            if step == "ask":
                asked.append(asyncio.ensure_future(ask(door, caller)))
            elif step == "leave" and asked:
                asked.pop(0).cancel()
            elif step == "let":
                slow.let.set()
                await asyncio.sleep(0)
                slow.let.clear()
            await asyncio.sleep(0.006 if step == "pause" else 0)
            assert slow.busy.total() <= 3
            assert max(slow.busy.values(), default=0) <= 2
        slow.let.set()
        await asyncio.gather(*asked, return_exceptions=True)
        await asyncio.sleep(0)
        assert door._count == 0
        assert not door._inside
        assert not door._waiting
        assert not door._breakers
        assert await asyncio.gather(*(ask(door, "clerk") for _ in range(2))) == [None, None]

    asyncio.run(run())
