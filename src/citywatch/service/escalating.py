"""What waits too long goes to those whom the file names next (`approvals.escalate_to`), beside those who had it.

Decides which tickets have waited long enough; whom they reach then is `core.approvals.audience`'s. INVARIANTS
1. A ticket is passed on once, in the transaction of its entry, and only while it waits; it needs as many yes as before.
2. Nobody answers as one of the next before the log says that it was passed on to them.
3. What it costs to look does not grow with what was passed on before; what could not be written is looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from citywatch.core import events
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.approvals.ticket import OPEN, Done, State, Ticket, rows_of, ticket_key
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, NewEntry
from citywatch.service.tickets import PAGE, Tickets


class Escalating:
    """The tickets of one store that nobody answers."""

    def __init__(self, tickets: Tickets, people: Mapping[str, Person], approvals: Approvals) -> None:
        self._tickets = tickets
        self._audience = Audience(people, approvals)
        self._after_ms = approvals.escalate_after_ms
        self._seen = ""

    async def sweep(self) -> int:
        """Pass on what has waited long enough; return how many tickets that were. # INVARIANT: 3."""
        passed, now = 0, self._tickets.now()
        while self._after_ms:
            rows = await self._tickets.store.page(OPEN, self._seen, PAGE)
            for id_, row in rows:
                asked, _, name = id_.partition("\n")
                if now - int(asked) < self._after_ms:
                    return passed
                done = await self._pass_on(msgspec.json.decode(row.value, type=str), name, now)
                if done is None:
                    return passed
                passed, self._seen = passed + done, id_
            if len(rows) < PAGE:
                break
        return passed

    async def _pass_on(self, likeness: str, name: str, now: int) -> bool | None:
        """Whether the ticket was passed on; None if somebody else changed it at the same moment."""
        key = ticket_key(likeness)
        row = (await self._tickets.store.load((key,), ())).rows.get(key)
        ticket = None if row is None else msgspec.json.decode(row.value, type=Ticket)
        if row is None or ticket is None or ticket.id != name:
            return False
        after = msgspec.structs.replace(ticket, escalated=now)
        to = sorted(set(self._audience.places(after)) - set(self._audience.places(ticket)))
        if ticket.by_now(now) is not State.PENDING or not to:  # INVARIANT: 1. Once it was, it adds nobody.
            return False
        after = msgspec.structs.replace(after, done=(*ticket.done, Done(now, "passed on to", ", ".join(to))))
        event = events.TicketEscalated(at=now, replica=self._tickets.replica, ticket=name, to=tuple(to))
        outcome = await self._tickets.store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, row.version),),
                puts=rows_of(after, likeness, ticket, now),
                sync=True,
            )
        )
        return True if isinstance(outcome, Appended) else None
