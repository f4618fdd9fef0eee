"""What a person's answer covers: who has to give it, and which later calls it speaks of."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.approvals.ticket import Ticket
from citywatch.core.errors import Malformed
from citywatch.core.events import TicketAnswered
from tests.simulation.city import code_of
from tests.simulation.flow_city import ANN, MALLORY, FlowCity
from tests.simulation.test_flow import ASKED, LETTER, city

DENIED = "approval_denied"
HOUR = 3_600_000
WANTED: dict[str, Any] = {"to": MALLORY, "amount": 900}


async def asked(here: FlowCity, name: str = "pay", /, **arguments: Any) -> Ticket:
    before = {one.id for one in await here.tickets.pending()}
    assert code_of(await here.act(name, **arguments)) == ASKED
    (ticket,) = [one for one in await here.tickets.pending() if one.id not in before]
    return ticket


async def read_letter() -> FlowCity:
    here = await city()
    await here.read("inbox", LETTER)
    return here


async def test_whoever_is_on_call_cannot_pay_somebody_whom_nobody_named() -> None:
    here = await read_letter()
    ticket = await asked(here, **WANTED)
    assert ticket.of == ("alice",)
    for principal in ("", "guest"):
        with pytest.raises(Malformed, match="only `alice` may approve it"):
            await here.tickets.answer(ticket.id, True, "on call", "looks fine", principal=principal)
    assert code_of(await here.act("pay", **WANTED)) == ASKED
    await here.tickets.answer(ticket.id, True, "on call", "she told me on the phone", principal="alice")
    assert code_of(await here.act("pay", **WANTED)) is None
    (event,) = [one for one in await here.events() if isinstance(one, TicketAnswered)]
    assert (event.by, event.principal, event.until) == ("on call", "alice", 0)


async def test_whoever_is_on_call_can_say_no_and_can_approve_what_reaches_nobody_new() -> None:
    here = await read_letter()
    other = await asked(here, "delete_file", id="x-99")
    assert other.of is None
    await here.tickets.answer(other.id, True, "on call", "it is old")
    assert code_of(await here.act("delete_file", id="x-99")) is None
    ticket = await asked(here, **WANTED)
    await here.tickets.answer(ticket.id, False, "on call", "who is that?")
    assert code_of(await here.act("pay", **WANTED)) == DENIED


@pytest.mark.parametrize(
    "again",
    [
        {"to": MALLORY, "amount": 900, "note": "please"},
        {"to": f"{MALLORY[:4]} {MALLORY[4:8]} {MALLORY[8:]}", "amount": 900},
        {"to": MALLORY.lower(), "amount": 900},
    ],
)
async def test_a_no_covers_every_way_of_writing_the_same_act(again: dict[str, Any]) -> None:
    here = await read_letter()
    ticket = await asked(here, **WANTED)
    await here.tickets.answer(ticket.id, False, "on call", "who is that?")
    assert code_of(await here.act("pay", **again)) == DENIED
    assert not await here.tickets.pending()  # nobody is asked again


async def test_a_no_says_nothing_of_other_values_and_ends_with_its_ticket() -> None:
    here = await read_letter()
    ticket = await asked(here, **WANTED)
    await here.tickets.answer(ticket.id, False, "on call", "who is that?")
    assert code_of(await here.act("pay", to=ANN, amount=100.5)) is None  # what she asked for still goes through
    assert code_of(await here.act("pay", to=MALLORY, amount=5)) == ASKED
    here.clock.advance(24 * HOUR)
    assert code_of(await here.act("pay", **WANTED)) == ASKED


async def test_a_no_to_one_link_leaves_words_to_the_same_people_alone() -> None:
    here = await city("Send a summary of my inbox to bob@acme.example")
    await here.read("inbox", LETTER)
    ticket = await asked(here, "send", to="bob@acme.example", text="Look: https://evil.example/x")
    await here.tickets.answer(ticket.id, False, "on call", "no")
    assert code_of(await here.act("send", to="bob@acme.example", text="See https://evil.example/x now")) == DENIED
    assert code_of(await here.act("send", to="bob@acme.example", text="Look: https://other.example/y")) == ASKED
    assert code_of(await here.act("send", to="bob@acme.example", text="A bill came in.")) is None


async def test_a_yes_for_a_while_covers_other_words_and_nothing_else() -> None:
    here = await read_letter()
    ticket = await asked(here, note="first", **WANTED)
    await here.tickets.answer(ticket.id, True, "on call", "a new supplier", principal="alice", hold_ms=HOUR)
    assert code_of(await here.act("pay", note="first", **WANTED)) is None
    here.clock.advance(HOUR - 1)
    assert code_of(await here.act("pay", note="second", **WANTED)) is None
    assert code_of(await here.act("pay", to=MALLORY, amount=901, note="third")) == ASKED
    assert code_of(await here.act("pay", to=MALLORY, amount="900", note="third")) == ASKED
    assert code_of(await here.act("pay", to=MALLORY.lower(), amount=900, note="third")) == ASKED
    assert code_of(await here.act("pay", note=f"or pay {MALLORY}", **WANTED)) == ASKED  # that was not shown
    here.clock.advance(1)
    assert code_of(await here.act("pay", note="fourth", **WANTED)) == ASKED
    (event,) = [one for one in await here.events() if isinstance(one, TicketAnswered)]
    assert event.until == here.clock.now_ms()


async def test_a_yes_for_a_while_covers_no_other_way_of_writing_what_was_entitled_anyway() -> None:
    here = await read_letter()
    ticket = await asked(here, to=MALLORY, amount=100.5)  # she named the amount: only the account stops it
    await here.tickets.answer(ticket.id, True, "on call", "a new supplier", principal="alice", hold_ms=HOUR)
    assert code_of(await here.act("pay", to=MALLORY, amount=100.5, note="again")) is None
    assert code_of(await here.act("pay", to=MALLORY, amount="100.50", note="again")) == ASKED


async def test_a_yes_without_a_time_is_for_one_call() -> None:
    here = await read_letter()
    ticket = await asked(here, note="first", **WANTED)
    await here.tickets.answer(ticket.id, True, "on call", "a new supplier", principal="alice")
    assert code_of(await here.act("pay", note="second", **WANTED)) == ASKED


async def test_a_yes_takes_back_no_no() -> None:
    here = await read_letter()
    first, second = await asked(here, note="first", **WANTED), await asked(here, note="second", **WANTED)
    await here.tickets.answer(first.id, False, "on call", "no")
    await here.tickets.answer(second.id, True, "on call", "yes", principal="alice", hold_ms=HOUR)
    assert code_of(await here.act("pay", note="third", **WANTED)) == DENIED
