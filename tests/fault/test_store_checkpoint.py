"""Erased payloads leave no bytes behind, and the write-ahead log is kept short without losing a commit."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from citywatch.adapters.sqlite import SqliteStore, checkpoint
from citywatch.adapters.sqlite import store as store_module
from citywatch.core.errors import Unavailable
from citywatch.service.ports import Append, Appended, NewEntry, Payload
from tests.fault.store_world import AGENT, entry, refusal_of, until


def everywhere(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def times_begun_anew(path: Path) -> int:
    """The sequence number in the write-ahead log's header (https://www.sqlite.org/fileformat2.html#walformat)."""
    with path.with_name(path.name + "-wal").open("rb") as log:
        return int.from_bytes(log.read(16)[12:], "big")


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
    assert times_begun_anew(path) >= 30
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
