"""The store port on SQLite: appends queue up, and one transaction a turn of the event loop commits them all.

Does not decide what an append may do (`ledger.py`) nor what is on the disk (`disk.py`). The commit runs on the event
loop itself: `docs/adr/0007-commit-on-the-loop.md` has the figures.

INVARIANTS: an append returns only after its transaction committed, and with `sync` only after an `fdatasync` begun
after that commit has ended well. An append that raises wrote nothing, unless it was the sync that failed: then all of
it may be in the log, or none. After a failed `fdatasync` nothing is appended until a restart. What waits is bounded in
number and in bytes.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from citywatch.adapters.sqlite.checkpoint import Checkpointer
from citywatch.adapters.sqlite.database import (
    hold_file,
    is_busy,
    is_failed_sync,
    is_the_worlds,
    open_database,
    release_file,
    unavailable,
)
from citywatch.adapters.sqlite.disk import UNSAFE, Disk, Fdatasync
from citywatch.adapters.sqlite.ledger import Job, Ledger, Result
from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Appended, Exhausted, Key, Loaded, NewEntry, Payload, Row, Stale

MAX_BATCH: Final = 64
"""Appends a transaction: while the disk syncs one batch, the next is committed."""

MAX_WAITING: Final = 4096
MAX_WAITING_BYTES: Final = 64 << 20
BUSY_PATIENCE_S: Final = 2.0
BUSY_PAUSE_S: Final = 0.001
"""Not less: some loops count in whole milliseconds, and half of one would be none at all."""
READ_CHUNK: Final = 512
CHECKPOINT_BYTES: Final = 16 << 20
PAGE: Final = 4096

_CLOSED = "the log is closed"
_HELD = "the log's database is held too long by another process or a slow disk"

T = TypeVar("T")
_Waiter = tuple[Job, asyncio.Future[Result], int]


def open_store(path: Path, *, fdatasync: Fdatasync = os.fdatasync) -> SqliteStore:
    """Open or create the store at `path`; raise `Unavailable` if that cannot be. `await store.close()` when done."""
    connection = open_database(path)
    try:
        return SqliteStore(path, connection, fdatasync)
    except (OSError, sqlite3.Error) as error:
        connection.close()
        raise Unavailable(Code.STORE_UNAVAILABLE, f"cannot open `{path}`: {str(error).lower()}") from error


class SqliteStore:
    """`service.ports.Store` on one SQLite file. Belongs to the event loop that first appends to it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, fdatasync: Fdatasync) -> None:
        self._connection = connection
        self._ledger = Ledger(connection)
        self._disk = Disk(path, fdatasync)
        self._database_fd = hold_file(path)
        self._checkpointer = Checkpointer(path, self._database_fd, self._give_up)
        self._queue: list[_Waiter] = []
        self._queued_bytes = 0
        self._syncing = 0
        self._scheduled = False
        self._busy_since: float | None = None
        self._wal_bytes = 0
        self._closed = False

    async def load(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        """A consistent snapshot; at most 50 ms older than another process's last commit."""
        try:
            return self._ledger.load(keys, budgets)
        except sqlite3.Error:
            return await self._reading(lambda: self._ledger.load(keys, budgets))

    async def version(self, key: Key) -> int:
        """`service.ports.Bus`: asks the database itself, which another process may have changed a moment ago."""
        return await self._reading(lambda: self._ledger.version(key))

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        """Commit, together with whatever else waits in this turn of the loop."""
        return await self._enqueue(Job(append))

    async def scan(self, kind: str) -> Sequence[tuple[str, Row]]:
        return await self._reading(lambda: self._ledger.scan(kind))

    async def last(self, kind: str, prefix: str, count: int) -> Sequence[tuple[str, Row]]:
        return await self._reading(lambda: self._ledger.last(kind, prefix, count))

    async def page(self, kind: str, after: str, count: int) -> Sequence[tuple[str, Row]]:
        return await self._reading(lambda: self._ledger.page(kind, after, count))

    async def count(self, kind: str) -> int:
        return await self._reading(lambda: self._ledger.rows(kind))

    async def entries(self, start: int, stop: int) -> Sequence[bytes]:
        """The leaves, read in pieces so that a long read does not hold up the loop."""
        found: list[bytes] = []
        while start < stop:
            here, until = start, min(start + READ_CHUNK, stop)
            piece = await self._reading(lambda: self._ledger.entries(here, until))  # noqa: B023 (awaited at once)
            found += piece
            start += READ_CHUNK
            if len(piece) < until - here:
                break
            await asyncio.sleep(0)
        return found

    async def payload(self, index: int) -> Payload | None:
        return await self._reading(lambda: self._ledger.payload(index))

    async def sync(self) -> int:
        """Sync everything committed by now, by any process; return how many entries that is."""
        if self._closed:
            raise Unavailable(Code.STORE_UNAVAILABLE, _CLOSED)
        return await self._sync()

    async def erase(self, index: int, entry: NewEntry) -> Appended:
        """Overwrite the payload in the database, then empty the write-ahead log, which holds it too."""
        appended = await self._enqueue(Job(Append(entries=(entry,), sync=True), index))
        assert isinstance(appended, Appended)  # it read nothing and spent nothing
        loop = asyncio.get_running_loop()
        emptied: asyncio.Future[bool] = loop.create_future()
        self._checkpointer.empty(lambda done: loop.call_soon_threadsafe(_resolve, emptied, done))
        if not await emptied:
            raise Unavailable(
                Code.STORE_UNAVAILABLE,
                f"entry {index}: payload erased, but a reader keeps a copy of it in the write-ahead log: erase again",
            )
        return appended

    async def close(self) -> None:
        """Take no more, finish what waits, sync it, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        while self._queue:
            await asyncio.sleep(BUSY_PAUSE_S)
        try:
            await self._sync()
        finally:
            self._checkpointer.close()
            self._disk.close()
            self._connection.close()
            release_file(self._database_fd)

    async def _sync(self) -> int:
        count = await self._patiently(self._ledger.count)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[int] = loop.create_future()
        self._disk.when_synced(lambda error: _resolve(done, count, error), loop)
        return await done

    def _enqueue(self, job: Job) -> asyncio.Future[Result]:
        if self._closed or self._disk.failed:
            raise Unavailable(Code.STORE_UNAVAILABLE, _CLOSED if self._closed else UNSAFE)
        size = _weigh(job.append)
        if len(self._queue) + self._syncing >= MAX_WAITING or self._queued_bytes + size > MAX_WAITING_BYTES:
            raise Unavailable(Code.OVERLOADED, "too many calls wait for the log")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._queue.append((job, future, size))
        self._queued_bytes += size
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._flush, loop)
        return future

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        """One transaction for the head of the queue; whoever came too late for it is in the next."""
        batch = self._queue[:MAX_BATCH]
        pause = 0.0
        if not self._commit([waiter for waiter in batch if not waiter[1].done()], loop):
            if self._may_wait():
                batch, pause = [], BUSY_PAUSE_S
            else:
                batch = self._queue[:]
                _tell(batch, Unavailable(Code.STORE_UNAVAILABLE, _HELD))
        if batch:
            self._busy_since = None
            del self._queue[: len(batch)]
            self._queued_bytes -= sum(size for _, _, size in batch)
        self._scheduled = bool(self._queue)
        if pause:
            loop.call_later(pause, self._flush, loop)
        elif self._scheduled:
            loop.call_soon(self._flush, loop)

    def _commit(self, batch: list[_Waiter], loop: asyncio.AbstractEventLoop) -> bool:
        """Answer all of the batch, one way or another; or say that the lock is not to be had, answering nobody."""
        if self._checkpointer.wants_turn:
            return False
        try:
            results = self._ledger.commit([job for job, _, _ in batch])
        except sqlite3.Error as error:
            if is_busy(error):
                return False
            if is_failed_sync(error):
                self._give_up()
            if is_the_worlds(error):
                _tell(batch, unavailable(error))
            else:
                self._commit_apart(batch, error, loop)
        except Exception as error:  # a value SQLite cannot hold: a defect of one caller, which the others do not share
            self._commit_apart(batch, error, loop)
        else:
            self._answer(batch, results, loop)
        return True

    def _commit_apart(self, batch: list[_Waiter], error: Exception, loop: asyncio.AbstractEventLoop) -> None:
        if len(batch) == 1:
            _tell(batch, error)
            return
        for waiter in batch:
            if not self._commit([waiter], loop):  # not to be tried again: a part of the batch may be committed
                _tell([waiter], Unavailable(Code.STORE_UNAVAILABLE, _HELD))

    def _answer(self, batch: list[_Waiter], results: list[Result], loop: asyncio.AbstractEventLoop) -> None:
        unsynced: list[tuple[asyncio.Future[Result], Result]] = []
        written = 2 * PAGE
        for (job, future, size), result in zip(batch, results, strict=True):
            written += size
            if job.append.sync and type(result) is Appended:
                unsynced.append((future, result))
            else:
                future.set_result(result)
        if unsynced:
            self._syncing += len(unsynced)
            self._disk.when_synced(lambda error: self._synced(unsynced, error), loop)
        self._wal_bytes += written
        if self._wal_bytes > CHECKPOINT_BYTES:
            self._wal_bytes = 0
            self._checkpointer.ask()

    def _synced(self, waiters: list[tuple[asyncio.Future[Result], Result]], error: Unavailable | None) -> None:
        self._syncing -= len(waiters)
        for future, result in waiters:
            _resolve(future, result, error)

    def _may_wait(self) -> bool:
        now = time.monotonic()
        if self._busy_since is None:
            self._busy_since = now
        return now - self._busy_since < BUSY_PATIENCE_S

    def _give_up(self) -> None:
        self._disk.failed = True

    async def _reading(self, read: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable(Code.STORE_UNAVAILABLE, _CLOSED)
        return await self._patiently(read)

    async def _patiently(self, read: Callable[[], T]) -> T:
        deadline = time.monotonic() + BUSY_PATIENCE_S
        while True:
            try:
                return read()
            except sqlite3.Error as error:
                if not is_the_worlds(error):
                    raise
                if not is_busy(error) or time.monotonic() > deadline:
                    raise unavailable(error) from error
            await asyncio.sleep(BUSY_PAUSE_S)


def _weigh(append: Append) -> int:
    """About how many bytes of log it makes; a row dirties a page of its own."""
    size = PAGE * len(append.puts) + sum([len(value) for _, value in append.puts if value is not None])
    for entry in append.entries:
        size += len(entry.leaf) + 64 + (0 if entry.payload is None else len(entry.payload.body))
    return size


def _resolve(future: asyncio.Future[T], result: T, error: Exception | None = None) -> None:
    if future.done():
        return  # its caller gave up waiting
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _tell(batch: list[_Waiter], error: Exception) -> None:
    for _, future, _ in batch:
        if not future.done():
            future.set_exception(error)
