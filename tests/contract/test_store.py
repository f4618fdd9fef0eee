"""The Store port: one suite, run against every adapter. What the enforcer relies on is here, and nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from citywatch.adapters.memory import MemoryStore
from citywatch.adapters.sqlite import SqliteStore, open_store
from citywatch.service.ports import (
    Append,
    Appended,
    Exhausted,
    Key,
    NewEntry,
    Payload,
    Spend,
    Stale,
    Store,
)

Opened = MemoryStore | SqliteStore
AGENT: Key = ("agent", "billing")
OTHER: Key = ("agent", "support")
PAYLOAD = Payload(b"0123456789abcdef", b'{"amount": 1200}')


def leaf(n: int) -> NewEntry:
    return NewEntry(b"leaf %d" % n)


async def reopen_memory(store: Opened, where: Path) -> Opened:
    assert isinstance(store, MemoryStore)
    return store.after_crash()


async def reopen_sqlite(store: Opened, where: Path) -> Opened:
    await store.close()
    return open_store(where / "state" / "log.db")


ADAPTERS: dict[str, tuple[Callable[[Path], Opened], Callable[[Opened, Path], Awaitable[Opened]]]] = {
    "memory": (lambda where: MemoryStore(), reopen_memory),
    "sqlite": (lambda where: open_store(where / "state" / "log.db"), reopen_sqlite),
}


@pytest.fixture(params=sorted(ADAPTERS))
def adapter(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def store(adapter: str, tmp_path: Path) -> AsyncIterator[Store]:
    opened = ADAPTERS[adapter][0](tmp_path)
    yield opened
    await opened.close()


async def version_of(store: Store, key: Key) -> int:
    row = (await store.load([key], [])).rows.get(key)
    return 0 if row is None else row.version


async def test_a_new_store_is_empty(store: Store) -> None:
    loaded = await store.load([AGENT], [("pay", 7)])
    assert dict(loaded.rows) == {}
    assert dict(loaded.used) == {"pay": 0}
    assert list(await store.entries(0, 10)) == []
    assert list(await store.scan("agent")) == []
    assert await store.payload(0) is None
    assert await store.sync() == 0


async def test_entries_are_numbered_from_zero_without_a_gap(store: Store) -> None:
    assert await store.append(Append(entries=(leaf(0), leaf(1)))) == Appended(0)
    assert await store.append(Append(entries=(leaf(2),))) == Appended(2)
    assert await store.append(Append()) == Appended(3)
    assert await store.append(Append(entries=(leaf(3),))) == Appended(3)
    assert list(await store.entries(0, 10)) == [b"leaf 0", b"leaf 1", b"leaf 2", b"leaf 3"]
    assert list(await store.entries(1, 3)) == [b"leaf 1", b"leaf 2"]
    assert list(await store.entries(4, 9)) == []


async def test_a_long_read_gives_every_leaf_in_order(store: Store) -> None:
    await store.append(Append(entries=tuple(leaf(n) for n in range(2_000))))
    assert list(await store.entries(0, 5_000)) == [leaf(n).leaf for n in range(2_000)]
    assert len(await store.entries(700, 1_900)) == 1_200


async def test_a_hundred_appends_at_once_are_numbered_in_the_order_they_were_asked(store: Store) -> None:
    results = await asyncio.gather(
        *(store.append(Append(entries=(leaf(2 * n), leaf(2 * n + 1)), sync=n % 2 == 0)) for n in range(100))
    )
    assert results == [Appended(2 * n) for n in range(100)]
    assert list(await store.entries(0, 300)) == [leaf(n).leaf for n in range(200)]


async def test_a_row_put_is_the_row_loaded(store: Store) -> None:
    await store.append(Append(puts=((AGENT, b"{}"), (OTHER, b"[1]"))))
    loaded = await store.load([AGENT, OTHER, ("pin", "none")], [])
    assert {key: row.value for key, row in loaded.rows.items()} == {AGENT: b"{}", OTHER: b"[1]"}


async def test_an_append_on_what_was_read_goes_through(store: Store) -> None:
    await store.append(Append(puts=((AGENT, b"1"),)))
    seen = await version_of(store, AGENT)
    assert await store.append(Append(reads=((AGENT, seen),), entries=(leaf(0),))) == Appended(0)
    assert await store.append(Append(reads=((AGENT, seen), (OTHER, 0)), entries=(leaf(1),))) == Appended(1)


@pytest.mark.parametrize("change", [b"2", b"1", None], ids=["changed", "written again", "deleted"])
async def test_an_append_on_a_row_that_changed_writes_nothing(store: Store, change: bytes | None) -> None:
    await store.append(Append(puts=((AGENT, b"1"),)))
    seen = await version_of(store, AGENT)
    await store.append(Append(puts=((AGENT, change),)))
    stale = Append(
        reads=((OTHER, 0), (AGENT, seen)),
        entries=(NewEntry(b"never", PAYLOAD),),
        spends=(Spend("pay", 1, 5),),
        puts=((OTHER, b"never"),),
        sync=True,
    )
    assert await store.append(stale) == Stale(AGENT)
    loaded = await store.load([OTHER], [("pay", 1)])
    assert (dict(loaded.rows), dict(loaded.used)) == ({}, {"pay": 0})
    assert list(await store.entries(0, 9)) == []
    assert await store.append(Append(entries=(leaf(0),))) == Appended(0)


async def test_a_row_that_appeared_makes_its_absence_stale(store: Store) -> None:
    await store.append(Append(puts=((AGENT, b"1"),)))
    assert await store.append(Append(reads=((AGENT, 0),))) == Stale(AGENT)


async def test_a_row_deleted_and_made_again_never_looks_unchanged(store: Store, adapter: str, tmp_path: Path) -> None:
    versions = set()
    for _ in range(5):
        await store.append(Append(puts=((AGENT, b"same"),)))
        versions.add(await version_of(store, AGENT))
        await store.append(Append(puts=((AGENT, None),)))
        assert await version_of(store, AGENT) == 0
    assert len(versions) == 5
    assert isinstance(store, MemoryStore | SqliteStore)
    again = await ADAPTERS[adapter][1](store, tmp_path)
    await again.append(Append(puts=((AGENT, b"same"),)))
    assert await version_of(again, AGENT) not in versions | {0}
    await again.close()


async def test_the_last_put_of_an_append_wins(store: Store) -> None:
    await store.append(Append(puts=((AGENT, b"1"), (AGENT, None), (AGENT, b"3"), (OTHER, b"1"), (OTHER, None))))
    loaded = await store.load([AGENT, OTHER], [])
    assert {key: row.value for key, row in loaded.rows.items()} == {AGENT: b"3"}


async def test_a_budget_gives_its_units_and_no_more(store: Store) -> None:
    results = await asyncio.gather(*(store.append(Append(spends=(Spend("pay", 0, 3),))) for _ in range(7)))
    assert results == [Appended(0)] * 3 + [Exhausted("pay")] * 4
    assert (await store.load([], [("pay", 0)])).used == {"pay": 3}


async def test_an_append_short_of_one_budget_spends_none(store: Store) -> None:
    await store.append(Append(spends=(Spend("calls", 0, 1),)))
    both = Append(spends=(Spend("rate", 5, 9), Spend("calls", 0, 1)), entries=(leaf(0),), puts=((AGENT, b"1"),))
    assert await store.append(both) == Exhausted("calls")
    loaded = await store.load([AGENT], [("rate", 5), ("calls", 0)])
    assert (dict(loaded.rows), dict(loaded.used)) == ({}, {"rate": 0, "calls": 1})
    assert list(await store.entries(0, 9)) == []


async def test_one_append_that_spends_a_budget_twice_needs_two_units(store: Store) -> None:
    twice = Append(spends=(Spend("pay", 0, 3), Spend("pay", 0, 3)))
    assert await store.append(twice) == Appended(0)
    assert await store.append(twice) == Exhausted("pay")
    assert (await store.load([], [("pay", 0)])).used == {"pay": 2}


async def test_a_new_window_refills_and_an_old_one_does_not(store: Store) -> None:
    def spend(window: int) -> Append:
        return Append(spends=(Spend("rate", window, 2),))

    assert [await store.append(spend(10)) for _ in range(3)] == [Appended(0), Appended(0), Exhausted("rate")]
    assert await store.append(spend(9)) == Exhausted("rate"), "a clock that goes back refills nothing"
    assert (await store.load([], [("rate", 9)])).used == {"rate": 2}
    assert (await store.load([], [("rate", 11)])).used == {"rate": 0}
    assert await store.append(spend(11)) == Appended(0)
    assert await store.append(spend(10)) == Appended(0), "counted in window 11"
    assert await store.append(spend(11)) == Exhausted("rate")


async def test_a_forced_spend_is_taken_from_an_empty_budget(store: Store) -> None:
    forced = Append(spends=(Spend("pay", 0, 1, force=True),), entries=(leaf(0),))
    assert [await store.append(forced) for _ in range(3)] == [Appended(0), Appended(1), Appended(2)]
    assert (await store.load([], [("pay", 0)])).used == {"pay": 3}
    assert await store.append(Append(spends=(Spend("pay", 0, 3),))) == Exhausted("pay")


async def test_appends_of_one_moment_see_each_other(store: Store) -> None:
    """All of them may end up in one transaction; each is judged after the ones before it."""
    rival = Append(reads=((AGENT, 0),), puts=((AGENT, b"mine"),), entries=(leaf(0),))
    assert await asyncio.gather(*(store.append(rival) for _ in range(20))) == [Appended(0)] + [Stale(AGENT)] * 19
    assert list(await store.entries(0, 9)) == [b"leaf 0"]


async def test_a_payload_is_kept_apart_until_it_is_erased(store: Store) -> None:
    await store.append(Append(entries=(NewEntry(b"a", PAYLOAD), NewEntry(b"b"), NewEntry(b"c", Payload(b"s", b"")))))
    assert await store.payload(0) == PAYLOAD
    assert await store.payload(1) is None
    assert await store.payload(2) == Payload(b"s", b"")
    assert await store.erase(0, NewEntry(b"erased 0")) == Appended(3)
    assert await store.payload(0) is None
    assert await store.payload(2) == Payload(b"s", b"")
    assert list(await store.entries(0, 9)) == [b"a", b"b", b"c", b"erased 0"]


async def test_an_erasure_beside_the_append_it_erases_is_in_order(store: Store) -> None:
    _, erased = await asyncio.gather(
        store.append(Append(entries=(NewEntry(b"a", PAYLOAD),))), store.erase(0, NewEntry(b"erased 0"))
    )
    assert erased == Appended(1)
    assert await store.payload(0) is None


async def test_scan_lists_a_kind_by_id(store: Store) -> None:
    names = ["b", "a", "é", "Z", "a\nb", ""]
    await store.append(Append(puts=tuple((("agent", name), name.encode()) for name in names)))
    await store.append(Append(puts=((("pin", "a"), b"other"), (("agent", "Z"), None))))
    found = list(await store.scan("agent"))
    assert [name for name, _ in found] == ["", "a", "a\nb", "b", "é"]
    assert all(row.value == name.encode() for name, row in found)
    assert found[1][1] == (await store.load([("agent", "a")], [])).rows["agent", "a"]


async def test_the_last_rows_of_a_prefix_come_last_first(store: Store) -> None:
    names = ["a\n1", "a\n2", "a\n3\n\U0010ffff", "a", "a\rx", "b\n9", "ab\n1"]
    await store.append(Append(puts=tuple((("agent", name), name.encode()) for name in names)))
    await store.append(Append(puts=((("pin", "a\n4"), b"other"), (("agent", "a\n2"), None))))
    found = list(await store.last("agent", "a\n", 9))
    assert [name for name, _ in found] == ["a\n3\n\U0010ffff", "a\n1"]
    assert found[1][1] == (await store.load([("agent", "a\n1")], [])).rows["agent", "a\n1"]
    assert [name for name, _ in await store.last("agent", "a\n", 1)] == ["a\n3\n\U0010ffff"]
    assert list(await store.last("agent", "c", 9)) == []


async def test_sync_counts_the_entries_on_the_disk(store: Store) -> None:
    await store.append(Append(entries=(leaf(0), leaf(1))))
    assert await store.sync() == 2
    await store.append(Append(entries=(leaf(2),), sync=True))
    assert await store.sync() == 3


async def test_a_cancelled_caller_disturbs_nobody(store: Store) -> None:
    lost = asyncio.ensure_future(store.append(Append(entries=(leaf(0),), sync=True)))
    await asyncio.sleep(0)
    lost.cancel()
    kept = await store.append(Append(entries=(leaf(1),), sync=True))
    assert isinstance(kept, Appended)
    assert (await store.entries(kept.first, 9))[0] == b"leaf 1"


async def test_all_of_it_is_there_after_a_restart(adapter: str, tmp_path: Path) -> None:
    opener, reopen = ADAPTERS[adapter]
    first = opener(tmp_path)
    await first.append(
        Append(entries=(NewEntry(b"a", PAYLOAD),), puts=((AGENT, b"1"),), spends=(Spend("pay", 4, 9),), sync=True)
    )
    before = await first.load([AGENT], [("pay", 4)])
    second = await reopen(first, tmp_path)
    after = await second.load([AGENT], [("pay", 4)])
    assert (dict(after.rows), dict(after.used)) == (dict(before.rows), dict(before.used))
    assert list(await second.entries(0, 9)) == [b"a"]
    assert await second.payload(0) == PAYLOAD
    assert await second.append(Append(entries=(leaf(1),))) == Appended(1)
    await second.close()


KEYS = st.tuples(st.sampled_from(["agent", "pin"]), st.sampled_from(["a", "b"]))
SPENDS = st.builds(
    Spend,
    key=st.sampled_from(["pay", "rate"]),
    window=st.integers(0, 3),
    limit=st.integers(0, 4),
    force=st.booleans(),
)
ENTRIES = st.builds(
    NewEntry, leaf=st.binary(max_size=9), payload=st.none() | st.builds(Payload, st.binary(max_size=4), st.binary())
)
APPENDS = st.builds(
    Append,
    entries=st.lists(ENTRIES, max_size=2).map(tuple),
    reads=st.lists(st.tuples(KEYS, st.integers(0, 3)), max_size=1).map(tuple),
    spends=st.lists(SPENDS, max_size=2).map(tuple),
    puts=st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=5)), max_size=2).map(tuple),
    sync=st.booleans(),
)
ROUNDS = st.lists(st.lists(APPENDS, min_size=1, max_size=6), max_size=5)


async def _tell_all(store: Opened, rounds: list[list[Append]]) -> object:
    """All that a caller can observe of a store given these rounds of appends, each round at one moment."""
    seen: list[object] = []
    for number, appends in enumerate(rounds):
        seen.append(await asyncio.gather(*(store.append(append) for append in appends)))
        if number % 2:
            seen.append(await store.erase(number, NewEntry(b"erased")))
        keys = [(kind, id_) for kind in ("agent", "pin") for id_ in ("a", "b")]
        loaded = await store.load(keys, [("pay", number), ("rate", 1)])
        seen.append((sorted(loaded.rows.items()), sorted(loaded.used.items())))
    leaves = list(await store.entries(0, 999))
    seen += [leaves, [await store.payload(n) for n in range(len(leaves))], list(await store.scan("pin"))]
    await store.close()
    return seen


@given(rounds=ROUNDS)
def test_nobody_can_tell_the_adapters_apart(
    rounds: list[list[Append]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def compare() -> None:
        told = await _tell_all(MemoryStore(), rounds)
        assert await _tell_all(open_store(tmp_path_factory.mktemp("twin") / "log.db"), rounds) == told

    asyncio.run(compare())


@pytest.mark.parametrize("sync", [False, True])
async def test_an_append_whose_caller_is_cancelled_is_written_by_then_or_never(store: Store, sync: bool) -> None:
    """By this the enforcer tells at once whether a call that was abandoned had been committed."""
    written = []
    for instant in range(12):
        key: Key = ("open", str(instant))
        task = asyncio.ensure_future(store.append(Append(entries=(leaf(instant),), puts=((key, b"1"),), sync=sync)))
        for _ in range(instant):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        there = await version_of(store, key) != 0
        await store.append(Append(puts=((OTHER, b"1"),), sync=True))
        assert (await version_of(store, key) != 0) is there
        written.append(there)
    assert not written[0]
    assert written[-1]


async def test_the_version_of_a_row_is_what_anybody_has_committed_by_now(store: Opened) -> None:
    assert await store.version(AGENT) == 0
    await store.append(Append(puts=((AGENT, b"1"),)))
    first = await store.version(AGENT)
    assert first == await version_of(store, AGENT)
    await store.append(Append(puts=((OTHER, b"1"),)))
    assert await store.version(AGENT) == first
    await store.append(Append(puts=((AGENT, b"1"),)))
    assert await store.version(AGENT) != first


async def test_what_is_loaded_after_a_version_is_as_new_as_it_whoever_committed(tmp_path: Path) -> None:
    """Without it a load may be 50 ms old, and what is closed for it would stay open."""
    here, there = (open_store(tmp_path / "state" / "log.db") for _ in range(2))
    try:
        await here.append(Append(puts=((AGENT, b"1"),)))
        before = await here.version(AGENT)
        assert (await here.load([AGENT], [])).rows[AGENT].value == b"1"
        await there.append(Append(puts=((AGENT, b"2"),)))
        assert await here.version(AGENT) != before
        assert (await here.load([AGENT], [])).rows[AGENT].value == b"2"
    finally:
        await here.close()
        await there.close()


async def test_pages_of_a_kind_follow_each_other_and_end(store: Store) -> None:
    names = [f"{at:03d}\nt{at}" for at in range(7)]
    await store.append(Append(puts=tuple((("open", name), b"%d" % at) for at, name in enumerate(names))))
    await store.append(Append(puts=((("opened", "0"), b"x"), (("ope", "9"), b"x"))))
    seen: list[str] = []
    while page := await store.page("open", seen[-1] if seen else "", 3):
        seen += [name for name, _ in page]
    assert seen == names
    assert await store.page("open", names[-1], 3) == []
    assert await store.page("nothing", "", 3) == []
    ((_, row),) = await store.page("open", names[1], 1)
    assert row.value == b"2"
    assert (await store.count("open"), await store.count("opened"), await store.count("nothing")) == (7, 1, 0)
    await store.append(Append(puts=((("open", names[0]), None),)))
    assert await store.count("open") == 6
