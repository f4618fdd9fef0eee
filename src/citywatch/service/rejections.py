"""What is refused to those who pay nothing for asking leaves behind: an entry, or in a flood its share of one.

Decides how much of the disk those may fill who have no papers or send bytes that are no message, and servers whose
messages are denied; not who they are. INVARIANTS: each refusal is counted in the log; at most `MAX_REJECTED` a second
of requests, and `MAX_DENIED` of each server's messages, have an entry of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from citywatch.core import events
from citywatch.core.errors import Code
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Clock, NewEntry, Store

MAX_REJECTED = 32
MAX_DENIED = 4
MAX_DETAIL = 500


class Rejections:
    """The refusals of one process. `is_server` says which names are worth counting apart."""

    def __init__(self, store: Store, clock: Clock, replica: str, is_server: Callable[[str], bool]) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica
        self._is_server = is_server
        self._second = 0
        self._seen: dict[str, int] = {}
        self._folded: dict[tuple[Code, str, str], int] = {}

    async def add(self, code: Code, detail: str, peer: str, server: str, count: int = 1) -> None:
        """Record a request that was refused before it was a call; past `MAX_REJECTED` a second only count it."""
        if count == 1 and not self._has_room("", MAX_REJECTED):
            self._count(code, server if self._is_server(server) else "", "several")
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

    def deny(self, code: Code, server: str) -> bool:
        """Whether a server's denied message gets an entry of its own; if not, it is counted here."""
        if self._has_room(server, MAX_DENIED):
            return True
        self._count(code, server, "the server")
        return False

    def _has_room(self, source: str, limit: int) -> bool:
        second = self._clock.now_ms() // 1000
        if second != self._second:
            self._second, self._seen = second, {}
        self._seen[source] = self._seen.get(source, 0) + 1
        return self._seen[source] <= limit

    def _count(self, code: Code, server: str, peer: str) -> None:
        kind = (code, server, peer)
        self._folded[kind] = self._folded.get(kind, 0) + 1

    async def fold(self) -> None:
        """Enter what was only counted, one entry a kind."""
        for kind, count in list(self._folded.items()):
            code, server, peer = kind
            await self.add(code, "more of the same", peer, server, count)
            self._folded[kind] -= count
            if not self._folded[kind]:
                del self._folded[kind]
