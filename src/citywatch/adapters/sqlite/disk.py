"""Makes committed transactions survive a loss of power: one `fdatasync` of the write-ahead log for all who wait.

Does not decide who has to wait. INVARIANTS: a wait that ends well was begun before the `fdatasync` that ended it was
called; after one failure every wait fails, for the kernel may have dropped the pages it could not write and a second
call would report success (https://danluu.com/fsyncgate/).

Why the `-wal` file alone is enough: a frame leaves it only after a checkpoint has synced it into the database file,
and SQLite itself syncs the header of a log begun anew before any frame of it (`synchronous=NORMAL`). The file is opened
once: SQLite holds no lock on it and never replaces it while a connection is open.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from citywatch.adapters.sqlite.database import wal_of
from citywatch.core.errors import Code, Unavailable

Fdatasync = Callable[[int], None]

TURNS = 8
"""How many turns of the event loop a sync waits for more to come: a call takes a few from its socket to its commit."""

GATHER_S = 0.002
"""But no longer than this, which is about what a sync takes."""

UNSAFE = "an earlier sync of the log's disk failed, so what is on it is unknown: check the disk, then restart"
_REMOVED = "the log's write-ahead file was removed or replaced while in use: restart"


class Disk:
    """One thread that calls `fdatasync`, because the call may take long and lets the event loop run meanwhile."""

    def __init__(self, database: Path, fdatasync: Fdatasync) -> None:
        self.failed = False
        self._fdatasync = fdatasync
        self._fd = os.open(wal_of(database), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._waiting: list[Callable[[Unavailable | None], None]] = []
        self._asked: SimpleQueue[asyncio.AbstractEventLoop | None] = SimpleQueue()
        self._running = False
        self._since = 0.0
        self._thread = threading.Thread(target=self._work, name="citywatch-sync", daemon=True)
        self._thread.start()

    def when_synced(self, tell: Callable[[Unavailable | None], None], loop: asyncio.AbstractEventLoop) -> None:
        """Call `tell` on `loop` once all that is committed by now is on the disk, or cannot be said to be."""
        self._waiting.append(tell)
        if not self._running:
            self._running, self._since = True, time.monotonic()
            self._gather(loop, TURNS)

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join()
        os.close(self._fd)

    def _gather(self, loop: asyncio.AbstractEventLoop, turns: int) -> None:
        """Let those who are about to commit come along: on an idle loop no time passes, on a busy one many calls do."""
        if turns and time.monotonic() - self._since < GATHER_S:
            loop.call_soon(self._gather, loop, turns - 1)
        else:
            self._begin(loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._told, self._waiting = self._waiting, []
        self._asked.put(loop)

    def _done(self, loop: asyncio.AbstractEventLoop, error: Unavailable | None) -> None:
        told, self._told = self._told, []
        self._running = bool(self._waiting)
        if self._running:  # came while that sync ran, so it may have missed them
            self._since = time.monotonic()
            self._gather(loop, TURNS)
        for tell in told:
            tell(error)

    def _work(self) -> None:
        while (loop := self._asked.get()) is not None:
            error = self._sync()
            try:
                loop.call_soon_threadsafe(self._done, loop, error)
            except RuntimeError:
                return  # the loop is closed and nobody waits any more

    def _sync(self) -> Unavailable | None:
        if self.failed:
            return Unavailable(Code.STORE_UNAVAILABLE, UNSAFE)
        try:
            self._fdatasync(self._fd)
            if os.fstat(self._fd).st_nlink == 0:
                self.failed = True
                return Unavailable(Code.STORE_UNAVAILABLE, _REMOVED)
        except OSError as error:
            self.failed = True
            return Unavailable(
                Code.STORE_UNAVAILABLE,
                f"the log's disk did not take the last entries: {(error.strerror or '').lower()}",
            )
        return None
