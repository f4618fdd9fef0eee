"""The care that an answer takes, held to here whatever a page says: shown first, for long enough, with a reason; and
what each ticket is, sealed before it is answered and opened after.

    opened:   the first time that a person is shown a ticket → its seal
    check:    a yes: 1. was it shown to this person   2. long enough ago   3. with words of their own   4. within budget
    decided:  what the ticket was is said, and the salt with it

Decides whether a yes was given with care; whose it is and what it covers are `voting`'s. A no is never held up.
INVARIANTS
1. No yes counts before `reading.dwell_ms` after this person was first shown the ticket as it is now.
2. A yes to a value that nobody entitled supplied has a reason of its own words.
3. In an hour nobody's yes counts more often than `per_hour`; the budget is taken in the transaction of the answer.
4. Every ticket that is opened is sealed, once, before anybody's answer counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.approvals.batch import Table
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.approvals.reading import accepted_from, lacks_reason
from citywatch.core.approvals.recorded import category_of, reading_of
from citywatch.core.approvals.seal import Kind, seal
from citywatch.core.approvals.showing import Document, document_digest
from citywatch.core.approvals.ticket import Ticket
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, Chance, Key, NewEntry, Spend
from citywatch.service.tickets import Tickets

HOUR_MS: Final = 3_600_000
SEAL: Final = "seal"
SPENT: Final = "answers\n"
WORDS_A_MINUTE: Final = 230
VALUE_MS: Final = 2_000
BASE_MS: Final = 6_000


class Sealed(msgspec.Struct, frozen=True):
    """What a ticket is; it stands in a row that nobody is shown until the ticket is decided."""

    kind: Kind
    category: str
    salt: str


class Care:
    """What approvers of one file owe the tickets of one store."""

    def __init__(self, tickets: Tickets, chance: Chance, *, people: Mapping[str, Person], approvals: Approvals) -> None:
        self._tickets = tickets
        self._chance = chance
        self._people = people
        self._approvals = approvals

    async def opened(self, ticket: Ticket, person: str, read: Document | Table, kind: Kind = Kind.CALL) -> None:
        """A person was shown a ticket, in what they read: seal it, if nobody was before, and enter that.

        # INVARIANT: 4.
        """
        key = seal_key(ticket.id)
        row = (await self._tickets.store.load((key,), ())).rows.get(key)
        sealed = Sealed(kind, category_of(ticket), self._chance.salt().hex())
        if row is not None:
            sealed = msgspec.json.decode(row.value, type=Sealed)
        words, values = reading_of(read)
        event = events.TicketSealed(
            at=self._tickets.now(),
            replica=self._tickets.replica,
            ticket=ticket.id,
            by=person,
            seal=seal(ticket.id, sealed.kind, sealed.category, bytes.fromhex(sealed.salt)),
            category=sealed.category,
            asked=ticket.asked,
            reading_ms=BASE_MS + 60_000 * words // WORDS_A_MINUTE + VALUE_MS * values,
        )
        await self._tickets.store.append(
            Append(
                entries=(NewEntry(encode_event(event)),),
                reads=((key, 0 if row is None else row.version),),
                puts=() if row is not None else ((key, msgspec.json.encode(sealed)),),
            )
        )

    async def check(self, ticket: Ticket, person: str, reason: str, document: Document) -> tuple[Spend, ...]:
        """What a yes by this person spends; raises `Malformed` where it was given without care."""
        if not self._approvals.unsafe_hasty:
            shown = await self._shown_at(ticket, person, document)
            if shown is None:
                told = "as it is now: `citywatch tickets show --by`"
                raise Malformed(f"`{person}` was not shown the ticket `{ticket.id}` {told}")
            self._check_time(shown, document, f"the ticket `{ticket.id}`")
        if lacks_reason(len(ticket.shown), reason):  # INVARIANT: 2
            raise Malformed("a value in it comes from nobody who may steer the act: say in words of your own why yes")
        return self._spends(person, 1)

    def check_set(self, person: str, count: int, table: Table, shown: int | None) -> tuple[Spend, ...]:
        """What a yes to so many at once spends, all of whom stand in the table that this person was shown then.

        Raises `Malformed` where it was given without care. A value that nobody entitled stands in no such table.
        """
        if not self._approvals.unsafe_hasty:
            if shown is None:
                raise Malformed(f"`{person}` was not shown these tickets as one set, as they are now: look at it first")
            self._check_time(shown, table, "the set")
        return self._spends(person, count)

    def waits_for_set_ms(self, table: Table, shown: int) -> int:
        """How long until a yes to a set counts that was shown then, for a page to say."""
        return 0 if self._approvals.unsafe_hasty else max(0, self._left_ms(shown, table))

    def _check_time(self, shown: int, read: Document | Table, what: str) -> None:
        left = self._left_ms(shown, read)
        if left > 0:  # INVARIANT: 1
            raise Malformed(f"read it first: a yes to {what} counts in {-(-left // 1000)} s")

    def _left_ms(self, shown: int, read: Document | Table) -> int:
        return accepted_from(shown, *reading_of(read)) - self._tickets.now()

    def _spends(self, person: str, count: int) -> tuple[Spend, ...]:
        """# INVARIANT: 3. One unit for each ticket."""
        window = self._tickets.now() // HOUR_MS
        return (Spend(f"{SPENT}{person}", window, self._people[person].per_hour),) * count

    async def waits_ms(self, ticket: Ticket, person: str, document: Document) -> int:
        """How long until a yes of this person counts, for a page to say; `check` holds them to it."""
        shown = await self._shown_at(ticket, person, document)
        return 0 if self._approvals.unsafe_hasty or shown is None else max(0, self._left_ms(shown, document))

    async def _shown_at(self, ticket: Ticket, person: str, document: Document) -> int | None:
        """# INVARIANT: 1. Whoever saw another document has not read this one."""
        return await self._tickets.shown_at(ticket.id, person, document_digest(document, ticket.salt))

    async def left(self, person: str) -> int:
        """How often a yes of this person still counts in this hour."""
        key = f"{SPENT}{person}"
        used = (await self._tickets.store.load((), ((key, self._tickets.now() // HOUR_MS),))).used
        return max(0, self._people[person].per_hour - used.get(key, 0))

    def overspent(self, person: str) -> Refused:
        """What somebody is told whose budget for this hour is spent."""
        most = self._people[person].per_hour
        return Refused(
            Code.CONFLICT, f"`{person}` says yes at most {most} times in this hour: leave it to somebody else"
        )

    async def decided(self, ticket: Ticket) -> None:
        """All who had to have answered: enter what the ticket was. Said once; again it changes nothing."""
        if (told := await unsealing(self._tickets, ticket.id)).entries:
            await self._tickets.store.append(told)


async def unsealing(tickets: Tickets, name: str) -> Append:
    """What is written to say what a ticket was; nothing if it was never sealed, or that is said."""
    key = seal_key(name)
    row = (await tickets.store.load((key,), ())).rows.get(key)
    if row is None:
        return Append()
    sealed = msgspec.json.decode(row.value, type=Sealed)
    event = events.TicketUnsealed(
        at=tickets.now(),
        replica=tickets.replica,
        ticket=name,
        kind=sealed.kind.value,
        category=sealed.category,
        salt=sealed.salt,
    )
    return Append(entries=(NewEntry(encode_event(event)),), reads=((key, row.version),), puts=((key, None),))


def seal_key(ticket: str) -> Key:
    return (SEAL, ticket)
