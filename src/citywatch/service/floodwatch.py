"""A flood of questions has consequences without anybody looking: each strike is an entry, and the last a quarantine.

Decides nothing: `core.approvals.flood` says who earned which strike, from the tickets alone. INVARIANTS
1. Each strike is entered once, whichever processes look: the row that was read is the row that is written.
2. Who is to be put aside is refused first, as any quarantine begins; whoever dies before that begins again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.flood import Strike
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, Key, NewEntry, Store
from citywatch.service.queueing import Queueing

FLOOD: Final = "flood"
REASON: Final = "it flooded people with questions"
Lay = Callable[[str, str], Awaitable[object]]
"""Put an agent (its name) aside, for a reason."""


class Struck(msgspec.Struct, frozen=True):
    """The last strike of somebody that was entered. `done`: what follows from it was done."""

    number: int
    until: int
    done: bool = True


class Floodwatch:
    """The floods of one store."""

    def __init__(self, queueing: Queueing, *, store: Store, clock: Clock, replica: str, lay: Lay) -> None:
        self._queueing = queueing
        self._store = store
        self._clock = clock
        self._replica = replica
        self._lay = lay

    async def sweep(self) -> tuple[Strike, ...]:
        """Enter the strikes that are not in the log yet, and put aside who earned it; those that were entered."""
        strikes = await self._queueing.strikes()
        return tuple([one for one in strikes if await self._enter(one)])

    async def _enter(self, strike: Strike) -> bool:
        key: Key = (FLOOD, f"{strike.kind}\n{strike.who}")
        row = (await self._store.load((key,), ())).rows.get(key)
        before = None if row is None else msgspec.json.decode(row.value, type=Struck)
        if before is not None and before.until >= strike.until and before.done:
            return False
        fresh = before is None or before.until < strike.until
        struck = Struck(strike.number, strike.until, not strike.aside)
        event = events.FloodStruck(
            at=self._clock.now_ms(),
            replica=self._replica,
            kind=strike.kind,
            who=strike.who,
            number=strike.number,
            until=strike.until,
            aside=strike.aside,
        )
        if fresh:
            put = Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, 0 if row is None else row.version),),
                puts=((key, msgspec.json.encode(struck)),),
                sync=True,
            )
            if not isinstance(await self._store.append(put), Appended):  # INVARIANT: 1
                return False
        if strike.aside:  # INVARIANT: 2
            await self._lay(strike.who.rpartition("/")[2], REASON)
            done = msgspec.structs.replace(struck, done=True)
            await self._store.append(Append(puts=((key, msgspec.json.encode(done)),)))
        return fresh
