"""The disk, the file and the operator against the SQLite store: refused with a clear line, and service returns.

Faults are made where they arise: SQLite itself runs out of pages, bytes of the real file are overwritten.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from citywatch.adapters.sqlite import SqliteStore, database, open_store
from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Appended, NewEntry, Payload, Spend
from tests.fault.store_world import AGENT, entry, refusal_of

CHILD = Path(__file__).with_name("store_child.py")


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
