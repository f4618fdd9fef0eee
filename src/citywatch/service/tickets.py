"""Tickets: calls that wait for a person, and the person's answers.

    page, waiting, closed, found    what there is: bounded reads, whatever waits
    answer                          the operator's answer, where the file names no people
    expire                          what nobody answered, or used, in time is over, and the log says so
    (people answer through `voting.Voting`, agents wait through `waiting.Waiting`)

Decides that an answer is given once, in time, for exactly the call that was shown; whether the call then goes through
is asked again by `admit`. INVARIANTS: time-out is deny; an answer's entry and the rows it changes are one transaction;
what a principal has to answer is approved in no other name; what a list costs does not grow with what waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.standing import yes_of
from citywatch.core.approvals.ticket import (
    CLOSED,
    DUE,
    OPEN,
    Done,
    Key,
    State,
    Step,
    Ticket,
    check_hold,
    due_key,
    open_key,
    past_key,
    rows_of,
    stepped,
    ticket_id_key,
    ticket_key,
)
from citywatch.core.enforce.approval import Answer, noted
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Appended, Clock, NewEntry, Puts, Row, Store

PAGE: Final = 50
CALLED_OFF: Final = "the agent that asked took it back"
MOST: Final = 1_000
"""Tickets that one page holds at most."""


class Found(msgspec.Struct, frozen=True):
    """A ticket with the row that it lies in, which whoever changes it has to have read."""

    likeness: str
    key: Key
    row: Row
    ticket: Ticket


class Page(msgspec.Struct, frozen=True):
    """Some tickets; `after` is what to ask for to get those that follow, empty if there are no more."""

    tickets: tuple[Ticket, ...]
    after: str


class Tickets:
    """The tickets of one store."""

    def __init__(self, *, store: Store, clock: Clock, replica: str, named: bool) -> None:
        """`named`: the file names people, and so only they answer (`voting`)."""
        self.store = store
        self._named = named
        self.replica = replica
        self._clock = clock

    def now(self) -> int:
        """Milliseconds since 1970."""
        return self._clock.now_ms()

    # -- what there is -------------------------------------------------------------------------------------------------

    async def page(self, after: str = "", count: int = PAGE) -> Page:
        """Those that wait, the oldest first; `after` is empty, or what the page before this one said.

        Those that have expired and were not swept yet (`expire`) are left out, so a page may hold fewer than `count`.
        """
        rows = await self.store.page(OPEN, after, min(max(1, count), MOST))
        likenesses = [msgspec.json.decode(row.value, type=str) for _, row in rows]
        names = [id_.partition("\n")[2] for id_, _ in rows]
        found = await self._by_likeness(likenesses, names)
        waiting = tuple(one for one in found if one.by_now(self.now()) is State.PENDING)
        return Page(waiting, rows[-1][0] if len(rows) == count else "")

    async def waiting(self) -> int:
        """How many wait, those among them that expired and were not swept yet."""
        return await self.store.count(OPEN)

    async def closed(self, count: int = PAGE) -> Sequence[Ticket]:
        """Those that were answered or are over, the last one first."""
        rows = await self.store.last(CLOSED, "", min(max(1, count), MOST))
        names = [msgspec.json.decode(row.value, type=str) for _, row in rows]
        found = [await find_ticket(self.store, name) or await find_past(self.store, name) for name in names]
        return [one.ticket for one in found if one is not None]

    async def pending(self) -> Sequence[Ticket]:
        """Those that wait for an answer and have not expired, the oldest first: all of them, page by page."""
        found: list[Ticket] = []
        page = await self.page(count=MOST)
        found += page.tickets
        while page.after:
            page = await self.page(page.after, MOST)
            found += page.tickets
        return found

    async def find(self, name: str) -> Ticket:
        """The ticket of that id; `Malformed` if there is none."""
        return (await self.found(name)).ticket

    async def found(self, name: str) -> Found:
        """The same with its row, for whoever changes it."""
        found = await find_ticket(self.store, name) or await find_past(self.store, name)
        if found is None and await self.index():
            found = await find_ticket(self.store, name)
        if found is None:
            raise Malformed(f"there is no ticket `{name[:40]}`: `citywatch tickets list` shows those that wait")
        return found

    async def known(self, name: str) -> Ticket | None:
        """The same, or None where there is none of that id."""
        found = await find_ticket(self.store, name) or await find_past(self.store, name)
        return None if found is None else found.ticket

    async def many(self, names: Sequence[str]) -> dict[str, Ticket]:
        """Those of these ids that are the latest of their like, by id."""
        found: dict[str, Ticket] = {}
        for start in range(0, len(names), MOST):
            some = names[start : start + MOST]
            keys = [ticket_id_key(one) for one in some]
            rows = (await self.store.load(keys, ())).rows
            here = [one for one, key in zip(some, keys, strict=True) if key in rows]
            likenesses = [msgspec.json.decode(rows[ticket_id_key(one)].value, type=str) for one in here]
            found |= {one.id: one for one in await self._by_likeness(likenesses, here)}
        return found

    async def _by_likeness(self, likenesses: Sequence[str], names: Sequence[str]) -> list[Ticket]:
        keys = [ticket_key(one) for one in likenesses]
        rows = (await self.store.load(keys, ())).rows
        found = [msgspec.json.decode(rows[key].value, type=Ticket) if key in rows else None for key in keys]
        return [one for one, name in zip(found, names, strict=True) if one is not None and one.id == name]

    # -- the operator answers ------------------------------------------------------------------------------------------

    async def answer(
        self, name: str, approve: bool, by: str, reason: str, *, principal: str = "", hold_ms: int = 0
    ) -> Ticket:
        """Approve or deny. `by` is who types it, `principal` in whose name they speak, if in anybody's.

        An approval holds for the one call; with `hold_ms` also, for so long, for calls that differ in words alone. A
        denial holds for the same act on the same values until the ticket expires. Raises `Refused(CONFLICT)` if it was
        answered before or has expired, `Malformed` if only a principal may approve it.
        """
        if self._named:
            raise Refused(Code.NO_PERMIT, "the file names people: they answer, and nobody else does")
        found = await self.found(name)
        ticket, now = found.ticket, self.now()
        if ticket.state is not State.PENDING or now >= ticket.expires:
            raise Refused(Code.CONFLICT, f"the ticket `{name[:40]}` is {ticket.by_now(now).value}")
        if approve and ticket.of is not None and principal not in ticket.of:
            raise Malformed(_who(ticket))
        if approve:
            check_hold(ticket, hold_ms)
        answered = msgspec.structs.replace(
            stepped(ticket, Step.APPROVE if approve else Step.DENY, now),
            by=by,
            reason=reason,
            principal=principal,
            done=(*ticket.done, Done(now, "approved" if approve else "denied", by)),
        )
        event = answered_event(answered, now, self.replica, hold_ms if approve else 0)
        also = await standing(self.store, answered, now + hold_ms if approve else ticket.expires, now)
        outcome = await self.store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((found.key, found.row.version), *also.reads),
                puts=(*rows_of(answered, found.likeness, ticket, now), *also.puts),
                sync=True,
            )
        )
        if not isinstance(outcome, Appended):
            raise Refused(Code.CONFLICT, f"the ticket `{name[:40]}` was answered at the same moment")
        return answered

    # -- the agent leaves it -------------------------------------------------------------------------------------------

    async def call_off(self, name: str) -> Ticket:
        """Ask nobody any more, and let nothing through by it, because the agent that asked wants neither; whose ticket
        it is, the caller has found out. Raises `Refused(CONFLICT)` if it is over, or changed at the same moment."""
        found = await self.found(name)
        ticket, now = found.ticket, self.now()
        if ticket.by_now(now) not in (State.PENDING, State.APPROVED):
            raise Refused(Code.CONFLICT, f"the ticket `{name[:40]}` is {ticket.by_now(now).value}")
        done = Done(now, State.SUPERSEDED.value, CALLED_OFF)
        left = msgspec.structs.replace(stepped(ticket, Step.SUPERSEDE, now), done=(*ticket.done, done))
        event = events.TicketSuperseded(at=now, replica=self.replica, ticket=ticket.id, next="", why=CALLED_OFF)
        outcome = await self.store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((found.key, found.row.version),),
                puts=rows_of(left, found.likeness, ticket, now),
                sync=True,
            )
        )
        if not isinstance(outcome, Appended):
            raise Refused(Code.CONFLICT, f"the ticket `{name[:40]}` changed at the same moment")
        return left

    # -- what time does ------------------------------------------------------------------------------------------------

    async def note_shown(self, ticket: Ticket, person: str, document: str) -> None:
        """Enter that this person was shown the ticket; once for each, and again for another document."""
        key, now = ("ticket_shown", f"{ticket.id}\n{person}"), self.now()
        row = (await self.store.load((key,), ())).rows.get(key)
        if row is not None and msgspec.json.decode(row.value, type=Seen).document == document:
            return
        event = events.TicketShown(at=now, replica=self.replica, ticket=ticket.id, by=person, document=document)
        seen = msgspec.json.encode(Seen(now, document))
        reads = ((key, 0 if row is None else row.version),)
        await self.store.append(Append(entries=(NewEntry(encode_event(event)),), reads=reads, puts=((key, seen),)))

    async def shown_at(self, ticket: str, person: str, document: str = "") -> int | None:
        """When this person was first shown the ticket as they saw it last; None if they never were, or were not shown
        the document of that digest."""
        key = ("ticket_shown", f"{ticket}\n{person}")
        row = (await self.store.load((key,), ())).rows.get(key)
        seen = None if row is None else msgspec.json.decode(row.value, type=Seen)
        return None if seen is None or document not in ("", seen.document) else seen.at

    async def expire(self, count: int = PAGE) -> int:
        """Enter of at most so many tickets whose time is over that it is; return how many those were.

        Whether it is entered changes nothing: what is late counts for nothing by itself (`Ticket.by_now`).
        """
        now, ended = self.now(), 0
        for id_, row in await self.store.page(DUE, "", count):
            due, _, name = id_.partition("\n")
            if int(due) > now:
                break
            ended += await self._end(msgspec.json.decode(row.value, type=str), name, (DUE, id_), now)
        return ended

    async def _end(self, likeness: str, name: str, due: Key, now: int) -> int:
        key = ticket_key(likeness)
        row = (await self.store.load((key,), ())).rows.get(key)
        ticket = None if row is None else msgspec.json.decode(row.value, type=Ticket)
        if row is None or ticket is None or ticket.id != name or ticket.by_now(now) is not State.EXPIRED:
            await self.store.append(Append(puts=((due, None),)))
            return 0
        if ticket.state is State.EXPIRED:
            await self.store.append(Append(puts=((due, None),)))
            return 0
        event = events.TicketExpired(at=now, replica=self.replica, ticket=name, state=ticket.state.value)
        over = msgspec.structs.replace(
            stepped(ticket, Step.EXPIRE, now), done=(*ticket.done, Done(now, State.EXPIRED.value))
        )
        outcome = await self.store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, row.version),),
                puts=rows_of(over, likeness, ticket, now),
            )
        )
        return int(isinstance(outcome, Appended))

    async def index(self) -> int:
        """Give tickets of earlier versions the rows by which they are found and listed; return how many got some."""
        put = 0
        for likeness, row in await self.store.scan("ticket"):
            ticket = msgspec.json.decode(row.value, type=Ticket)
            named = msgspec.json.encode(likeness)
            wanted = [ticket_id_key(ticket.id)]
            if ticket.state is State.PENDING:
                wanted += [open_key(ticket), due_key(ticket)]
            rows = (await self.store.load(wanted, ())).rows
            missing = [key for key in wanted if key not in rows]
            if missing:
                reads = ((ticket_key(likeness), row.version), *((key, 0) for key in missing))
                await self.store.append(Append(reads=reads, puts=tuple((key, named) for key in missing)))
                put += 1
        return put


class Seen(msgspec.Struct, frozen=True):
    """When somebody was first shown a ticket, and what."""

    at: int
    document: str


def answered_event(ticket: Ticket, now: int, replica: str, hold_ms: int) -> events.TicketAnswered:
    """The entry of a ticket that was answered just now; a yes holds so long for calls that are alike (0: not)."""
    return events.TicketAnswered(
        at=now,
        replica=replica,
        ticket=ticket.id,
        call=ticket.call,
        agent=ticket.agent,
        answer=ticket.state.value,
        by=ticket.by,
        reason=ticket.reason,
        principal=ticket.principal,
        until=now + hold_ms if hold_ms else 0,
    )


async def standing(store: Store, answered: Ticket, until: int, now: int, earlier: Puts = ()) -> Append:
    """What is read and written so that the answer holds for other calls too, where it does.

    `earlier` is what other answers write in the same transaction.
    """
    if until <= now or not answered.answer:
        return Append()
    key = ("answer", answered.answer)
    row = (await store.load((key,), ())).rows.get(key)
    value = dict(earlier).get(key, None if row is None else row.value)
    before = None if value is None else msgspec.json.decode(value, type=Answer)
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
            yes=yes_of(answered) if answered.votes and answered.state is State.APPROVED else None,
        ),
        now,
    )
    return Append(reads=((key, 0 if row is None else row.version),), puts=((key, msgspec.json.encode(answer)),))


async def find_ticket(store: Store, name: str) -> Found | None:
    """The ticket of that id, if there is one; two rows are read, whatever there is."""
    where = ticket_id_key(name)
    named = (await store.load((where,), ())).rows.get(where)
    if named is None:
        return None
    likeness = msgspec.json.decode(named.value, type=str)
    key = ticket_key(likeness)
    row = (await store.load((key,), ())).rows.get(key)
    ticket = None if row is None else msgspec.json.decode(row.value, type=Ticket)
    if row is None or ticket is None or ticket.id != name:  # another call that is alike has asked since
        return None
    return Found(likeness, key, row, ticket)


async def find_past(store: Store, name: str) -> Found | None:
    """One that another took the place of: people can look at it, and it is over."""
    key = past_key(name)
    row = (await store.load((key,), ())).rows.get(key)
    return None if row is None else Found("", key, row, msgspec.json.decode(row.value, type=Ticket))


def _who(ticket: Ticket) -> str:
    act = f"{ticket.server}/{ticket.tool}"
    if not ticket.of:
        return f"nobody: no principal may steer `{act}`"
    why = "who may see all that it could carry" if ticket.discloses else f"whose words may steer `{act}`"
    return f"only {' or '.join(f'`{name}`' for name in ticket.of)} may approve it: {why}"
