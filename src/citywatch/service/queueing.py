"""The queue of one store: its tickets folded into an order, for whoever lists them.

Decides nothing: `core.approvals.queue` orders, `kept` keeps it up with the log, and `voting` says what an answer is
worth. INVARIANTS: what is listed waits (`Ticket.by_now`), by what the log held when the look began; a look costs what
it shows, however much waits; what a flood asked stands behind one line, and can still be answered by its id; what is
made up for a person stands in their list as if it had been asked, and in nobody else's.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from citywatch.core.approvals.answers import person_of
from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.flood import Allowance, Floods, Strike
from citywatch.core.approvals.load import Load
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.approvals.question import Flood, Line, Standing
from citywatch.core.approvals.queue import Queue, Rank
from citywatch.core.approvals.recorded import asked_of, reviewers_of
from citywatch.core.approvals.ticket import Ticket, Vote
from citywatch.core.errors import Unavailable
from citywatch.service.absences import Absences
from citywatch.service.canaries import Canaries
from citywatch.service.kept import PAST, Kept
from citywatch.service.tickets import Tickets

OPERATOR: Final = "operator"
OPERATOR_HOURLY: Final = 30
KEEP_S: Final = 0.25
ALL: Final = 1 << 62


class _Act(msgspec.Struct, frozen=True):
    """An act, as far as it says whom it reaches."""

    server: str
    tool: str
    authority: tuple[str, ...] = ()
    votes: tuple[Vote, ...] = ()
    escalated: int = 0


class Queued(msgspec.Struct, frozen=True):
    """A question with its ticket."""

    line: Line
    ticket: Ticket


class View(msgspec.Struct, frozen=True):
    """What waits, in its order, and what floods; `strikes` are those that the questions earned, the first one first.

    `total` is how many questions there are, if not all of them were asked for.
    """

    queued: tuple[Queued, ...]
    floods: tuple[Flood, ...]
    strikes: tuple[Strike, ...]
    total: int


class Queueing:
    """The queue of the tickets of one store. Give `fold` every leaf, in order, if you follow the log anyway."""

    def __init__(
        self,
        tickets: Tickets,
        people: Mapping[str, Person],
        approvals: Approvals,
        canaries: Canaries | None = None,
        absences: Absences | None = None,
    ) -> None:
        """`absences` say who is away (None: nobody ever is)."""
        self._tickets = tickets
        self._canaries = canaries
        self._people = people
        self._approvals = approvals
        self._absences = absences
        self._lock = asyncio.Lock()
        self._tended = False
        self._kept = self._anew()

    def fold(self, index: int, leaf: bytes) -> None:
        """The entry at that index."""
        self._kept.fold(index, leaf)

    async def keep(self) -> None:
        """Keep the order, for as long as this runs, so that whoever looks waits for none of it."""
        await self._fresh()
        self._tended = True
        try:
            while True:
                with suppress(Unavailable):
                    if self._kept.ended > PAST:
                        fresh = self._anew()
                        await fresh.begin()
                        await fresh.arrange()
                        self._kept = fresh
                    elif self._kept.stale():
                        await self._kept.arrange()
                await asyncio.sleep(KEEP_S)
        finally:
            self._tended = False

    async def look(self, person: str = "", count: int = ALL) -> View:
        """The queue as it is now, so much of it; for a person: what reaches them and they have not answered."""
        if person:
            person_of(self._people, person)
        kept, now, audience = await self._fresh(), self._tickets.now(), await self._there()
        acts = [act for act in kept.order.runs if not person or audience.places_of(_Act(*_parts(act)), person)]
        said = {name for name, voted in kept.voted.items() if person and person in voted}
        beside, behind = await self._made_up(kept, audience, person)
        runs = [kept.order.runs[act] for act in acts]
        total = sum(map(len, runs)) - sum(kept.order.places.get(one, ("",))[0] in acts for one in said) + len(beside)
        runs.append(_passed_on(kept, audience, person, {*acts, ""}, said))
        total += len(runs[-1])
        ranked = sorted((kept.order.rank(one), one) for one, _ in beside.values())
        found: list[Standing] = []
        for rank in heapq.merge(*runs, [rank for rank, _ in ranked]):
            if len(found) >= count:
                break
            made = beside.get(rank[-1])
            one = made[0] if made is not None else kept.queue.standing(rank[-1])
            if one is not None and rank[-1] not in said and kept.queue.is_free(one, now):
                found.append(one)
        tickets = await self._tickets.many([one.asked.id for one in found])
        tickets |= {name: ticket for name, (_, ticket) in beside.items()}
        queued = tuple(
            Queued(kept.queue.line(one, now, behind.get(one.asked.id, ())), tickets[one.asked.id])
            for one in found
            if one.asked.id in tickets
        )
        return View(queued, kept.floods, tuple(kept.strikes), total if count < ALL else len(queued))

    async def times(self) -> list[tuple[int, int, str]]:
        """Of each question that is not held back when it was asked, or passed on, when it ends, and its ticket; the
        oldest first."""
        kept, now = await self._fresh(), self._tickets.now()
        waiting = (one for one in kept.queue.waiting() if kept.queue.is_free(one, now))
        passed_on = kept.escalated
        return sorted(
            (max(one.asked.asked, passed_on.get(one.asked.id, 0)), one.asked.expires, one.asked.id) for one in waiting
        )

    async def strikes(self) -> tuple[Strike, ...]:
        """Those that the questions earned, the first one first."""
        return tuple((await self._fresh()).strikes)

    async def _fresh(self) -> Kept:
        """What is kept, as the log has it by now."""
        async with self._lock:
            kept, whole = self._kept, False
            try:
                if not kept.begun:
                    await kept.begin()
                elif kept.ended > PAST and not self._tended:
                    self._kept = kept = self._anew()
                    await kept.begin()
                await kept.follow()
                if kept.few or (not self._tended and kept.stale()):
                    await kept.arrange()
                whole = True
                return kept
            finally:
                if not whole:  # what was read halfway is read again
                    self._kept = self._anew()

    def _anew(self) -> Kept:
        return Kept(self._tickets, self._empty, self._asked)

    async def _made_up(
        self, kept: Kept, audience: Audience, person: str
    ) -> tuple[dict[str, tuple[Standing, Ticket]], dict[str, list[str]]]:
        """What is made up for this person: the questions that it would be, and what it would stand behind."""
        beside: dict[str, tuple[Standing, Ticket]] = {}
        behind: dict[str, list[str]] = {}
        for ticket in () if self._canaries is None or not person else await self._canaries.of(person):
            if not audience.places_of(ticket, person):
                continue
            one = kept.queue.beside(self._asked(ticket))
            if isinstance(one, str):
                behind.setdefault(one, []).append(ticket.id)
            elif kept.queue.is_free(one, self._tickets.now()):
                beside[ticket.id] = (one, ticket)
        return beside, behind

    async def _there(self) -> Audience:
        """Who may answer what, now."""
        away = {} if self._absences is None else await self._absences.now()
        return Audience(self._people, self._approvals, {name: one.deputy for name, one in away.items()})

    def _empty(self, begin: int) -> Queue:
        allowance = Allowance(per_agent=self._approvals.asks_per_agent, per_root=self._approvals.asks_per_root)
        queue = Queue(Floods(allowance), Load())
        for name, hourly in self._hourly():
            queue.load.comes(name, hourly, begin)
        return queue

    def _hourly(self) -> Iterator[tuple[str, int]]:
        if not self._people:
            yield OPERATOR, OPERATOR_HOURLY
        yield from ((one.name, one.per_hour) for one in self._people.values() if one.answers)

    def _asked(self, ticket: Ticket) -> Asked:
        quorum = self._approvals.quorum_of(ticket.server, ticket.tool)
        places = Audience(self._people, self._approvals).places(ticket)
        return asked_of(ticket, quorum, reviewers_of(self._approvals, quorum, len(places)))


def _passed_on(kept: Kept, audience: Audience, person: str, acts: Collection[str], said: Collection[str]) -> list[Rank]:
    """The places of those that were passed on to this person, of acts that reach them in no other way."""
    there = {name: kept.order.places[name] for name in kept.escalated if name in kept.order.places and name not in said}
    wider = {act for act, _ in there.values() if act not in acts}
    wider = {act for act in wider if audience.places_of(_Act(*_parts(act), escalated=1), person)}
    return sorted(rank for act, rank in there.values() if act in wider)


def _parts(act: str) -> tuple[str, str]:
    server, _, tool = act.partition("/")
    return server, tool
