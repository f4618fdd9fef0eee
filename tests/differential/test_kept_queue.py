"""The queue that is kept between looks against one that is begun anew for each, whatever happens to tickets."""

from __future__ import annotations

import asyncio
from random import Random

import msgspec
import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core import events
from citywatch.core.approvals.people import Approvals, Duty, Person
from citywatch.core.approvals.ticket import (
    Done,
    State,
    Step,
    Ticket,
    Vote,
    closed_key,
    due_key,
    open_key,
    past_key,
    rows_of,
    stepped,
    ticket_id_key,
)
from citywatch.core.call import Bound
from citywatch.core.log.entry import encode_event
from citywatch.service import kept, queueing
from citywatch.service.kept import Kept
from citywatch.service.ports import Append, NewEntry, Puts
from citywatch.service.queueing import Queueing
from citywatch.service.tickets import Tickets
from tests.unit.core.approvals.watched import MINUTE, answered, decided, expired

PEOPLE = {
    "anna": Person(name="anna", roles=(Duty.APPROVER,), answers=("*",)),
    "ben": Person(name="ben", roles=(Duty.APPROVER,), answers=("bank/*",)),
}
APPROVALS = Approvals(asks_per_agent=4, asks_per_root=9)
HOUR = 60 * MINUTE


class Clock:
    now = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.now


class Town:
    """Tickets that are opened, answered and over, as rows and entries; and a queue that is kept of them."""

    def __init__(self, chance: Random, approvals: Approvals = APPROVALS) -> None:
        self.approvals = approvals
        self.chance, self.clock, self.store = chance, Clock(), MemoryStore()
        self.tickets = Tickets(store=self.store, clock=self.clock, replica="r", named=True)
        self.kept = self.anew()
        self.waits: dict[str, Ticket] = {}
        self.yes: dict[str, Ticket] = {}
        self.number = 0

    def anew(self) -> Queueing:
        return Queueing(self.tickets, PEOPLE, self.approvals)

    async def happens(self) -> None:
        draw = self.chance.random()
        self.clock.now += self.chance.choice((1, 1_000, 20_000, MINUTE, 7 * MINUTE, 20 * MINUTE))
        await self.sweep()
        if draw < 0.55 or not self.waits:
            await self.ask()
        elif draw < 0.65:
            await self.vote()
        elif draw < 0.80:
            await self.decide()
        elif draw < 0.88:
            await self.supersede()
        else:
            await self.use()

    async def ask(self) -> Ticket:
        chance, at = self.chance, self.clock.now
        self.number += 1
        agent, tool = f"spiffe://t.example/agent/{chance.choice('abc')}", chance.choice(("pay", "mail"))
        server = chance.choice(("bank", "post"))
        bound = Bound(
            agent=agent, server=server, tool=tool, effect=chance.choice(("write", "irreversible")), pin="p",
            arguments="a", names=(("to", "destination", chance.choice("xyz")),), labels=(), chain=(), policies=(),
            code="", task="",
        )  # fmt: skip
        name = f"{chance.getrandbits(48):012x}"
        ticket = Ticket(
            id=name, agent=agent, server=server, tool=tool, state=State.PENDING, asked=at, bound=bound, call=f"{name}0",
            expires=at + chance.choice((MINUTE, HOUR, 30 * HOUR)), why="", authority=(chance.choice(("al", "bo")),),
            done=(Done(at, "asked"),),
        )  # fmt: skip
        event = events.TicketAsked(
            at=at, replica="r", ticket=name, call=ticket.call, agent=agent, server=server, tool=tool, digest="d",
            expires=ticket.expires,
        )  # fmt: skip
        await self.write(rows_of(ticket, f"like {self.number}", None, at), event)
        self.waits[f"like {self.number}"] = ticket
        return ticket

    async def vote(self) -> None:
        like, ticket = self.some(self.waits)
        who = self.chance.choice([*PEOPLE])
        if any(one.person == who for one in ticket.votes) or ticket.by_now(self.clock.now) is not State.PENDING:
            return
        yes = self.chance.random() < 0.5
        voted = msgspec.structs.replace(ticket, votes=(*ticket.votes, Vote(person=who, yes=yes, at=self.clock.now)))
        await self.write(rows_of(voted, like, ticket, self.clock.now), answered(who, ticket.id, yes, self.clock.now))
        self.waits[like] = voted

    async def decide(self) -> None:
        like, ticket = self.some(self.waits)
        if ticket.by_now(self.clock.now) is not State.PENDING:
            return
        step = self.chance.choice((Step.APPROVE, Step.DENY))
        await self.steps(like, ticket, step, decided("anna", ticket.id, step is Step.APPROVE, self.clock.now))

    async def sweep(self) -> None:
        """What was to expire by now, does."""
        at = self.clock.now
        for like, one in [*self.waits.items()]:
            if one.by_now(at) is State.EXPIRED:
                await self.steps(like, one, Step.EXPIRE, expired(one.id, at))

    async def use(self) -> None:
        like, ticket = self.some(self.yes) if self.yes else ("", None)
        if ticket is not None and ticket.by_now(self.clock.now) is State.APPROVED:
            used = events.TicketUsed(at=self.clock.now, replica="r", ticket=ticket.id, call="c", digest="d")
            await self.steps(like, ticket, Step.USE, used)

    async def supersede(self) -> None:
        like, old = self.some(self.waits)
        at = self.clock.now
        if old.by_now(at) is not State.PENDING:
            return
        gone = msgspec.structs.replace(old, state=State.SUPERSEDED, done=(*old.done, Done(at, "superseded")))
        puts = (
            (past_key(old.id), msgspec.json.encode(gone)), (ticket_id_key(old.id), None), (open_key(old), None),
            (due_key(old), None), (closed_key(old, at), msgspec.json.encode(old.id)),
        )  # fmt: skip
        event = events.TicketSuperseded(at=at, replica="r", ticket=old.id, next="n", why="w")
        await self.write(puts, event)
        del self.waits[like]

    async def steps(self, like: str, ticket: Ticket, step: Step, event: events.Event) -> None:
        at = self.clock.now
        after = stepped(ticket, step, at)
        after = msgspec.structs.replace(after, done=(*ticket.done, Done(at, after.state.value)))
        await self.write(rows_of(after, like, ticket, at), event)
        self.waits.pop(like, None)
        self.yes.pop(like, None)
        if after.state is State.APPROVED:
            self.yes[like] = after

    def some(self, among: dict[str, Ticket]) -> tuple[str, Ticket]:
        return self.chance.choice(list(among.items()))

    async def write(self, puts: Puts, *told: events.Event) -> None:
        await self.store.append(Append(puts=puts, entries=tuple(NewEntry(encode_event(one)) for one in told)))


async def test_what_is_kept_is_what_is_found_by_beginning_anew() -> None:
    listed = floods = 0
    for seed in range(5):
        town = Town(Random(seed))
        for _ in range(60):
            await town.happens()
            if town.chance.random() < 0.25:
                for who in ("", "anna", "ben"):
                    mine, anew = await town.kept.look(who), await town.anew().look(who)
                    assert mine == anew, seed
                    some = await town.kept.look(who, 2)
                    assert (some.queued, some.total) == (anew.queued[:2], len(anew.queued))
                    listed, floods = listed + len(anew.queued), floods + len(anew.floods)
    assert listed > 100
    assert floods > 10


async def test_it_is_so_too_where_another_follows_the_log_for_it_and_where_order_is_kept_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the console has it: leaves are handed in, and a task finds places anew while people look."""
    monkeypatch.setattr(queueing, "KEEP_S", 0)
    town = Town(Random(99))
    keeping = asyncio.create_task(town.kept.keep())
    try:
        for number in range(60):
            await town.happens()
            for index, leaf in enumerate(await town.store.entries(0, 1 << 30)):
                town.kept.fold(index, leaf)
            if number % 5 == 4:
                await town.kept.look()
                order = town.kept._kept.order
                while town.kept._kept.order is order:
                    await asyncio.sleep(0)
                mine, anew = await town.kept.look("anna"), await town.anew().look("anna")
                assert [one.ticket for one in mine.queued] == [one.ticket for one in anew.queued]
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_between_two_orderings_what_was_answered_is_gone_and_what_was_asked_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """INVARIANT: 1. Places may be old; what is listed is not."""
    town = Town(Random(5), Approvals(asks_per_agent=99, asks_per_root=99))
    for _ in range(30):
        await town.ask()
        town.clock.now += HOUR
        await town.sweep()
    await town.kept.look("anna")
    monkeypatch.setattr(Kept, "stale", lambda _: False)
    for _ in range(25):
        await town.happens()
        mine, anew = await town.kept.look("anna"), await town.anew().look("anna")
        free = {one.ticket.id for one in anew.queued}
        assert {one.ticket.id for one in mine.queued} == free
        assert (await town.kept.look("anna", 1)).total == len(free)


async def test_what_changes_while_places_are_found_anew_takes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT: 3."""
    monkeypatch.setattr(kept, "SLICE", 2)
    town = Town(Random(7), Approvals(asks_per_agent=99, asks_per_root=99))
    for _ in range(20):
        await town.ask()
        town.clock.now += HOUR
        await town.sweep()
    await town.kept.look()
    for _ in range(20):
        arranging = asyncio.create_task(town.kept._kept.arrange())
        await asyncio.sleep(0)
        await town.happens()
        await town.kept._kept.follow()
        await arranging
        order = town.kept._kept.order
        free = {one.ticket.id for one in (await town.anew().look()).queued}
        assert set(order.places) >= free
        assert sorted(rank for run in order.runs.values() for rank in run) == sorted(
            rank for _, rank in order.places.values()
        )


async def test_a_store_that_fails_halfway_leaves_nothing_half_known() -> None:
    town = Town(Random(3))
    await town.ask()
    await town.kept.look()
    await town.ask()
    known, town.tickets.known = town.tickets.known, None  # type: ignore[method-assign, assignment]
    with pytest.raises(TypeError):
        await town.kept.look()
    town.tickets.known = known  # type: ignore[method-assign]
    assert await town.kept.look() == await town.anew().look()


async def test_a_flood_is_one_line_at_the_first_look_after_it_though_the_order_is_kept_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queueing, "KEEP_S", 3600)
    town = Town(Random(5), Approvals(asks_per_agent=1, asks_per_root=1))
    keeping = asyncio.create_task(town.kept.keep())
    try:
        while not town.kept._tended:
            await asyncio.sleep(0)
        for _ in range(20):
            await town.ask()
        seen = await town.kept.look()
        assert seen.floods
        assert seen == await town.anew().look()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_what_was_over_before_anything_was_kept_earns_no_strike_when_it_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "PAST", 0)
    town = Town(Random(11), Approvals(asks_per_agent=1, asks_per_root=1))
    for _ in range(6):
        like, ticket = f"like {town.number + 1}", await town.ask()
        await town.steps(like, ticket, Step.APPROVE, decided("anna", ticket.id, True, town.clock.now))
    town.clock.now += 1
    assert (await town.kept.look()).strikes == ()
    while town.yes:
        left = len(town.yes)
        await town.use()
        assert len(town.yes) < left
    assert (await town.kept.look()).strikes == ()
