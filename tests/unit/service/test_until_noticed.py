"""Waiting for a revocation without looking at everything again and again."""

from __future__ import annotations

import asyncio

from citywatch.adapters.memory import MemoryStore
from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Key
from citywatch.service.watch import NOTICED, heard, until_noticed


async def test_a_revocation_ends_the_wait() -> None:
    store = MemoryStore()
    known = await heard(store)
    waiting = asyncio.create_task(until_noticed(store, known, 3600))
    await asyncio.sleep(0)
    assert not waiting.done()
    await store.append(Append(puts=NOTICED))
    await asyncio.wait_for(waiting, 60)


async def test_one_that_came_before_the_wait_and_after_it_was_heard_is_not_missed() -> None:
    store = MemoryStore()
    known = await heard(store)
    await store.append(Append(puts=NOTICED))
    await asyncio.wait_for(until_noticed(store, known, 3600), 60)


async def test_without_one_and_without_a_store_the_wait_has_its_time() -> None:
    class Away(MemoryStore):
        async def version(self, key: Key) -> int:
            raise Unavailable(Code.STORE_UNAVAILABLE)

    assert await heard(Away()) == -1
    for store in (MemoryStore(), Away()):
        await asyncio.wait_for(until_noticed(store, await heard(store), 0.01), 60)
