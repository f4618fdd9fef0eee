"""A loss of power: what was said to be on the disk is there, and a disk that failed once is believed no more.

Only `fdatasync` is injected, for nothing else can hold it up or make it fail.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from citywatch.adapters.sqlite import SqliteStore, ledger, open_store
from citywatch.adapters.sqlite import disk as disk_module
from citywatch.adapters.sqlite import store as store_module
from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Appended
from tests.fault.store_world import HeldDisk, entry, refusal_of, until


@pytest.fixture
async def held(path: Path) -> AsyncIterator[tuple[HeldDisk, SqliteStore]]:
    disk = HeldDisk()
    opened = open_store(path, fdatasync=disk)
    yield disk, opened
    disk.let_go(1_000)
    if not opened._disk.failed:
        await opened.close()


async def test_a_synced_append_returns_only_after_an_fdatasync_of_what_it_wrote(
    held: tuple[HeldDisk, SqliteStore],
) -> None:
    disk, store = held
    order: list[str] = []
    append = asyncio.ensure_future(store.append(Append(entries=(entry(b"sync me first"),), sync=True)))
    append.add_done_callback(lambda _: order.append(f"told after {disk.finished}"))
    await until(lambda: len(disk.calls) == 1)
    assert b"sync me first" in disk.calls[0], "the sync was of the file that holds the entry, after it was written"
    assert list(await store.entries(0, 9)) == [b"sync me first"], "committed, and not yet told"
    for _ in range(50):
        await asyncio.sleep(0)
    assert order == []
    disk.let_go()
    assert await append == Appended(0)
    await asyncio.sleep(0)
    assert order == ["told after 1"]


async def test_who_commits_a_few_turns_later_is_in_the_same_sync(
    held: tuple[HeldDisk, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "GATHER_S", 3600.0)
    disk, store = held
    first = asyncio.ensure_future(store.append(Append(entries=(entry(b"first"),), sync=True)))
    for _ in range(4):
        await asyncio.sleep(0)
    second = asyncio.ensure_future(store.append(Append(entries=(entry(b"second"),), sync=True)))
    disk.let_go(2)
    assert (await first, await second) == (Appended(0), Appended(1))
    assert len(disk.calls) == 1
    assert b"second" in disk.calls[0]


async def test_a_sync_is_put_off_for_so_long_and_no_longer(
    held: tuple[HeldDisk, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_module, "GATHER_S", 0.0)
    disk, store = held
    appends = [asyncio.ensure_future(store.append(Append(entries=(entry(b"first"),), sync=True)))]
    for _ in range(4):
        await asyncio.sleep(0)
    appends.append(asyncio.ensure_future(store.append(Append(entries=(entry(b"second"),), sync=True))))
    disk.let_go(2)
    assert await asyncio.gather(*appends) == [Appended(0), Appended(1)]
    assert len(disk.calls) == 2


async def test_a_commit_during_a_sync_waits_for_the_next_one(held: tuple[HeldDisk, SqliteStore]) -> None:
    disk, store = held
    first = asyncio.ensure_future(store.append(Append(entries=(entry(b"first"),), sync=True)))
    await until(lambda: len(disk.calls) == 1)
    late = [asyncio.ensure_future(store.append(Append(entries=(entry(b"late"),), sync=True))) for _ in range(20)]
    await asyncio.sleep(0)
    counted = asyncio.ensure_future(store.sync())
    assert await store.append(Append(entries=(entry(b"unsynced"),))) == Appended(21), "who needs no sync waits for none"
    disk.let_go()
    assert await first == Appended(0)
    await until(lambda: len(disk.calls) == 2)
    assert not any(append.done() for append in late)
    assert disk.calls[1].count(b"late") > disk.calls[0].count(b"late")
    disk.let_go()
    assert await asyncio.gather(*late) == [Appended(n) for n in range(1, 21)], "one sync for all who waited"
    assert await counted >= 1
    assert disk.finished == 2


def test_the_sync_is_the_systems_own() -> None:
    assert open_store.__kwdefaults__ == {"fdatasync": os.fdatasync}


async def test_after_a_failed_fdatasync_nothing_is_appended_until_a_restart(
    path: Path, held: tuple[HeldDisk, SqliteStore]
) -> None:
    disk, store = held
    assert await store.append(Append(entries=(entry(b"early"),))) == Appended(0)
    disk.fails = OSError(errno.EIO, os.strerror(errno.EIO))
    disk.let_go()
    refusal = await refusal_of(store.append(Append(entries=(entry(b"lost?"),), sync=True)))
    assert refusal.code is Code.STORE_UNAVAILABLE
    assert str(refusal) == "the log's disk did not take the last entries: input/output error"
    disk.fails = None  # the kernel says that all is well again, which is worth nothing
    disk.let_go(9)
    for attempt in (store.append(Append(entries=(entry(b"no"),))), store.sync(), store.erase(0, entry(b"no"))):
        assert "restart" in str(await refusal_of(attempt))
    assert (await store.entries(0, 1)) == [b"early"], "reading is still allowed"
    with pytest.raises(Unavailable):
        await store.close()
    restarted = open_store(path)
    assert isinstance(await restarted.append(Append(entries=(entry(b"again"),), sync=True)), Appended)
    await restarted.close()


async def test_a_sync_that_fails_inside_sqlite_is_as_final(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite syncs the header of a log it begins anew, inside a commit."""

    def fail(_: object) -> list[ledger.Result]:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    monkeypatch.setattr(store._ledger, "commit", fail)
    assert "could not be read or written" in str(await refusal_of(store.append(Append())))
    monkeypatch.undo()
    assert "restart" in str(await refusal_of(store.append(Append())))
    with pytest.raises(Unavailable):
        await store.close()


async def test_a_log_removed_under_us_is_noticed(path: Path, store: SqliteStore) -> None:
    await store.append(Append(entries=(entry(b"a"),), sync=True))
    path.with_name(path.name + "-wal").rename(path.with_name("moved"))
    path.with_name("moved").unlink()
    assert "removed" in str(await refusal_of(store.append(Append(entries=(entry(b"b"),), sync=True))))
    with pytest.raises(Unavailable):
        await store.close()


async def test_who_waits_for_a_hung_disk_counts_too(
    held: tuple[HeldDisk, SqliteStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, store = held
    monkeypatch.setattr(store_module, "MAX_WAITING", 5)
    hung = [asyncio.ensure_future(store.append(Append(sync=True))) for _ in range(5)]
    await until(lambda: len(disk.calls) == 1)
    assert (await refusal_of(store.append(Append()))).code is Code.OVERLOADED
    disk.let_go(9)
    await asyncio.gather(*hung)
    assert await store.append(Append()) == Appended(0)
