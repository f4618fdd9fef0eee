"""When people were asked, and what they said, hour by hour: a fold, for the picture of their load.

Decides nothing. INVARIANT: bounded; what is past the bound is in the log.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

from citywatch.core import events
from citywatch.core.approvals.statement import APPROVE
from citywatch.core.errors import Malformed
from citywatch.core.log.entry import decode_event

HOUR_MS: Final = 3_600_000
HOURS: Final = 48
KEPT: Final = 100_000
_ANSWERS: Final = (b'"type":"ticket_signed"', b'"type":"ticket_answered"', b'"type":"ticket_asked"')


class Hours:
    """Give `fold` every leaf, in order."""

    def __init__(self) -> None:
        self.said: deque[tuple[int, str]] = deque(maxlen=KEPT)
        self._signed: deque[str] = deque(maxlen=KEPT // 100)

    def fold(self, _: int, leaf: bytes) -> None:
        if not any(mark in leaf for mark in _ANSWERS):
            return
        try:
            event = decode_event(leaf)
        except Malformed:
            return
        if isinstance(event, events.TicketAsked):
            self.said.append((event.at, "asked"))
        elif isinstance(event, events.TicketSigned):
            self._signed.append(event.ticket)
            self.said.append((event.at, "approved" if event.answer == APPROVE else "denied"))
        elif isinstance(event, events.TicketAnswered) and event.ticket not in self._signed:
            self.said.append((event.at, event.answer))

    def series(self, now: int) -> dict[str, list[int]]:
        """By hour, the last one last: how often was asked, approved, denied."""
        first = now // HOUR_MS - HOURS + 1
        counts = Counter((at // HOUR_MS, what) for at, what in self.said if at // HOUR_MS >= first)
        hours = range(first, first + HOURS)
        found = {what: [counts[hour, what] for hour in hours] for what in ("asked", "approved", "denied")}
        return {"hours": [hour * 3_600 for hour in hours], **found}
