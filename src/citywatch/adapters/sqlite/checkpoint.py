"""Keeps the write-ahead log short without making an append wait for the disk.

Decides when frames are copied into the database file, never what they hold. Runs in a thread of its own with a
connection of its own; the event loop's connection never checkpoints.

INVARIANT: `wal_checkpoint` is called only while the log holds a frame that is not copied yet, and by one process at a
time (an flock on the `-wal` file, which SQLite itself never locks). SQLite before 3.51.3 can otherwise mark frames as
copied that were not: a checkpoint that starts on a log already copied in full races with the commit that begins the log
anew (https://www.sqlite.org/wal.html#walresetbug), and Debian 12 ships 3.40. The write in `_mark` makes such a frame.

The bulk is copied and synced beside running appends; only the last pass takes the write lock, for the little that came
meanwhile. The `_mark` after it makes this thread pay for the sync of the new log's header, not the event loop.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from citywatch.adapters.sqlite.database import connect, is_failed_sync, wal_of

LOCK_PATIENCE_S = 0.025
"""The last pass may keep others from writing while it waits for a reader: not for long."""

MAX_FRAMES = 16_384
"""64 MB of log, past which it is made to begin anew even if appends never pause."""

MORE_PASSES = 16
FEW_FRAMES = 128
"""Each pass finds what came during the one before; when that is half a megabyte, the rest is worth the lock."""

RETRY_S = 0.1
EMPTY_TRIES = 50
"""Times `RETRY_S`, while other readers hold on to frames."""

Told = Callable[[bool], object]


class Checkpointer:
    """Asked for a checkpoint, it does one soon; asked for the log to be emptied, it says whether it was."""

    def __init__(self, database: Path, database_fd: int, on_failed_sync: Callable[[], None]) -> None:
        self.wants_turn = False
        """While set, the event loop leaves the write lock alone: polling for it between two commits may never win."""
        self._database_fd = database_fd
        # Not the descriptor that `disk.py` syncs: Linux reports a failed write once to each, and each must hear of it.
        self._wal_fd = os.open(wal_of(database), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._on_failed_sync = on_failed_sync
        self._connection = connect(database, timeout_s=LOCK_PATIENCE_S)
        self._wake = threading.Event()
        self._asked = self._stopped = False
        self._to_tell: list[Told] = []
        self._thread = threading.Thread(target=self._work, name="citywatch-checkpoint", daemon=True)
        self._thread.start()

    def ask(self) -> None:
        """Copy what can be copied and let the log begin anew."""
        self._asked = True
        self._wake.set()

    def empty(self, told: Told) -> None:
        """Leave no frame in the log, so that nothing erased is left in it. `told` is called in the thread."""
        self._to_tell.append(told)
        self._wake.set()

    def close(self) -> None:
        self._stopped = True
        self._wake.set()
        self._thread.join()
        self._connection.close()
        os.close(self._wal_fd)

    def _work(self) -> None:
        tries = 0
        while True:
            self._wake.wait(RETRY_S if self._asked or self._to_tell else None)
            self._wake.clear()
            to_tell = self._to_tell[:]
            if to_tell:
                tries += 1
                done = self._guarded(self._empty)
                if done or tries >= EMPTY_TRIES or self._stopped:
                    tries = 0
                    del self._to_tell[: len(to_tell)]
                    for told in to_tell:
                        told(done)
            elif self._stopped:
                return
            elif self._asked:
                self._asked = not self._guarded(self._tidy)

    def _guarded(self, work: Callable[[], bool]) -> bool:
        try:
            fcntl.flock(self._wal_fd, fcntl.LOCK_EX)
            try:
                return work()
            finally:
                fcntl.flock(self._wal_fd, fcntl.LOCK_UN)
        except (sqlite3.Error, OSError) as error:
            # Disk full, or a lock not to be had: the log grows until a later round succeeds. A failed sync is final.
            if isinstance(error, OSError) or is_failed_sync(error):
                self._on_failed_sync()
            return False

    def _tidy(self) -> bool:
        frames = self._copy()
        if frames < MAX_FRAMES:
            return True  # not worth making anyone wait; an idle moment lets the log begin anew for nothing
        for _ in range(MORE_PASSES):
            before, frames = frames, self._copy()
            if frames - before < FEW_FRAMES:
                break
        with self._turn():
            self._mark()
            busy, _, _ = self._pass("RESTART")
            self._mark()
        return not busy

    def _copy(self) -> int:
        """Copy and sync what is committed by now, beside running appends; return how many frames the log holds."""
        with self._turn():
            self._mark()
        _, frames, _ = self._pass("PASSIVE")
        os.fdatasync(self._database_fd)  # else the last pass would have to, holding the lock
        os.fdatasync(self._wal_fd)
        return frames

    def _empty(self) -> bool:
        with self._turn():
            self._mark()
            busy, _, _ = self._pass("TRUNCATE")
            return not busy

    @contextmanager
    def _turn(self) -> Iterator[None]:
        self.wants_turn = True
        try:
            yield
        finally:
            self.wants_turn = False

    def _mark(self) -> None:
        self._connection.execute("UPDATE counter SET value = value + 1 WHERE name = 'checkpoint'")

    def _pass(self, mode: str) -> tuple[int, int, int]:
        """Whether a lock was missing, how many frames the log held, how many of them are in the database file."""
        busy, frames, copied = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return busy, frames, copied
