"""The disk, the lock and the operator against the SQLite store: refused with a clear line, and service returns.

Faults are made where they arise: a real second connection holds the lock, SQLite itself runs out of pages, bytes of the
real file are overwritten. Only `fdatasync` is injected, for nothing else can hold it up or make it fail.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from citywatch.adapters.sqlite import SqliteStore, checkpoint, database, ledger, open_store
from citywatch.adapters.sqlite import store as store_module
from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Appended, Key, NewEntry, Payload, Spend, Stale

CHILD = Path(__file__).with_name("store_child.py")
AGENT: Key = ("agent", "billing")


def entry(text: bytes) -> NewEntry:
    return NewEntry(text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = open_store(path)
    yield opened
    await opened.close()


async def until(reached: Callable[[], bool]) -> None:
    while not reached():
        await asyncio.sleep(0.001)


async def refusal_of(attempt: Awaitable[object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await attempt
    assert str(caught.value) == str(caught.value).strip(".\n")
    return caught.value


class HeldDisk:
    """An `fdatasync` that waits to be let go, and knows what the file held when it was called."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.finished = 0
        self.fails: OSError | None = None
        self._gate = threading.Semaphore(0)

    def __call__(self, fd: int) -> None:
        self.calls.append(os.pread(fd, os.fstat(fd).st_size, 0))
        self._gate.acquire()
        if self.fails is not None:
            raise self.fails
        os.fdatasync(fd)
        self.finished += 1

    def let_go(self, times: int = 1) -> None:
        self._gate.release(times)


@pytest.fixture
async def held(path: Path) -> AsyncIterator[tuple[HeldDisk, SqliteStore]]:
    disk = HeldDisk()
    opened = open_store(path, fdatasync=disk)
    yield disk, opened
    disk.let_go(1_000)
    if not opened._disk.failed:
        await opened.close()


# A loss of power


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


async def test_a_log_removed_under_us_is_noticed(path: Path, store: SqliteStore) -> None:
    await store.append(Append(entries=(entry(b"a"),), sync=True))
    path.with_name(path.name + "-wal").rename(path.with_name("moved"))
    path.with_name("moved").unlink()
    assert "removed" in str(await refusal_of(store.append(Append(entries=(entry(b"b"),), sync=True))))
    with pytest.raises(Unavailable):
        await store.close()


# The lock


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


async def test_while_another_process_writes_the_loop_runs_and_appends_wait(path: Path, store: SqliteStore) -> None:
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
            "the log's database is held by another process (SQLITE_BUSY)",
        )
    assert await store.append(Append(entries=(entry(b"yes"),))) == Appended(0)


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


# What other processes write


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


async def test_what_is_remembered_is_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "REMEMBER_BYTES", 50_000)
    for n in range(300):
        await store.load([("session", f"guessed {n}" * 10)], [(f"budget {n}", 0)])
        await store.append(Append(puts=((("session", str(n)), bytes(1_000)),)))
    known = store._ledger
    assert sum(len(row.value) for row in known._rows.values() if row) < 60_000
    assert len(known._rows) + len(known._budgets) < 250
    assert (await store.load([("session", "7")], [])).rows["session", "7"].value == bytes(1_000)


# No space, no permission, no sense


async def test_a_full_disk_refuses_all_of_the_batch_and_service_returns(path: Path, store: SqliteStore) -> None:
    await store.append(Append(entries=(entry(b"before"),), puts=((AGENT, b"before"),), spends=(Spend("pay", 0, 9),)))
    (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
    store._connection.execute(f"PRAGMA max_page_count={pages + 2}")
    large = Append(
        entries=(NewEntry(b"x", Payload(b"s", bytes(20_000))),), puts=((AGENT, b"half"),), spends=(Spend("pay", 0, 9),)
    )
    results = await asyncio.gather(*(store.append(large) for _ in range(4)), return_exceptions=True)
    for result in results:
        assert isinstance(result, Unavailable)
        assert (result.code, str(result)) == (
            Code.STORE_UNAVAILABLE,
            "the log's database has no space left on its disk (SQLITE_FULL)",
        )
    loaded = await store.load([AGENT], [("pay", 0)])
    assert (loaded.rows[AGENT].value, dict(loaded.used)) == (b"before", {"pay": 1})
    assert list(await store.entries(0, 9)) == [b"before"]
    store._connection.execute("PRAGMA max_page_count=1000000")
    assert await store.append(large) == Appended(1)
    assert (await store.load([AGENT], [("pay", 0)])).used == {"pay": 2}


def run_child(role: str, database: Path) -> list[str]:
    done = subprocess.run([sys.executable, CHILD, role, database], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_file_that_may_not_grow_refuses_and_service_returns(path: Path) -> None:
    *refused, left, returned = run_child("outgrow", path)
    assert len(refused) == 5
    assert all(line.startswith("refused store_unavailable the log's database") for line in refused)
    assert left == "left 1 before"
    assert returned == "returned Appended(first=1)"


async def test_a_database_turned_read_only_refuses_and_service_returns(store: SqliteStore) -> None:
    await store.append(Append(entries=(entry(b"a"),)))
    store._connection.execute("PRAGMA query_only=ON")
    refusal = await refusal_of(store.append(Append(entries=(entry(b"b"),))))
    assert str(refusal) == "the log's database is read-only (SQLITE_READONLY)"
    assert list(await store.entries(0, 9)) == [b"a"]
    store._connection.execute("PRAGMA query_only=OFF")
    assert await store.append(Append(entries=(entry(b"b"),))) == Appended(1)


async def test_a_database_without_write_permission_is_not_opened(path: Path) -> None:
    await open_store(path).close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    (line,) = run_child("powerless", path)
    assert line.startswith(f"refused store_unavailable `{path}` is read-only (SQLITE_READONLY")
    path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("none/such/log.db", "cannot open `{}`: no such file or directory"),
        ("file/log.db", "cannot open `{}`: not a directory"),
        ("directory", "`{}` cannot be opened (SQLITE_CANTOPEN)"),
        ("link", "cannot open `{}`: too many levels of symbolic links"),
    ],
)
def test_a_place_that_cannot_hold_it_is_named(tmp_path: Path, place: str, line: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Unavailable) as caught:
        open_store(tmp_path / place)
    assert str(caught.value).startswith(line.format(tmp_path / place))


async def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        store = open_store(tmp_path / "state" / "log.db")
        await store.append(Append(entries=(entry(b"a"),)))
    finally:
        os.umask(mask)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state").iterdir()}
    assert modes == {"log.db": 0o600, "log.db-wal": 0o600, "log.db-shm": 0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    await store.close()
    (tmp_path / "state" / "log.db").chmod(0o644)
    await open_store(tmp_path / "state" / "log.db").close()
    assert stat.S_IMODE((tmp_path / "state" / "log.db").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o720, 0o702])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    with pytest.raises(Unavailable, match="others can write the directory"):
        open_store(tmp_path / "state" / "log.db")


def test_what_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_bytes(b"I am a diary, not a database. " * 400)
    before = path.read_bytes()
    with pytest.raises(Unavailable) as caught:
        open_store(path)
    assert str(caught.value) == f"`{path}` is not a database (SQLITE_NOTADB)"
    assert path.read_bytes() == before


def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    with pytest.raises(Unavailable) as caught:
        open_store(path)
    assert str(caught.value) == f"`{path}` is a database of another program"
    assert path.read_bytes() == before


async def test_a_newer_schema_is_refused(path: Path) -> None:
    await open_store(path).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version={database.SCHEMA + 1}")
    with pytest.raises(Unavailable, match="upgrade citywatch"):
        open_store(path)


async def test_a_damaged_page_is_reported_and_not_believed(path: Path) -> None:
    store = open_store(path)
    for n in range(0, 3_000, 500):
        await store.append(
            Append(entries=tuple(NewEntry(b"%d" % m, Payload(b"s", bytes(300))) for m in range(n, n + 500)))
        )
    await store.close()
    raw = bytearray(path.read_bytes())
    for page in range(20 * 4096, len(raw) - 40 * 4096, 4096):
        raw[page : page + 64] = b"\xff" * 64
    path.write_bytes(raw)
    store = open_store(path)
    assert str(await refusal_of(store.entries(0, 3_000))) == "the log's database is damaged (SQLITE_CORRUPT)"
    await store.close()


async def test_one_append_that_sqlite_cannot_hold_fails_alone(store: SqliteStore) -> None:
    poisoned = Append(puts=((("session", "\ud800"), b"1"),), entries=(entry(b"poison"),))
    fine = [Append(entries=(entry(b"fine %d" % n),), sync=n % 2 == 0) for n in range(6)]
    results = await asyncio.gather(
        *(store.append(append) for append in [*fine[:3], poisoned, *fine[3:]]), return_exceptions=True
    )
    assert isinstance(results.pop(3), UnicodeEncodeError)
    assert results == [Appended(n) for n in range(6)]
    assert list(await store.entries(0, 99)) == [b"fine %d" % n for n in range(6)], "each once"


async def test_a_closed_store_says_so(path: Path) -> None:
    store = open_store(path)
    kept = asyncio.ensure_future(store.append(Append(entries=(entry(b"last"),))))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await kept == Appended(0)
    for attempt in (store.append(Append()), store.load([AGENT], []), store.sync(), store.entries(0, 1)):
        assert str(await refusal_of(attempt)) == "the log is closed"


# Erasure and the checkpoint


def everywhere(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


@pytest.mark.parametrize("size", [40, 3_000, 30_000])
async def test_an_erased_payload_is_in_no_file(path: Path, store: SqliteStore, size: int) -> None:
    secret = Payload(b"SALT-OF-SEVENTEEN", (b"SECRET-BODY" * size)[:size])
    for n in range(40):
        payload = secret if n == 17 else Payload(b"salt %02d" % n, b"kept %02d " % n * (size // 8))
        await store.append(Append(entries=(NewEntry(b"leaf %d" % n, payload),)))
        if n == 30:
            store._checkpointer.ask()
    assert b"SECRET-BODY" in everywhere(path)
    await store.erase(17, entry(b"erased 17"))
    assert b"SECRET-BODY" not in everywhere(path)
    assert b"SALT-OF-SEVENTEEN" not in everywhere(path)
    assert await store.payload(16) is not None
    assert (await store.entries(17, 18)) == [b"leaf 17"]


async def test_a_reader_that_keeps_an_erased_copy_is_reported(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EMPTY_TRIES", 2)
    await store.append(Append(entries=(NewEntry(b"a", Payload(b"s", b"SECRET")),)))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entry").fetchall()
        assert "erase again" in str(await refusal_of(store.erase(0, entry(b"erased"))))
        assert await store.payload(0) is None
        reader.execute("COMMIT")
    assert await store.erase(0, entry(b"erased")) == Appended(2)
    assert b"SECRET" not in everywhere(path)


async def test_a_checkpoint_is_asked_only_of_a_log_with_a_frame_to_copy(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 3.51.3, a checkpoint of a log already copied in full may lose the commit that begins the log anew."""
    monkeypatch.setattr(store_module, "CHECKPOINT_BYTES", 1 << 15)
    monkeypatch.setattr(checkpoint, "MAX_FRAMES", 0)
    statements: list[str] = []
    store._checkpointer._connection.set_trace_callback(statements.append)
    for _ in range(30):
        await asyncio.gather(*(store.append(Append(entries=(NewEntry(bytes(3_000)),))) for _ in range(8)))
    await until(lambda: any("RESTART" in statement for statement in statements))
    await store.append(Append(entries=(NewEntry(b"x", Payload(b"s", b"b")),)))
    await store.erase(240, entry(b"erased"))
    store._checkpointer._connection.set_trace_callback(None)
    acts = [
        "mark" if "UPDATE counter" in statement else statement for statement in statements if "BEGIN" not in statement
    ]
    checkpoints = [n for n, act in enumerate(acts) if "wal_checkpoint" in act]
    assert {mode for n in checkpoints for mode in ("PASSIVE", "RESTART", "TRUNCATE") if mode in acts[n]} == {
        "PASSIVE",
        "RESTART",
        "TRUNCATE",
    }
    assert all(acts[n - 1] == "mark" for n in checkpoints)


async def test_a_log_stays_short_though_appends_never_pause(
    path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MAX_FRAMES", 0)
    appended = 0

    async def append_on() -> None:
        nonlocal appended
        while True:
            await store.append(Append(entries=(NewEntry(bytes(2_000)),), puts=((AGENT, b"%d" % appended),)))
            appended += 1

    workers = [asyncio.ensure_future(append_on()) for _ in range(4)]
    for _ in range(30):
        before = appended
        store._checkpointer.ask()
        await until(lambda: not store._checkpointer._asked and appended > before + 50)  # noqa: B023 (awaited at once)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    # Every page came through the log: had it never begun anew, it would be at least as long.
    assert path.with_name(path.name + "-wal").stat().st_size < path.stat().st_size
    assert len(await store.entries(0, 10**9)) >= appended


async def test_a_failed_sync_of_the_checkpoint_is_as_final(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await store.append(Append(entries=(entry(b"a"),)))

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    store._checkpointer.ask()
    await until(lambda: store._disk.failed)
    assert "restart" in str(await refusal_of(store.append(Append(entries=(entry(b"b"),)))))
    monkeypatch.undo()
    with pytest.raises(Unavailable):
        await store.close()
