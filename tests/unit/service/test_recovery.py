"""A loss of power is one entry, of whichever replica it cut off; a stop on purpose and a mere crash are none."""

from __future__ import annotations

import asyncio

from citywatch.adapters.memory import MemoryClock, MemoryStore
from citywatch.core import events
from citywatch.core.log.entry import decode_event, encode_event
from citywatch.service.ports import Append, NewEntry
from citywatch.service.recovery import note_boot, note_start, note_stop

CLOCK = MemoryClock()


async def start(store: MemoryStore, replica: str, boot: str) -> bool:
    """What each gateway does before it takes a call; returns whether it found that power was lost."""
    lost = await note_boot(store, CLOCK, replica, boot, published=0)
    started = events.Started(
        at=0, replica=replica, version="1", policy="p", manifest="m", checkpoint=0, size=0, unsafe=()
    )
    await note_start(store, started, boot)
    return lost


async def test_a_start_with_other_weights_than_the_last_says_so() -> None:
    store = MemoryStore()

    async def begin(weights: str) -> bool:
        started = events.Started(
            at=0, replica="r1", version="1", policy="p", manifest="m", checkpoint=0, size=0, unsafe=(), weights=weights
        )
        return await note_start(store, started, "b")

    assert [await begin(one) for one in ("w1", "w1", "w2", "w2", "w1")] == [False, False, True, False, True]
    found = [decode_event(leaf) for leaf in await store.entries(0, 10)]
    assert [one.weights for one in found if isinstance(one, events.Started)] == ["w1", "w1", "w2", "w2", "w1"]


async def stop(store: MemoryStore, replica: str, *dead: str) -> None:
    await note_stop(store, CLOCK, replica, lambda name: name in (replica, *dead))


async def operate(store: MemoryStore) -> None:
    """An entry of the command line, which starts and stops nothing."""
    added = events.AgentAdded(at=0, replica="r1", agent="spiffe://t.example/agent/a", key="k", by="operator")
    await store.append(Append(entries=(NewEntry(encode_event(added)),), sync=True))


async def gaps(store: MemoryStore) -> list[events.Gap]:
    found = [decode_event(leaf) for leaf in await store.entries(0, 10**6)]
    return [event for event in found if isinstance(event, events.Gap)]


async def test_what_was_not_synced_when_the_power_went_is_a_gap() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    await store.append(Append(entries=(NewEntry(encode_event(events.Lost(at=0, replica="r1", call="c"))),)))
    assert len(await store.entries(0, 10)) == 2
    after = store.after_power_loss()
    assert len(await after.entries(0, 10)) == 1
    assert await start(after, "r1", "tuesday")
    assert await gaps(after) == [events.Gap(at=CLOCK.now_ms(), replica="r1", checkpoint=0, size=1)]
    await stop(after, "r1")
    assert not await start(after, "r1", "wednesday")
    assert len(await gaps(after)) == 1


async def test_a_machine_that_was_shut_down_lost_nothing_whatever_was_entered_after_the_gateway_stopped() -> None:
    store = MemoryStore()
    assert not await start(store, "r1", "monday")
    await stop(store, "r1")
    await operate(store)
    assert not await start(store.after_power_loss(), "r1", "tuesday")
    assert await gaps(store) == []


async def test_the_last_replica_to_stop_does_not_speak_for_one_that_ran_on() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    await start(store, "r2", "monday")
    await stop(store, "r2")
    after = store.after_power_loss()
    assert await start(after, "r1", "tuesday")
    assert not await start(after, "r2", "tuesday"), "one loss is entered once"
    assert len(await gaps(after)) == 1


async def test_two_replicas_cut_off_at_once_are_one_gap() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    await start(store, "r2", "monday")
    after = store.after_power_loss()
    assert await start(after, "r2", "tuesday")
    assert not await start(after, "r1", "tuesday")
    assert len(await gaps(after)) == 1


async def test_a_gateway_that_was_killed_lost_no_power() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    assert not await start(store.after_crash(), "r1", "monday")


async def test_one_that_was_killed_is_synced_by_the_next_that_stops_on_purpose() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    await start(store, "r2", "monday")
    await stop(store, "r2", "r1")
    assert not await start(store.after_power_loss(), "r1", "tuesday")


async def test_one_that_was_killed_alone_may_have_lost_its_last_entries_with_the_power() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    assert await start(store.after_crash(), "r1", "tuesday")


async def test_two_that_start_at_once_enter_one_loss() -> None:
    store = MemoryStore()
    await start(store, "r1", "monday")
    after = store.after_power_loss()
    found = await asyncio.gather(*(note_boot(after, CLOCK, name, "tuesday", 0) for name in ("r1", "r2")))
    assert sorted(found) == [False, True]
    assert len(await gaps(after)) == 1
