"""A ticket is answered once, in time, for exactly one call."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from citywatch.adapters.memory import MemoryClock, MemoryStore
from citywatch.core.approvals.ticket import State, Ticket, rows_of, ticket_id_key
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.events import TicketAnswered
from citywatch.core.log.entry import decode_event
from citywatch.service.ports import Append
from citywatch.service.tickets import Tickets, find_ticket

HOUR = 3_600_000


class Desk:
    """Tickets over a store in memory, and one that waits."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), MemoryClock()
        self.tickets = Tickets(store=self.store, clock=self.clock, replica="r1", named=False)

    async def open(self, name: str = "t1", likeness: str = "l1", state: State = State.PENDING) -> Desk:
        now = self.clock.now_ms()
        ticket = Ticket(
            id=name, agent="a", server="s", tool="x", state=state, asked=now, expires=now + HOUR, why="w", call="c"
        )
        await self.store.append(Append(puts=rows_of(ticket, likeness, None, now)))
        return self

    async def answers(self) -> list[TicketAnswered]:
        found = [decode_event(leaf) for leaf in await self.store.entries(0, 100)]
        return [event for event in found if isinstance(event, TicketAnswered)]


async def refused(desk: Desk, name: str = "t1") -> str:
    with pytest.raises(Refused) as caught:
        await desk.tickets.answer(name, True, "alice", "why")
    assert caught.value.code is Code.CONFLICT
    return caught.value.detail


async def test_an_answer_is_given_once_and_stands_in_the_log() -> None:
    desk = await Desk().open()
    answered = await desk.tickets.answer("t1", True, "alice", "I know them")
    assert (answered.state, answered.by) == ("approved", "alice")
    assert "is approved" in await refused(desk)
    (event,) = await desk.answers()
    assert (event.call, event.answer, event.by, event.reason) == ("c", "approved", "alice", "I know them")


@pytest.mark.parametrize("state", [State.APPROVED, State.DENIED, State.USED])
async def test_what_is_not_pending_cannot_be_answered(state: State) -> None:
    desk = await Desk().open(state=state)
    assert f"is {state}" in await refused(desk)
    assert not await desk.answers()


async def test_a_late_answer_is_none() -> None:
    desk = await Desk().open()
    desk.clock.advance(HOUR - 1)
    assert len(await desk.tickets.pending()) == 1
    desk.clock.advance(1)
    assert not await desk.tickets.pending()
    assert "is expired" in await refused(desk)


async def test_of_two_answers_at_once_one_counts() -> None:
    desk = await Desk().open()
    both = await asyncio.gather(
        *(desk.tickets.answer("t1", yes, "alice", "x") for yes in (True, False)), return_exceptions=True
    )
    assert sum(isinstance(one, Refused) for one in both) == 1
    assert len(await desk.answers()) == 1


async def test_an_answer_survives_a_loss_of_power() -> None:
    desk = await Desk().open()
    await desk.tickets.answer("t1", False, "alice", "x")
    after = Tickets(store=desk.store.after_power_loss(), clock=desk.clock, replica="r1", named=False)
    assert (await after.find("t1")).state == "denied"


async def test_an_unknown_ticket_is_said_to_be_one() -> None:
    with pytest.raises(Malformed, match="there is no ticket"):
        await (await Desk().open()).tickets.find("t2")


async def test_the_oldest_waits_at_the_top() -> None:
    desk = await Desk().open("t1", "l9")
    desk.clock.advance(5)
    await desk.open("t2", "l1")
    assert [one.id for one in await desk.tickets.pending()] == ["t1", "t2"]


async def test_an_id_that_names_the_row_of_another_ticket_finds_none() -> None:
    desk = await Desk().open("t2")  # the call asked again, and a new ticket took the place of `t1`
    put = (ticket_id_key("t1"), msgspec.json.encode("l1"))
    await desk.store.append(Append(puts=(put,)))
    assert await find_ticket(desk.store, "t1") is None
    gone = (ticket_id_key("t3"), msgspec.json.encode("nowhere"))
    await desk.store.append(Append(puts=(gone,)))
    assert await find_ticket(desk.store, "t3") is None
    assert (await desk.tickets.find("t2")).id == "t2"
