"""What the log says of approvers, kept up with as it grows; and what their yes weighs for that.

Decides nothing: `core.approvals.vigilance` folds. INVARIANTS: it is computed from committed entries alone, from the
first on, and only ever forward; a yes of somebody who does not see enough weighs nothing, and a no is a no.
"""

from __future__ import annotations

from typing import Final

from citywatch.core.approvals.quorum import WHOLE
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.approvals.vigilance import Bar, Vigilance
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

    async def now(self) -> Vigilance:
        """What is known by now."""
        while leaves := await self._store.entries(self._read, self._read + BATCH):
            for leaf in leaves:
                event = decode_event(leaf) if any(one in leaf for one in ABOUT) else None
                if isinstance(event, Event):
                    self._vigilance.note(event)
            self._read += len(leaves)
        return self._vigilance

    async def weigh(self, person: str, ticket: Ticket) -> int:
        """How much a person's yes counts for, in hundredths."""
        return WHOLE if (await self.now()).counts(person) else 0
