"""Made-up tickets: shown and answered like any, told of at once, and nothing that could let a call through."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.approvals.people import Approvals
from citywatch.core.approvals.queue import HALF_MS
from citywatch.core.approvals.showing import Document
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.approvals.vigilance import Bar
from citywatch.core.errors import Malformed
from citywatch.main.replay import rebuild
from citywatch.service.canaries import LATER_MS, Canaries
from citywatch.service.care import Care
from citywatch.service.documents import Documents
from citywatch.service.ports import Store
from citywatch.service.queueing import Queueing
from citywatch.service.vigilance import Watching
from citywatch.service.voting import Voting
from spec import vigilance as law
from tests.simulation.city import code_of
from tests.simulation.flow_city import FlowCity
from tests.simulation.people import DOMAIN, PEOPLE, named, says
from tests.simulation.test_answers import WANTED, asked, read_letter

HASTY = Approvals(unsafe_hasty=True)


class Office:
    """A desk with canaries; every risky ticket is followed by one where `rate` is 100."""

    def __init__(self, here: FlowCity, rate: int = 0) -> None:
        self.here = named(here, PEOPLE, HASTY)
        self.watching = Watching(here.store, Bar())
        self.canaries = Canaries(here.tickets, here.chance, self.watching, rate)
        self.queueing = Queueing(here.tickets, PEOPLE, HASTY, self.canaries)
        self.voting = Voting(
            here.tickets,
            Documents(here.store, lambda: here.enforcer.rules, rebuild),
            people=PEOPLE,
            approvals=HASTY,
            domain=DOMAIN,
            weigh=self.watching.weigh,
            care=Care(here.tickets, here.chance, people=PEOPLE, approvals=HASTY),
            canaries=self.canaries,
        )

    async def past(self, count: int, yes: bool, begin: int) -> list[Ticket]:
        """Calls that cara answered, and that were made where she said yes."""
        found = []
        for number in range(count):
            arguments = {**WANTED, "amount": begin + number}
            found.append(await asked(self.here, **arguments))
            await says(self.voting, found[-1].id, "cara", yes)
            if yes:
                assert code_of(await self.here.act("pay", **arguments)) is None
            self.here.clock.advance(3_600_000)
        return found

    async def risky(self) -> None:
        """Anna answers what is risky; and then the while passes after which she may be asked something made up."""
        await says(self.voting, (await asked(self.here, **{**WANTED, "amount": 500})).id, "anna")
        assert await self.waiting("anna") == [], "not at the moment of an answer, which would tell"
        self.here.clock.advance(LATER_MS[1])

    async def waiting(self, person: str) -> list[Ticket]:
        return [one.ticket for one in (await self.queueing.look(person)).queued]


async def office(rate: int = 0, **counts: Any) -> Office:
    return Office(await read_letter(), rate)


async def test_after_a_risky_ticket_somebody_is_asked_one_that_others_denied() -> None:
    """It is told of at once, and counts; who denied it themselves is not asked again."""
    desk = await office(100)
    (denied,) = await desk.past(1, False, 100)
    assert await desk.waiting("cara") == []
    await desk.risky()
    (made,) = await desk.waiting("anna")
    assert made.id != denied.id
    assert (made.state, made.votes, made.shown) == (State.PENDING, (), denied.shown)
    assert await desk.waiting("ben") == []
    shown, _ = await desk.voting.opened(made.id, "anna")
    assert shown == made
    with pytest.raises(Malformed, match="there is no ticket"):
        await desk.voting.opened(made.id, "cara")
    answered = await says(desk.voting, made.id, "anna")
    assert (answered.state, answered.done[-1].what) == (State.APPROVED, "it was made up, to be denied: missed")
    assert made not in await desk.waiting("anna")
    over = await desk.canaries.over(made.id, "anna")
    assert over is not None
    assert (over.right, over.canary.past) == (False, denied.id)
    assert await desk.canaries.over(made.id, "cara") is None
    rates = (await desk.watching.now()).rates("anna")
    assert (rates.targets, rates.hits) == (1, 0)
    entries = [msgspec.to_builtins(one) for one in await desk.here.events()]
    assert law.counts(entries, "anna")["targets"] == 1
    (said,) = [
        one for one in await desk.here.events() if isinstance(one, events.TicketUnsealed) and one.ticket == made.id
    ]
    assert said.kind == "canary"


async def test_a_yes_to_it_lets_nothing_through_and_writes_nothing_that_a_decision_reads() -> None:
    """INVARIANT: 3. The very call that it shows stays denied."""
    desk = await office(100)
    await desk.past(1, False, 100)
    await desk.risky()
    (made,) = await desk.waiting("anna")
    kinds = ("ticket", "ticket_id", "ticket_past", "answer")
    before = [await desk.here.store.scan(kind) for kind in kinds]
    await says(desk.voting, made.id, "anna")
    assert [await desk.here.store.scan(kind) for kind in kinds] == before
    for amount in range(100, 104):
        assert code_of(await desk.here.act("pay", **{**WANTED, "amount": amount})) is not None


async def test_it_is_shown_as_the_past_one_was_to_the_last_character() -> None:
    desk = await office(100)
    (denied,) = await desk.past(1, False, 100)
    _, then = await desk.voting.opened(denied.id, "anna")
    await desk.risky()
    (made,) = await desk.waiting("anna")
    _, now = await desk.voting.opened(made.id, "anna")

    def undated(document: Document) -> list[str]:
        return [one.text.partition(". Until ")[0] + one.quoted for one in document.lines()]

    assert undated(now) == undated(then)
    assert now.uninspectable == then.uninspectable
    assert len(made.id) == len(denied.id)
    assert set(made.__struct_fields__) == set(denied.__struct_fields__)
    assert (made.call[:12], len(made.call)) == (made.id, len(denied.call))
    assert made.call != denied.call
    assert [(one.at, one.what, one.who) for one in made.done] == [(made.asked, "asked", made.agent)]


async def test_nothing_is_made_up_where_the_file_asks_for_none_or_nothing_is_known() -> None:
    desk = await office(0)
    await desk.past(1, False, 100)
    await desk.risky()
    assert await desk.waiting("anna") == []
    empty = await office(100)
    await empty.risky()
    assert await empty.waiting("anna") == []


async def test_an_exercise_is_half_to_be_denied_and_gives_a_lost_weight_back() -> None:
    desk = await office()
    with pytest.raises(Malformed, match="4 tickets that others denied"):
        await desk.canaries.exercise("anna")
    denied = {one.shown for one in await desk.past(4, False, 100)}
    await desk.past(4, True, 200)
    with pytest.raises(Malformed, match="4 tickets that others denied"):
        await desk.canaries.exercise("cara")  # she answered them herself
    assert await desk.canaries.exercise("anna") == 8
    first = await desk.waiting("anna")
    assert len(first) == 8
    for made in first:
        await says(desk.voting, made.id, "anna")
    assert not (await desk.watching.now()).counts("anna"), "who says yes to all of it sees nothing"
    assert await desk.canaries.exercise("anna") == 8
    for made in await desk.waiting("anna"):
        await says(desk.voting, made.id, "anna", made.shown not in denied)
    assert (await desk.watching.now()).counts("anna")


async def test_it_stands_where_it_would_stand_had_it_been_asked_and_moves_nothing_else() -> None:
    """The attack: somebody watches which line keeps another place than its stake and its age give it."""
    desk = await office(100)
    (denied,) = await desk.past(1, False, 100)
    await desk.risky()
    (made,) = await desk.waiting("anna")
    for to in ("eve@evil.example", "trudy@evil.example"):
        await asked(desk.here, **{**WANTED, "to": to})
        desk.here.clock.advance(60_000)
    real = [one.line for one in (await desk.queueing.look("ben")).queued]
    mine = [one.line for one in (await desk.queueing.look("anna")).queued]
    assert [one for one in mine if one.ticket != made.id] == real
    assert mine == sorted(mine, key=lambda one: (one.tier, -one.stake * (HALF_MS + one.waited_ms)))
    assert [one.novelty for one in mine if one.ticket == made.id] == [0], "its like was approved before"
    assert {made.id} == {one.ticket for one in mine} - {one.ticket for one in real}
    await asked(desk.here, **{**WANTED, "amount": 600})
    (alike,) = [one.line for one in (await desk.queueing.look("anna")).queued if made.id in one.line.folded]
    assert alike.ticket != made.id, "and what is alike stands behind the one that was asked, as it would"
    assert denied.id not in alike.folded


async def test_what_nobody_answers_expires_like_a_ticket_and_is_told_of_in_the_log() -> None:
    desk = await office(100)
    await desk.past(1, False, 100)
    await desk.risky()
    (made,) = await desk.waiting("anna")
    await desk.voting.opened(made.id, "anna")
    assert await desk.canaries.expire() == 0
    desk.here.clock.advance(made.expires)
    assert await desk.waiting("anna") == []
    assert await desk.canaries.expire() == 1
    assert await desk.canaries.expire() == 0
    said = [one for one in await desk.here.events() if getattr(one, "ticket", "") == made.id]
    assert [type(one).__name__ for one in said[-2:]] == ["TicketExpired", "TicketUnsealed"]
    assert (await desk.watching.now()).rates("anna").expired == 1
    with pytest.raises(Malformed, match="there is no ticket"):
        await desk.voting.opened(made.id, "anna")


class Slow:
    """A log that others read from meanwhile."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def entries(self, start: int, stop: int) -> Sequence[bytes]:
        found = await self._store.entries(start, stop)
        await asyncio.sleep(0)
        return found


async def test_many_who_ask_at_once_what_is_known_count_nothing_twice() -> None:
    desk = await office(100)
    await desk.past(1, False, 100)
    await desk.risky()
    (made,) = await desk.waiting("anna")
    await says(desk.voting, made.id, "anna")
    fresh = Watching(cast("Store", Slow(desk.here.store)), Bar())
    for index, leaf in enumerate(await desk.here.store.entries(0, 3)):
        fresh.fold(index, leaf)
    await asyncio.gather(*(fresh.now() for _ in range(5)))
    assert (await fresh.now()).rates("anna") == (await Watching(desk.here.store, Bar()).now()).rates("anna")
    assert (await fresh.now()).rates("anna").answered == 2
    await says(desk.voting, (await asked(desk.here, **{**WANTED, "amount": 501})).id, "anna")
    after = await Watching(desk.here.store, Bar()).now()
    assert (await fresh.now()).rates("anna") == after.rates("anna"), "and what is entered next is not passed over"
    assert after.rates("anna").answered > 2
