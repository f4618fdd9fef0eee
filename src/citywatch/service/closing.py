"""Calls that get no reply, or no further one: their server failed, their caller left.

Decides nothing of their effect, which may have happened all the same.
INVARIANTS: a call is closed by an entry that takes its row with it; `close` leaves alone what somebody closed before.
"""

from __future__ import annotations

from contextlib import suppress

from citywatch.core.call import Call
from citywatch.core.enforce.needs import OpenCall, open_key
from citywatch.core.errors import Code, Unavailable
from citywatch.service import entries
from citywatch.service.judged import Judged
from citywatch.service.ports import Append, Clock, NewEntry, Puts, Reads, Store
from citywatch.service.snapshots import Snapshots, versions_of
from citywatch.service.unhindered import unhindered


class Closing:
    """Closes the open calls of one replica."""

    def __init__(self, store: Store, clock: Clock, replica: str, snapshots: Snapshots) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._snapshots = snapshots

    async def fail(self, judged: Judged, code: Code, detail: str, index: int, puts: Puts = ()) -> None:
        """Record that a forwarded call got no (further) reply. Its effect may have happened all the same."""
        await self._fail(judged.call, code, detail, index, puts, ())

    async def close(self, call: Call, code: Code, detail: str, index: int = 0, puts: Puts = ()) -> None:
        """Record that a call gets no reply, if it is still open; whoever closed it before has said how it ended."""
        key = open_key(call)
        loaded = await self._store.load((key,), ())
        row: OpenCall | None = self._snapshots.decode(key, loaded)
        if row is not None and row.call == call.id:
            await self._fail(call, code, detail, index, puts, versions_of((key,), loaded))

    async def abandon(self, call: Call, detail: str, puts: Puts = ()) -> None:
        """Close a call that its caller left, if it is still open. If the disk will not, the next start does."""
        with suppress(Unavailable):
            await unhindered(self.close(call, Code.ABANDONED, detail, 0, puts))

    async def _fail(self, call: Call, code: Code, detail: str, index: int, puts: Puts, once: Reads) -> None:
        entry = entries.failed(call, code, detail, index, replica=self._replica, now=self._clock.now_ms())
        await self._store.append(Append(entries=(NewEntry(entry),), reads=once, puts=((open_key(call), None), *puts)))
