"""What the log says of approvers, kept up with as it grows; and what their yes weighs for that.

Decides nothing: `core.approvals.vigilance` folds. INVARIANTS: it is computed from committed entries alone, from the
first on, and only ever forward, each once, however many ask at the same time; a yes of somebody who does not see enough
weighs nothing, and a no is a no.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from citywatch.core.approvals.quorum import WHOLE
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.approvals.vigilance import Bar, Vigilance
from citywatch.core.errors import Malformed
from citywatch.core.events import Event
from citywatch.core.log.entry import decode_event
from citywatch.service.ports import Store

BATCH: Final = 1_000
ABOUT: Final = (b'"type":"ticket_', b'"type":"approval_reversed"')
"""What stands in the leaves that are about approvers; all others are passed over unread."""


class Watching:
    """The approvers of one store's log."""

    def __init__(self, store: Store, bar: Bar) -> None:
        self._store = store
        self._vigilance = Vigilance(bar)
        self._read = 0

    def fold(self, index: int, leaf: bytes) -> None:
        """The entry at that index, from whoever follows the log; what cannot be read, `now` says."""
        with suppress(Malformed):
            self._take(index, leaf)

    async def now(self) -> Vigilance:
        """What is known by now."""
        start = self._read
        while leaves := await self._store.entries(start, start + BATCH):
            for index, leaf in enumerate(leaves, start):
                self._take(index, leaf)
            start = self._read
        return self._vigilance

    def _take(self, index: int, leaf: bytes) -> None:
        if index != self._read:  # another has read it meanwhile
            return
        event = decode_event(leaf) if any(one in leaf for one in ABOUT) else None
        self._read += 1
        if isinstance(event, Event):
            self._vigilance.note(event)

    async def weigh(self, person: str, ticket: Ticket) -> int:
        """How much a person's yes counts for, in hundredths."""
        return WHOLE if (await self.now()).counts(person) else 0
