"""Where requests that need no papers wait until they are here in full.

Decides only how many wait at once and which has to go. INVARIANTS: never more than so many; slow ones, however many,
keep nobody out: the one that has waited longest makes room, since an honest one takes a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Anteroom:
    """The places of one process."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._waiting: dict[asyncio.Timeout, None] = {}  # in the order in which they came

    @asynccontextmanager
    async def place(self, seconds: float) -> AsyncIterator[None]:
        """Hold a place; `TimeoutError` inside when the time is over, or when others need it."""
        if len(self._waiting) >= self._places:
            self._send_away(next(iter(self._waiting)))
        async with asyncio.timeout(seconds) as own:
            self._waiting[own] = None
            try:
                yield
            finally:
                self._waiting.pop(own, None)

    def _send_away(self, one: asyncio.Timeout) -> None:
        del self._waiting[one]
        if not one.expired():
            one.reschedule(0)
