"""Rows beside the real ones: where a log is folded again, what the sequence writes goes here and leaves no entry.

Decides nothing. INVARIANTS: nothing reaches the log's own store; what was let through once is never stopped here by a
budget that other rules have (`force`), because it happened.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from citywatch.core.flow.handle import seed_of
from citywatch.core.log.entry import SALT_BYTES
from citywatch.service.ports import Append, Appended, Exhausted, Key, Loaded, NewEntry, Payload, Row, Stale, Store


class ShadowRows:
    """`ports.Store` over an empty store of rows: entries and payloads are dropped, spends never fail."""

    def __init__(self, rows: Store) -> None:
        self._rows = rows

    async def load(self, keys: Sequence[Key], budgets: Sequence[tuple[str, int]]) -> Loaded:
        return await self._rows.load(keys, budgets)

    async def append(self, append: Append) -> Appended | Stale | Exhausted:
        spends = tuple(msgspec.structs.replace(one, force=True) for one in append.spends)
        return await self._rows.append(msgspec.structs.replace(append, entries=(), spends=spends, sync=True))

    async def scan(self, kind: str) -> Sequence[tuple[str, Row]]:
        return await self._rows.scan(kind)

    async def last(self, kind: str, prefix: str, count: int) -> Sequence[tuple[str, Row]]:
        return await self._rows.last(kind, prefix, count)

    async def page(self, kind: str, after: str, count: int) -> Sequence[tuple[str, Row]]:
        return await self._rows.page(kind, after, count)

    async def count(self, kind: str) -> int:
        return await self._rows.count(kind)

    async def sync(self) -> int:
        return await self._rows.sync()

    async def entries(self, start: int, stop: int) -> Sequence[bytes]:
        return ()

    async def payload(self, index: int) -> Payload | None:
        return None

    async def erase(self, index: int, entry: NewEntry) -> Appended:
        raise NotImplementedError("a shadow holds no payload")


class RecordedClock:
    """`ports.Clock` that stands at the time of the entry that is folded, in milliseconds."""

    def __init__(self) -> None:
        self.at = 0

    def now_ms(self) -> int:
        return self.at


class RecordedChance:
    """`ports.Chance` that draws what was drawn: the id, and what names a reply's shelf.

    Any other salt hides nothing, where nothing is kept.
    """

    def __init__(self) -> None:
        self.id = ""
        self._salt = bytes(SALT_BYTES)

    def name_shelf(self, shelf: str) -> None:
        """Draw what names this shelf from now on; "" for none."""
        self._salt = seed_of(shelf) if shelf else bytes(SALT_BYTES)

    def call_id(self) -> str:
        return self.id

    def salt(self) -> bytes:
        return self._salt
