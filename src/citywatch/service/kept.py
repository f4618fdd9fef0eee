"""The questions of one store, kept between looks: what the log says has changed is read again, and nothing else.

    begun:    all that waits is folded once, and put in order
    followed: the tickets that entries have named since are read and folded; each takes its place
    ordered:  every place is found anew, now and then: what waits grows dearer with time, and shares shift

Decides nothing: `core.approvals.queue` orders. INVARIANTS
1. After `follow` it holds what the store holds: nothing that is over, and all that was asked; read again, nothing is
   counted twice.
2. It is what whoever begins anew finds. Only places may be those of the last ordering, and no older than a tenth of a
   millisecond for each question (`stale`).
3. Ordering holds nobody up: it is done in slices, and what changes meanwhile takes its place afterwards.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from citywatch.core.approvals.asked import Asked
from citywatch.core.approvals.flood import Strike
from citywatch.core.approvals.question import Flood, Standing
from citywatch.core.approvals.queue import Queue, Rank
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.service.tickets import MOST, Tickets

PAST: Final = 1_000
"""How many tickets that are over are looked back at: for who asked much, and for what was approved before."""
BATCH: Final = 1_000
SLICE: Final = 256
FEW: Final = 500
"""So many are ordered anew for each look."""
ABOUT: Final = b'"type":"ticket_'
MOVES: Final = frozenset(
    f"ticket_{one}" for one in ("asked", "signed", "answered", "used", "expired", "superseded", "escalated")
)
_ENDS: Final[dict[str, bool | None]] = {
    State.APPROVED.value: True,
    State.DENIED.value: False,
    State.EXPIRED.value: None,
    State.SUPERSEDED.value: None,
}
_ASKED, _SAID, _OVER = 0, 1, 2
_Step = tuple[int, int, str, str, bool | None]
"""When, which of the three, the ticket, who, and whether it was a yes (None: it expired)."""


class _Named(msgspec.Struct):
    """What of an entry about a ticket is read here."""

    type: str
    ticket: str


class Order:
    """Places as they were found at one instant: a sorted run for each act."""

    def __init__(self, at: int, rank: Callable[[Standing], Rank]) -> None:
        self.at = at
        self.rank = rank
        self.runs: dict[str, list[Rank]] = {}
        self.places: dict[str, tuple[str, Rank]] = {}

    def put(self, one: Standing) -> None:
        rank = self.rank(one)
        insort(self.runs.setdefault(one.asked.act, []), rank)
        self.places[one.asked.id] = (one.asked.act, rank)

    def take(self, name: str) -> None:
        act, rank = self.places.pop(name, ("", None))
        if rank is not None:
            run = self.runs[act]
            del run[bisect_left(run, rank)]


class Kept:
    """`queue` is the fold, `order` its order; `voted` says who has answered a ticket that waits, `escalated` when
    it was passed on."""

    def __init__(self, tickets: Tickets, queue: Callable[[int], Queue], asked: Callable[[Ticket], Asked]) -> None:
        self._tickets = tickets
        self._asked = asked
        self._new = queue
        self._decode = msgspec.json.Decoder(_Named).decode
        self._read: int | None = None
        self._since = 0
        self._named: set[str] = set()
        self._touched: set[str] = set()
        self._over: set[str] = set()
        self.voted: dict[str, tuple[str, ...]] = {}
        self.escalated: dict[str, int] = {}
        self.queue = queue(0)
        self.order = Order(0, self.queue.ranks(0))
        self.floods: tuple[Flood, ...] = ()
        self.strikes: list[Strike] = []
        self.ended = 0
        """How many were over since it was begun."""

    @property
    def begun(self) -> bool:
        return self._read is not None

    def fold(self, index: int, leaf: bytes) -> None:
        """The entry at that index, from whoever follows the log."""
        if index != self._read:
            return
        self._read += 1
        if ABOUT in leaf:
            one = self._decode(leaf)
            if one.type in MOVES:
                self._named.add(one.ticket)

    async def begin(self) -> None:
        """Fold all that waits, and what was over last."""
        read = await self._tickets.store.sync()  # first: what is entered from here on is looked at again
        self._since = self._tickets.now()
        steps: list[_Step] = []
        asks: dict[str, Asked] = {}
        after = ""
        while True:
            page = await self._tickets.page(after, MOST)
            self._note(page.tickets, steps, asks)
            after = page.after
            if not after:
                break
        self._note(await self._tickets.closed(PAST), steps, asks)
        self.queue = self._new(min((one.asked for one in asks.values()), default=0))
        self.ended = 0
        await self._run(steps, asks)
        self._read = read

    async def follow(self) -> None:
        """Take in what was entered since."""
        start = self._read
        while start is not None and (leaves := await self._tickets.store.entries(start, start + BATCH)):
            for index, leaf in enumerate(leaves, start):
                self.fold(index, leaf)
            start = self._read
        names, self._named = self._named, set()
        found = [one for name in names if (one := await self._tickets.known(name)) is not None]
        steps: list[_Step] = []
        asks: dict[str, Asked] = {}
        self._note(found, steps, asks)
        await self._run(steps, asks)
        self.queue.expire(self._tickets.now())
        self._touched |= names
        for name in names | self.queue.moved():
            self._place(name)

    @property
    def few(self) -> bool:
        """Whether finding every place anew costs nothing worth waiting for."""
        return len(self.queue.waiting()) <= FEW

    def stale(self) -> bool:
        """Whether places are to be found anew."""
        return self.few or self._tickets.now() - self.order.at >= len(self.queue.waiting()) // 10

    async def arrange(self) -> None:
        """Find every place anew. # INVARIANT: 3."""
        now = self._tickets.now()
        fresh, self._touched = Order(now, self.queue.ranks(now)), set()
        for number, one in enumerate(self.queue.waiting()):
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if self.queue.is_free(one, now):
                rank = fresh.rank(one)
                fresh.runs.setdefault(one.asked.act, []).append(rank)
                fresh.places[one.asked.id] = (one.asked.act, rank)
        for run in fresh.runs.values():
            for start in range(0, len(run), SLICE * 16):
                run[start : start + SLICE * 16] = sorted(run[start : start + SLICE * 16])
                await asyncio.sleep(0)
            run.sort()  # of runs in order: a merge
        self.order, touched = fresh, self._touched
        self.floods = self.queue.flooded(now)
        for name in touched:
            self._place(name)

    # -- the fold ------------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> None:
        self._touched.add(name)
        self.order.take(name)
        one = self.queue.standing(name)
        if one is not None and self.queue.is_free(one, self._tickets.now()):
            self.order.put(one)

    def _note(self, found: Iterable[Ticket], steps: list[_Step], asks: dict[str, Asked]) -> None:
        for ticket in found:
            for step in self._news(ticket):
                steps.append(step)
                if step[1] == _ASKED:
                    asks[ticket.id] = self._asked(ticket)

    def _news(self, ticket: Ticket) -> Iterator[_Step]:
        """What happened to a ticket that was not folded yet. # INVARIANT: 1."""
        name, over = ticket.id, ticket.state is not State.PENDING
        if name in self._over:
            return
        known = self.voted.get(name)
        if known is None:
            if over and self.begun and ticket.asked < self._since:  # it was over before there was anything to keep
                return
            yield ticket.asked, _ASKED, name, "", False
        yield from ((one.at, _SAID, name, one.person, one.yes) for one in ticket.votes[len(known or ()) :])
        self.voted[name] = tuple(one.person for one in ticket.votes)
        if ticket.escalated:
            self.escalated[name] = ticket.escalated
        if over:
            at, yes = _ended(ticket)
            yield at, _OVER, name, "", yes
            del self.voted[name]
            self.escalated.pop(name, None)
            self._over.add(name)
            self.ended += 1

    async def _run(self, steps: list[_Step], asks: dict[str, Asked]) -> None:
        for number, (at, what, name, who, yes) in enumerate(sorted(steps, key=lambda one: one[:4]), 1):
            if number % SLICE == 0:
                await asyncio.sleep(0)
            self.queue.expire(at)  # whoever looked before has seen it go
            if what == _ASKED:
                earned = self.queue.ask(asks[name])
                self.strikes += earned
                for strike in earned:
                    if strike.aside:
                        self.queue.drop(strike.who)
            elif what == _SAID:
                self.queue.answered(name, who, yes is True, at)
            else:
                self.queue.close(name, approved=yes)


def _ended(ticket: Ticket) -> tuple[int, bool | None]:
    """When a ticket ceased to wait, and whether by a yes; None: nobody answered it."""
    ends = [one for one in ticket.done if one.what in _ENDS]
    if ends:
        return ends[0].at, _ENDS[ends[0].what]
    return ticket.asked, _ENDS.get(ticket.state.value, True)  # of an earlier version, which kept no steps
