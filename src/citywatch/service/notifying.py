"""People are told that something waits, over each channel by itself.

Decides when a notice is due and how often a channel is tried. INVARIANTS
1. One notice for all that came, or was passed on, since the last that was taken: a flood of tickets is no flood of
   notices, and what is held back (`flood`) is in none.
2. A channel that is down is tried again after one, two, four … minutes, at most `TRIES` times for one notice, and its
   trouble is told to the operator; the others go on.
3. What was told is kept in a row: a restart tells nobody twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core.approvals.notice import Notice, ticket_link
from citywatch.core.errors import CitywatchError
from citywatch.service.alarm import Alarm
from citywatch.service.ports import Append, Chance, Clock, Key, Notifier, Store
from citywatch.service.queueing import Queueing

TRIES: Final = 6
FIRST_MS: Final = 60_000


class Told(msgspec.Struct, frozen=True):
    """Of what a channel was told, by when it was asked; `tried` how often the next notice was, `after` from when on it
    may be again."""

    asked: int = 0
    tried: int = 0
    after: int = 0


class Channel(msgspec.Struct, frozen=True):
    """Where notices go, the page that they link to, and what rings while they cannot.

    `console` is where browsers reach the console, if a notice of one ticket is to lead to that one.
    """

    notifier: Notifier
    link: str
    alarm: Alarm
    console: str = ""


class Notifying:
    """The notices of one store."""

    def __init__(
        self, queueing: Queueing, channels: Mapping[str, Channel], *, store: Store, clock: Clock, chance: Chance
    ) -> None:
        self._queueing = queueing
        self._channels = channels
        self._store = store
        self._clock = clock
        self._chance = chance

    async def look(self) -> None:
        """Send what is due."""
        if not self._channels:
            return
        asked = await self._queueing.times()  # INVARIANT: 1
        for name, channel in self._channels.items():
            await self._tell(name, channel, asked)

    async def _tell(self, name: str, channel: Channel, asked: list[tuple[int, int, str]]) -> None:
        key: Key = ("told", name)
        row = (await self._store.load((key,), ())).rows.get(key)
        told, now = Told() if row is None else msgspec.json.decode(row.value, type=Told), self._clock.now_ms()
        fresh = [one for one in asked if one[0] > told.asked]
        if not fresh or now < told.after:
            return
        after = Told(asked=fresh[-1][0])
        try:
            await channel.notifier.send(
                Notice(
                    id=self._chance.salt().hex(),
                    at=now,
                    waiting=len(asked),
                    fresh=len(fresh),
                    expires=min(expires for _, expires, _ in asked),
                    link=(ticket_link(channel.console, fresh[0][2]) if len(fresh) == 1 else "") or channel.link,
                )
            )
            channel.alarm.rest()
        except CitywatchError as failure:
            channel.alarm.ring(str(failure))
            tried = told.tried + 1
            if tried < TRIES:  # INVARIANT: 2
                after = msgspec.structs.replace(told, tried=tried, after=now + (FIRST_MS << (tried - 1)))
        reads = ((key, 0 if row is None else row.version),)
        await self._store.append(Append(reads=reads, puts=((key, msgspec.json.encode(after)),)))  # INVARIANT: 3
