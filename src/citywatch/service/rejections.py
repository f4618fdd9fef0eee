"""What a request that never became a call leaves behind: an entry, or in a flood its share of one.

Decides how much of the disk those may fill who have no papers, or send bytes that are no message; not who they are.
INVARIANT: each of them is counted in the log, and at most `MAX_REJECTED` a second have an entry of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core import events
from citywatch.core.errors import Code
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Clock, NewEntry, Store

MAX_REJECTED = 32
MAX_DETAIL = 500


class Rejections:
    """The refused requests of one process. `is_server` says which names are worth counting apart."""

    def __init__(self, store: Store, clock: Clock, replica: str, is_server: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._is_server = is_server
        self._second = 0
        self._rejected = 0
        self._folded: dict[tuple[Code, str], int] = {}

    async def add(self, code: Code, detail: str, peer: str, server: str, count: int = 1) -> None:
        """Record a request that was refused before it was a call; past `MAX_REJECTED` a second only count it."""
        second = self._clock.now_ms() // 1000
        if second != self._second:
            self._second, self._rejected = second, 0
        self._rejected += 1
        if self._rejected > MAX_REJECTED and count == 1:
            kind = (code, server if self._is_server(server) else "")
            self._folded[kind] = self._folded.get(kind, 0) + 1
            return
        event = events.Rejected(
            at=self._clock.now_ms(),
            replica=self._replica,
            code=code.value,
            detail=detail[:MAX_DETAIL],
            peer=peer,
            server=server[:128],
            count=count,
        )
        await self._store.append(Append(entries=(NewEntry(encode_event(event)),)))

    async def fold(self) -> None:
        """Enter what was only counted, one entry a kind."""
        for (code, server), count in list(self._folded.items()):
            await self.add(code, "more of the same", "several", server, count)
            self._folded[code, server] -= count
            if not self._folded[code, server]:
                del self._folded[code, server]
