"""The queue of one store: its tickets folded into an order, for whoever lists them.

Decides nothing: `core.approvals.queue` orders, and `voting` says what an answer is worth. It is made anew from the rows
for each look, so that any process gives the same order. INVARIANTS: what is listed waits (`Ticket.by_now`); what a
flood asked stands behind one line, and can still be answered by its id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from citywatch.core.approvals.answers import person_of
from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.audience import Audience
from citywatch.core.approvals.flood import Allowance, Floods, Strike
from citywatch.core.approvals.load import Load
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.approvals.question import Flood, Line
from citywatch.core.approvals.queue import Queue
from citywatch.core.approvals.recorded import asked_of, reviewers_of
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.service.absences import Absences
from citywatch.service.canaries import Canaries
from citywatch.service.tickets import Tickets

PAST: Final = 1_000
"""How many tickets that are over are looked back at: for who asked much, and for what was approved before."""
OPERATOR: Final = "operator"
OPERATOR_HOURLY: Final = 30
_ASKED, _SAID, _OVER = 0, 1, 2
_Step = tuple[int, int, str, str, bool]
"""When, which of the three, the ticket, who, and whether it was a yes."""


class Queued(msgspec.Struct, frozen=True):
    """A question with its ticket."""

    line: Line
    ticket: Ticket


class View(msgspec.Struct, frozen=True):
    """What waits, in its order, and what floods; `strikes` are those that the questions earned, the first one first."""

    queued: tuple[Queued, ...]
    floods: tuple[Flood, ...]
    strikes: tuple[Strike, ...]


class Queueing:
    """The queue of the tickets of one store."""

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
        self._audience = Audience(people, approvals)

    async def look(self, person: str = "") -> View:
        """The queue as it is now; for a person: what reaches them and they have not answered."""
        if person:
            person_of(self._people, person)
        now = self._tickets.now()
        if self._absences is not None:
            away = {name: one.deputy for name, one in (await self._absences.now()).items()}
            self._audience = Audience(self._people, self._approvals, away)
        pending = list(await self._tickets.pending())
        past = list(await self._tickets.closed(PAST))
        queue, strikes = self._folded(pending, past)
        queue.expire(now)
        made = () if self._canaries is None or not person else await self._canaries.of(person)
        by_id = {one.id: one for one in (*pending, *made)}
        lines = queue.lines(now, map(self._asked, made))
        queued = (Queued(one, by_id[one.ticket]) for one in lines if one.ticket in by_id)
        mine = [one for one in queued if not person or self._is_for(person, one.ticket)]
        return View(tuple(mine), queue.flooded(now), strikes)

    def _is_for(self, person: str, ticket: Ticket) -> bool:
        voted = any(one.person == person for one in ticket.votes)
        return not voted and bool(self._audience.places_of(ticket, person))

    def _folded(self, pending: Sequence[Ticket], past: Sequence[Ticket]) -> tuple[Queue, tuple[Strike, ...]]:
        allowance = Allowance(per_agent=self._approvals.asks_per_agent, per_root=self._approvals.asks_per_root)
        tickets = {one.id: one for one in (*past, *pending)}
        queue = Queue(Floods(allowance), Load())
        begin = min((one.asked for one in tickets.values()), default=0)
        for name, hourly in self._hourly():
            queue.load.comes(name, hourly, begin)
        strikes: list[Strike] = []
        for at, what, name, who, yes in sorted(step for one in tickets.values() for step in _steps(one)):
            ticket = tickets[name]
            if what == _ASKED:
                earned = queue.ask(self._asked(ticket))
                strikes += earned
                for strike in earned:
                    if strike.aside:
                        queue.drop(strike.who)
            elif what == _SAID:
                queue.answered(name, who, yes, at)
            else:
                queue.close(name, approved=yes if ticket.state is not State.EXPIRED else None)
        return queue, tuple(strikes)

    def _hourly(self) -> Iterator[tuple[str, int]]:
        if not self._people:
            yield OPERATOR, OPERATOR_HOURLY
        yield from ((one.name, one.per_hour) for one in self._people.values() if one.answers)

    def _asked(self, ticket: Ticket) -> Asked:
        quorum = self._approvals.quorum_of(ticket.server, ticket.tool)
        return asked_of(ticket, quorum, reviewers_of(self._approvals, quorum, len(self._audience.places(ticket))))


def _steps(ticket: Ticket) -> Iterator[_Step]:
    yield ticket.asked, _ASKED, ticket.id, "", False
    yield from ((one.at, _SAID, ticket.id, one.person, one.yes) for one in ticket.votes)
    if ticket.state is not State.PENDING:
        over = max((one.at for one in ticket.done), default=ticket.asked)
        yield over, _OVER, ticket.id, "", ticket.state in (State.APPROVED, State.USED)
