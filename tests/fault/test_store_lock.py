"""Other writers of the same database: appends wait without holding up the loop, and see what the others wrote."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from citywatch.adapters.sqlite import SqliteStore, ledger, open_store
from citywatch.adapters.sqlite import store as store_module
from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Appended, NewEntry, Payload, Spend, Stale
from tests.fault.store_world import AGENT, entry, refusal_of


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_while_another_process_writes_the_loop_runs_and_appends_wait(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_PATIENCE_S", 60.0)
    with locked(path):
        waiting = [asyncio.ensure_future(store.append(Append(entries=(entry(b"%d" % n),)))) for n in range(70)]
        for _ in range(50):
            await asyncio.sleep(0.001)  # other work goes on
        assert not any(append.done() for append in waiting)
    assert await asyncio.gather(*waiting) == [Appended(n) for n in range(70)]


async def test_a_lock_that_is_never_given_back_is_refused_in_the_end(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_PATIENCE_S", 0.02)
    with locked(path):
        results = await asyncio.gather(
            *(store.append(Append(entries=(entry(b"no"),))) for _ in range(70)), return_exceptions=True
        )
    for result in results:
        assert isinstance(result, Unavailable)
        assert (result.code, str(result)) == (
            Code.STORE_UNAVAILABLE,
            "the log's database is held too long by another process or a slow disk",
        )
    assert await store.append(Append(entries=(entry(b"yes"),))) == Appended(0)


async def test_a_checkpoint_that_hangs_with_the_lock_is_refused_in_the_end(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_PATIENCE_S", 0.02)
    store._checkpointer.wants_turn = True
    assert "slow disk" in str(await refusal_of(store.append(Append(entries=(entry(b"no"),)))))
    store._checkpointer.wants_turn = False
    assert await store.append(Append(entries=(entry(b"yes"),))) == Appended(0)


async def test_a_store_that_closes_finishes_what_waits_and_takes_no_more(path: Path) -> None:
    store = open_store(path)
    with locked(path):
        waiting = [
            asyncio.ensure_future(store.append(Append(entries=(entry(b"%d" % n),), sync=True))) for n in range(9)
        ]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0.001)
        assert str(await refusal_of(store.append(Append()))) == "the log is closed"
    await closing
    assert await asyncio.gather(*waiting) == [Appended(n) for n in range(9)]


async def test_who_finds_the_queue_full_is_refused_at_once(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_WAITING", 10)
    monkeypatch.setattr(store_module, "MAX_WAITING_BYTES", 100_000)
    with locked(path):
        waiting = [asyncio.ensure_future(store.append(Append())) for _ in range(10)]
        await asyncio.sleep(0.001)
        refusal = await refusal_of(store.append(Append()))
    assert refusal.code is Code.OVERLOADED
    assert len(await asyncio.gather(*waiting)) == 10
    big = Append(entries=(NewEntry(b"x", Payload(b"s", bytes(60_000))),))
    both = await asyncio.gather(store.append(big), store.append(big), return_exceptions=True)
    assert both[0] == Appended(0)
    assert isinstance(both[1], Unavailable)
    assert both[1].code is Code.OVERLOADED
    assert await store.append(big) == Appended(1), "what was refused weighs nothing"


async def test_what_another_store_commits_is_seen_inside_the_next_append(path: Path, store: SqliteStore) -> None:
    other = open_store(path)
    await store.append(Append(puts=((AGENT, b"active"),), entries=(entry(b"a"),)))
    seen = (await store.load([AGENT], [("pay", 0)])).rows[AGENT].version
    await other.append(Append(puts=((AGENT, b"revoked"),), spends=(Spend("pay", 0, 9),), entries=(entry(b"b"),)))
    assert await store.append(Append(reads=((AGENT, seen),), entries=(entry(b"c"),))) == Stale(AGENT)
    loaded = await store.load([AGENT], [("pay", 0)])
    assert (loaded.rows[AGENT].value, loaded.used["pay"]) == (b"revoked", 1)
    assert await store.append(Append(entries=(entry(b"d"),))) == Appended(2)
    assert await other.append(Append(entries=(entry(b"e"),))) == Appended(3)
    await other.close()


async def test_a_load_does_not_trust_its_memory_for_long(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_store(path)
    await store.append(Append(puts=((AGENT, b"active"),)))
    await other.append(Append(puts=((AGENT, b"revoked"),)))
    monkeypatch.setattr(ledger, "TRUST_S", 0.0)
    assert (await store.load([AGENT], [])).rows[AGENT].value == b"revoked"
    await other.close()


async def test_a_snapshot_never_mixes_what_was_remembered_with_what_came_after(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "TRUST_S", 3600.0)
    other = open_store(path)
    await store.append(Append(puts=((AGENT, b"1"), (("pin", "a"), b"1"))))
    store._ledger._rows.pop(("pin", "a"))  # remembered: one of the two
    await other.append(Append(puts=((AGENT, b"2"), (("pin", "a"), b"2"))))
    rows = (await store.load([AGENT, ("pin", "a")], [])).rows
    assert [row.value for row in rows.values()] == [b"2", b"2"]
    await other.close()


@pytest.mark.parametrize("act", ["load", "append"])
async def test_what_is_remembered_is_bounded(store: SqliteStore, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "REMEMBER_BYTES", 50_000)
    for n in range(300):
        if act == "load":
            await store.load([("session", f"guessed {n}" * 10)], [(f"budget {n}", 0)])
        else:
            row = ("session", str(n))
            await store.append(Append(puts=((row, bytes(1_000)),), spends=(Spend(f"budget {n}", 0, 1),)))
    known = store._ledger
    assert sum(len(row.value) for row in known._rows.values() if row) < 60_000
    assert len(known._rows) + len(known._budgets) < 250
    if act == "append":
        assert (await store.load([("session", "7")], [])).rows["session", "7"].value == bytes(1_000)


async def test_a_version_taken_by_a_failed_append_is_not_used(path: Path, store: SqliteStore) -> None:
    """Else another process, which takes the same versions, could write a row that looks unchanged."""
    other = open_store(path)
    store._connection.execute("PRAGMA max_page_count=1")
    large = NewEntry(bytes(20_000))
    await refusal_of(store.append(Append(entries=(large,), puts=((AGENT, b"never"),))))
    store._connection.execute("PRAGMA max_page_count=1000000")
    await store.append(Append(puts=((AGENT, b"1"),)))
    seen = (await store.load([AGENT], [])).rows[AGENT].version
    for _ in range(4):
        await other.append(Append(puts=((AGENT, b"2"),)))
        assert await store.append(Append(reads=((AGENT, seen),))) == Stale(AGENT)
    await other.close()
