"""A link lets one person in, once, for a while; and the log says who came."""

from __future__ import annotations

import asyncio

import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core.errors import Refused
from citywatch.core.events import ConsoleEntered
from citywatch.core.log.entry import decode_event
from citywatch.service.entering import KIND, LINK_MS, Entering

TOKEN = "a" * 43


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000

    def now_ms(self) -> int:
        return self.now


def entering(store: MemoryStore, clock: Clock) -> Entering:
    return Entering(store=store, clock=clock, replica="r1")


async def test_a_link_is_good_once_and_who_came_in_is_in_the_log() -> None:
    store, clock = MemoryStore(), Clock()
    await entering(store, clock).hand_out(TOKEN, "person:ann", ("auditor",))
    link = await entering(store, clock).take(TOKEN)
    assert (link.person, link.roles) == ("person:ann", ("auditor",))
    (leaf,) = await store.entries(0, 9)
    assert decode_event(leaf) == ConsoleEntered(
        at=clock.now, replica="r1", person="person:ann", roles=("auditor",), how="link"
    )
    with pytest.raises(Refused):
        await entering(store, clock).take(TOKEN)
    assert len(await store.entries(0, 9)) == 1


async def test_of_many_who_try_at_once_one_is_let_in() -> None:
    store, clock = MemoryStore(), Clock()
    await entering(store, clock).hand_out(TOKEN, "person:ann", ("auditor",))
    tries = [entering(store, clock).take(TOKEN) for _ in range(8)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in outcomes) == 1
    assert sum(isinstance(one, Refused) for one in outcomes) == 7


@pytest.mark.parametrize("later", [LINK_MS, LINK_MS * 100])
async def test_a_link_ends_by_itself_and_is_swept(later: int) -> None:
    store, clock = MemoryStore(), Clock()
    await entering(store, clock).hand_out(TOKEN, "person:ann", ("auditor",))
    clock.now += later - 1
    assert len(await store.scan(KIND)) == 1
    clock.now += 1
    with pytest.raises(Refused):
        await entering(store, clock).take(TOKEN)
    await entering(store, clock).hand_out("b" * 43, "person:ben", ())
    assert len(await store.scan(KIND)) == 1


async def test_the_store_never_holds_the_link_itself() -> None:
    store, clock = MemoryStore(), Clock()
    await entering(store, clock).hand_out(TOKEN, "person:ann", ("auditor",))
    ((name, row),) = await store.scan(KIND)
    assert TOKEN not in name
    assert TOKEN.encode() not in row.value
