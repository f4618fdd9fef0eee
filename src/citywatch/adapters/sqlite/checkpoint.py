"""Keeps the write-ahead log short without making an append wait for the disk.

Decides when frames are copied into the database file, never what they hold. Runs in a thread of its own with a
connection of its own; the event loop's connection never checkpoints.

INVARIANT: `wal_checkpoint` is called only while the log holds a frame that is not copied yet, and by one process at a
time (an flock on the `-wal` file, which SQLite itself never locks). SQLite before 3.51.3 can otherwise mark frames as
copied that were not: a checkpoint that starts on a log already copied in full races with the commit that begins the log
anew (https://www.sqlite.org/wal.html#walresetbug), and Debian 12 ships 3.40. The write in `_mark` makes such a frame.

The first pass copies beside running appends; the last takes the write lock for the little that came meanwhile. `_mark`
after it makes this thread pay for the sync of the new log's header, not the event loop.
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from citywatch.adapters.sqlite.database import connect, is_failed_sync

LOCK_PATIENCE_S = 0.025
"""The last pass may keep others from writing while it waits for a reader: not for long."""

TRUNCATE_TRIES = 200
"""Times 25 ms, while other readers hold on to frames."""

Told = Callable[[bool], object]


class Checkpointer:
    """Asked for a checkpoint, it does one soon; asked for the log to be emptied, it says whether it was."""

    def __init__(self, database: Path, wal_fd: int, on_failed_sync: Callable[[], None]) -> None:
        self._wal_fd = wal_fd
        self._on_failed_sync = on_failed_sync
        self._connection = connect(database, timeout_s=LOCK_PATIENCE_S)
        self._asked: SimpleQueue[Told | bool | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="citywatch-checkpoint", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Copy what can be copied and let the log begin anew."""
        self._asked.put(True)

    def empty(self, told: Told) -> None:
        """Leave no frame in the log, so that nothing erased is left in it. `told` is called in the thread."""
        self._asked.put(told)

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join()
        self._connection.close()

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            if callable(asked):
                asked(self._guarded(self._empty))
            else:
                self._guarded(self._restart)

    def _guarded(self, work: Callable[[], bool]) -> bool:
        try:
            fcntl.flock(self._wal_fd, fcntl.LOCK_EX)
            try:
                return work()
            finally:
                fcntl.flock(self._wal_fd, fcntl.LOCK_UN)
        except sqlite3.Error as error:
            # Disk full, or a lock not to be had: the log grows until a later round succeeds. A failed sync is final.
            if is_failed_sync(error):
                self._on_failed_sync()
            return False

    def _restart(self) -> bool:
        self._mark()
        self._pass("PASSIVE")
        self._mark()
        self._pass("PASSIVE")
        self._mark()
        done = self._pass("RESTART")
        self._mark()
        return done

    def _empty(self) -> bool:
        for _ in range(TRUNCATE_TRIES):
            self._mark()
            if self._pass("TRUNCATE"):
                return True
        return False

    def _mark(self) -> None:
        self._connection.execute("UPDATE counter SET value = value + 1 WHERE name = 'checkpoint'")

    def _pass(self, mode: str) -> bool:
        """Whether all that was in the log when the pass began is in the database file now."""
        busy, frames, copied = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return not busy and frames == copied
