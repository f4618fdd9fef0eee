"""Tickets: calls that wait for a person, and the person's answers.

Decides that an answer is given once, in time, for exactly the call that was shown; whether the call then goes through
is asked again by `admit`. INVARIANTS: time-out is deny; an answer's entry and the rows it changes are one transaction;
what a principal has to answer is approved in no other name.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from citywatch.core import events
from citywatch.core.approvals.ticket import State, Ticket, ticket_id_key, ticket_key
from citywatch.core.enforce.approval import Answer, noted
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Row, Store


class Tickets:
    """The tickets of one store."""

    def __init__(self, *, store: Store, clock: Clock, replica: str) -> None:
        self._store = store
        self._clock = clock
        self._replica = replica

    async def pending(self) -> Sequence[Ticket]:
        """Those that wait for an answer and have not expired, the oldest first."""
        now = self._clock.now_ms()
        waiting = [ticket for _, _, ticket in await self._all() if ticket.state == "pending" and now < ticket.expires]
        return sorted(waiting, key=lambda ticket: ticket.asked)

    async def find(self, name: str) -> Ticket:
        """The ticket of that id; `Malformed` if there is none."""
        return (await self._find(name))[2]

    async def answer(
        self, name: str, approve: bool, by: str, reason: str, *, principal: str = "", hold_ms: int = 0
    ) -> Ticket:
        """Approve or deny. `by` is who types it, `principal` in whose name they speak, if in anybody's.

        An approval holds for the one call; with `hold_ms` also, for so long, for calls that differ in words alone. A
        denial holds for the same act on the same values until the ticket expires. Raises `Refused(CONFLICT)` if it was
        answered before or has expired, `Malformed` if only a principal may approve it.
        """
        likeness, row, ticket = await self._find(name)
        now = self._clock.now_ms()
        if ticket.state != "pending" or now >= ticket.expires:
            by_now = ticket.state if ticket.state != "pending" else "expired"
            raise Refused(Code.CONFLICT, f"the ticket `{name[:40]}` is {by_now}")
        if approve and ticket.of is not None and principal not in ticket.of:
            raise Malformed(_who(ticket))
        if approve and ticket.discloses and hold_ms:
            raise Malformed("what may not be seen is let out in the one call that is shown, and not for a while")
        answered = msgspec.structs.replace(
            ticket, state=State.APPROVED if approve else State.DENIED, by=by, reason=reason, principal=principal
        )
        event = events.TicketAnswered(
            at=now,
            replica=self._replica,
            ticket=ticket.id,
            call=ticket.call,
            agent=ticket.agent,
            answer=answered.state,
            by=by,
            reason=reason,
            principal=principal,
            until=now + hold_ms if approve and hold_ms else 0,
        )
        key = ticket_key(likeness)
        standing = await self._standing(answered, now + hold_ms if approve else ticket.expires, now)
        outcome = await self._store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, row.version), *standing.reads),
                puts=((key, msgspec.json.encode(answered)), *standing.puts),
                sync=True,
            )
        )
        if not isinstance(outcome, Appended):
            raise Refused(Code.CONFLICT, f"the ticket `{name[:40]}` was answered at the same moment")
        return answered

    async def _standing(self, answered: Ticket, until: int, now: int) -> Append:
        """What is read and written so that the answer holds for other calls too, where it does."""
        if until <= now or not answered.answer:
            return Append()
        key = ("answer", answered.answer)
        row = (await self._store.load((key,), ())).rows.get(key)
        before = None if row is None else msgspec.json.decode(row.value, type=Answer)
        answer = noted(
            before,
            Answer(
                state=answered.state,
                until=until,
                by=answered.by,
                ticket=answered.id,
                exact=answered.exact,
                shown=answered.shown,
                reason=answered.reason,
            ),
            now,
        )
        return Append(reads=((key, 0 if row is None else row.version),), puts=((key, msgspec.json.encode(answer)),))

    async def index(self) -> int:
        """Give tickets from before they were found by their id a row that names theirs; return how many."""
        put = 0
        for likeness, _, ticket in await self._all():
            key = ticket_id_key(ticket.id)
            if key not in (await self._store.load((key,), ())).rows:
                await self._store.append(Append(reads=((key, 0),), puts=((key, msgspec.json.encode(likeness)),)))
                put += 1
        return put

    async def _find(self, name: str) -> tuple[str, Row, Ticket]:
        found = await find_ticket(self._store, name)
        if found is None and await self.index():
            found = await find_ticket(self._store, name)
        if found is None:
            raise Malformed(f"there is no ticket `{name[:40]}`: `citywatch tickets list` shows those that wait")
        return found

    async def _all(self) -> list[tuple[str, Row, Ticket]]:
        rows = await self._store.scan("ticket")
        return [(likeness, row, msgspec.json.decode(row.value, type=Ticket)) for likeness, row in rows]


async def find_ticket(store: Store, name: str) -> tuple[str, Row, Ticket] | None:
    """The ticket of that id with its likeness and its row, if there is one; two rows are read, whatever there is."""
    where = ticket_id_key(name)
    named = (await store.load((where,), ())).rows.get(where)
    if named is None:
        return None
    likeness = msgspec.json.decode(named.value, type=str)
    row = (await store.load((ticket_key(likeness),), ())).rows.get(ticket_key(likeness))
    ticket = None if row is None else msgspec.json.decode(row.value, type=Ticket)
    if row is None or ticket is None or ticket.id != name:  # another call that is alike has asked since
        return None
    return likeness, row, ticket


def _who(ticket: Ticket) -> str:
    act = f"{ticket.server}/{ticket.tool}"
    if not ticket.of:
        return f"nobody: no principal may steer `{act}`"
    why = "who may see all that it could carry" if ticket.discloses else f"whose words may steer `{act}`"
    return f"only {' or '.join(f'`{name}`' for name in ticket.of)} may approve it: {why}"
