"""What the operator is told while the gateway runs: that calls cannot be recorded, and that they can again.

Decides when a trouble has begun and when it is over, and says each of them once; what is refused meanwhile is the
store's. INVARIANTS: a trouble is said at once, and is over only when nothing has failed for a while, so that a disk
which is full every other moment makes two lines and no flood; the while grows with each relapse; what cannot be said
(the terminal's disk may be the full one) is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from citywatch.core.errors import Code, Unavailable
from citywatch.service.ports import Append, Appended, Exhausted, Key, Stale, Store

CALM = 5
MAX_CALM = 600
"""How many looks in a row must find nothing wrong, at first and at most."""
PROBE: Key = ("machine", "probe")


class Alarm:
    """One kind of trouble. `say` shows the operator one line; it may raise `OSError`."""

    def __init__(self, begins: str, ends: str, say: Callable[[str], None]) -> None:
        self._begins = begins
        self._ends = ends
        self._say = say
        self._trouble: str | None = None
        self._last = ""
        self._said: str | None = None  # the trouble that the operator knows of
        self._calm = CALM
        self._quiet = 0

    @property
    def on(self) -> bool:
        return self._trouble is not None

    def ring(self, why: str) -> None:
        """Something failed just now."""
        self._quiet = 0
        if self._trouble is None:
            self._trouble = self._last = " ".join(why.split())
        self._speak()

    def rest(self) -> None:
        """A look that found nothing wrong."""
        if self._trouble is not None:
            self._quiet += 1
            if self._quiet >= self._calm:
                self._said = self._trouble  # if nobody could be told that it began, what is told now says it too
                self._trouble = None
                self._calm = min(2 * self._calm, MAX_CALM)
        self._speak()

    def _speak(self) -> None:
        """Bring what the operator knows up to what is."""
        if (self._trouble is None) is (self._said is None):
            return
        try:
            line = f"{self._begins}: {self._last}" if self._trouble else f"{self._ends}; it was: {self._last}"
            self._say(line)
        except OSError:
            return
        self._said = self._trouble


class WatchedStore:
    """`Store` whose failures to record are noticed."""

    def __init__(self, store: Store, alarm: Alarm) -> None:
        self._store = store
        self._alarm = alarm
        self.load = store.load
        self.scan = store.scan
        self.last = store.last
        self.page = store.page
        self.count = store.count
        self.sync = store.sync
        self.entries = store.entries
        self.payload = store.payload
        self.erase = store.erase

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        try:
            return await self._store.append(append)
        except Unavailable as failure:
            if failure.code is Code.STORE_UNAVAILABLE:  # not the caller's own flood
                self._alarm.ring(str(failure))
            raise

    async def look(self) -> None:
        """See whether recording works, if it did not: without calls, nothing else would find out that it does again."""
        if self._alarm.on:
            try:
                await self.append(Append(puts=((PROBE, b"true"),), sync=True))
            except Unavailable:
                return
        self._alarm.rest()


async def keep_looking(looks: Sequence[Callable[[], Awaitable[None]]], every_s: float) -> None:
    """Look again and again until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        for look in looks:
            await look()
