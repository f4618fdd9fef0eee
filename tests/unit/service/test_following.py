"""The tail is read once, in order, and whoever waits is told after the folds know."""

from __future__ import annotations

import asyncio

from citywatch.adapters.memory import MemoryStore
from citywatch.core import events
from citywatch.core.log.entry import encode_event
from citywatch.service.following import Following
from citywatch.service.ports import Append, NewEntry

STOPPED = NewEntry(encode_event(events.Stopped(at=1, replica="r1")))


async def test_every_leaf_reaches_every_fold_once_and_in_order() -> None:
    store, first, second = MemoryStore(), list[int](), list[int]()
    following = Following(store, (lambda index, _: first.append(index), lambda index, _: second.append(index)))
    await store.append(Append(entries=(STOPPED,) * 700))
    while await following.look():
        pass
    await store.append(Append(entries=(STOPPED,) * 3))
    assert await following.look() == 3
    assert first == second == list(range(703))
    assert (following.seen, following.caught_up) == (703, True)


async def test_whoever_waits_wakes_when_the_folds_have_seen_what_came() -> None:
    store, seen = MemoryStore(), list[int]()
    following = Following(store, (lambda index, _: seen.append(index),))
    running = asyncio.create_task(following.run())
    waiting = asyncio.create_task(following.past(1))
    await store.append(Append(entries=(STOPPED,) * 2))
    assert await waiting == 2
    assert seen == [0, 1]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
