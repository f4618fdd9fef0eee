"""How a process hears that something was revoked, and what it does while it hears nothing.

Decides when a view is too old. INVARIANTS (11): what is heard here is a hint, and the check at append the guarantee;
every revocation moves one row (`NOTICE`) in its own transaction, so that none is missed; a process that could not look
for `max_staleness` lets nothing through, and closes what is open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from citywatch.core.errors import Code, Unavailable
from citywatch.service.listening import Listening
from citywatch.service.ports import Bus, Key, Puts

NOTICE: Final[Key] = ("machine", "revocations")
NOTICED: Final[Puts] = ((NOTICE, b"true"),)
"""What each revocation writes beside its own row."""
SOON_S: Final = 0.004
"""Between two looks while a stream is open."""
IDLE_S: Final = 0.05
"""Between two looks otherwise: then a revocation has nothing to close, and the next append knows of it."""


class Watch:
    """Looks whether anything was revoked, for one process."""

    def __init__(
        self, bus: Bus, listening: Listening, max_staleness: float, noticed: Callable[[], None] | None = None
    ) -> None:
        """`max_staleness` in seconds; `noticed` is called each time that something was revoked."""
        self._noticed = noticed
        self._bus = bus
        self._listening = listening
        self._max_staleness = max_staleness
        self._version = -1
        self._heard = float("-inf")

    async def look(self) -> None:
        """Look once, and close what does not stand any more."""
        began, known = asyncio.get_running_loop().time(), self._version
        try:
            version = await self._bus.version(NOTICE)
            await self._listening.look(revoked=version != self._version)
            self._version = version
            if version != known and self._noticed is not None:
                self._noticed()
            self._heard = began
        except Unavailable:
            if (stale := self.stale()) is not None:
                self._listening.end_all(stale)

    def stale(self) -> Unavailable | None:
        """Why nothing may go through here just now: what was revoked meanwhile might not be known."""
        age = asyncio.get_running_loop().time() - self._heard
        if age <= self._max_staleness:
            return None
        return Unavailable(Code.VIEW_STALE, "this gateway does not know what was revoked of late")

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(SOON_S if self._listening.any else IDLE_S)


async def heard(bus: Bus) -> int:
    """What is known of revocations by now, to be given to `until_noticed`; -1 if nobody can say."""
    try:
        return await bus.version(NOTICE)
    except Unavailable:
        return -1


async def until_noticed(bus: Bus, known: int, longest_s: float) -> None:
    """Return as soon as something was revoked since `known` was heard, or after `longest_s`."""
    end = asyncio.get_running_loop().time() + longest_s
    while (left := end - asyncio.get_running_loop().time()) > 0 and await heard(bus) in (known, -1):
        await asyncio.sleep(min(IDLE_S, left))
