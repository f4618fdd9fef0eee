"""A yes is a yes to one call: what changes since makes it none, and what does not leaves it alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.approvals.ticket import State
from citywatch.core.enforce.needs import Pin, pin_key
from citywatch.core.manifest import Role
from citywatch.service.ports import Append
from tests.simulation.city import code_of
from tests.simulation.flow_city import TOOLS, FlowCity, tool
from tests.simulation.test_answers import WANTED, asked, read_letter
from tests.simulation.test_flow import ASKED

DAY = 24 * 3_600_000


async def approved(here: FlowCity) -> str:
    ticket = await asked(here, **WANTED)
    await here.tickets.answer(ticket.id, True, "on call", "she told me", principal="alice")
    return ticket.id


async def another_definition(here: FlowCity) -> None:
    """The tool was changed and approved anew in between."""
    changed = tool("pay", to="string", amount="number", note="string", date="string", memo="string")
    here.enforcer.rules = here.rules(changed, *TOOLS[1:])
    digest = here.enforcer.rules.tools["bank", "pay"].digest
    key = pin_key("bank", "tool", "pay")
    row = (await here.store.load((key,), ())).rows[key]
    pin = msgspec.structs.replace(msgspec.json.decode(row.value, type=Pin), digest=digest)
    await here.store.append(Append(puts=((key, msgspec.json.encode(pin)),)))


async def stranger(here: FlowCity) -> None:
    """The agent read something of another stranger's since."""
    await here.read("find_file", [{"id": "f-1", "text": "words of somebody else"}], name="notes")


async def other_effect(here: FlowCity) -> None:
    manifests = dict(here.configured.servers["bank"])
    parameters = dict(manifests["pay"].parameters) | {
        "to": msgspec.structs.replace(manifests["pay"].parameters["to"], role=Role.OBJECT)
    }
    manifests["pay"] = msgspec.structs.replace(manifests["pay"], parameters=parameters)
    here.configured = msgspec.structs.replace(here.configured, servers={"bank": manifests})
    here.enforcer.rules = here.rules(*TOOLS)


@pytest.mark.parametrize("change", [another_definition, stranger, other_effect])
async def test_a_call_that_is_another_one_by_now_is_asked_about_anew(
    change: Callable[[FlowCity], Awaitable[None]],
) -> None:
    """Undefended, the yes to what was shown would let this through: it is alike, letter by letter."""
    here = await read_letter()
    first = await approved(here)
    await change(here)
    assert code_of(await here.act("pay", **WANTED)) == ASKED
    (again,) = await here.tickets.pending()
    assert again.id != first
    old = await here.tickets.find(first)
    assert (old.state, old.superseded) == (State.SUPERSEDED, again.id)
    told = [one for one in await here.events() if isinstance(one, events.TicketSuperseded)]
    assert [(one.ticket, one.next, bool(one.why)) for one in told] == [(first, again.id, True)]


async def test_a_yes_is_withdrawn_where_a_ticket_still_waits_too() -> None:
    here = await read_letter()
    first = await asked(here, **WANTED)
    await stranger(here)
    assert code_of(await here.act("pay", **WANTED)) == ASKED
    (again,) = await here.tickets.pending()
    assert again.id != first.id
    assert (await here.tickets.find(first.id)).state is State.SUPERSEDED


async def nothing(here: FlowCity) -> None:
    pass


async def own_words(here: FlowCity) -> None:
    """Whoever may steer the act says more."""
    await here.task("Thank you, and look at my payees")


async def own_data(here: FlowCity) -> None:
    """The agent looks at what the servers vouch for."""
    await here.read("payees", [{"iban": "GB29NWBK60161331926819"}])


async def same_again(here: FlowCity) -> None:
    await here.read("inbox", "another letter that came the same way")


@pytest.mark.parametrize("change", [nothing, own_words, own_data, same_again])
async def test_what_changes_nothing_about_the_call_leaves_its_yes_alone(
    change: Callable[[FlowCity], Awaitable[None]],
) -> None:
    here = await read_letter()
    first = await approved(here)
    await change(here)
    assert code_of(await here.act("pay", **WANTED)) is None
    assert (await here.tickets.find(first)).state is State.USED


async def test_each_step_is_an_entry_and_the_digest_that_was_asked_about_is_the_one_that_was_used() -> None:
    here = await read_letter()
    first = await approved(here)
    assert code_of(await here.act("pay", **WANTED)) is None
    told = [one for one in await here.events() if type(one).__name__.startswith("Ticket")]
    assert [type(one) for one in told] == [events.TicketAsked, events.TicketAnswered, events.TicketUsed]
    asking, _, used = told
    assert isinstance(asking, events.TicketAsked)
    assert isinstance(used, events.TicketUsed)
    assert asking.digest == used.digest != ""
    assert (asking.ticket, used.ticket) == (first, first)
    ticket = await here.tickets.find(first)
    assert ticket.salt not in "".join(str(one) for one in told), "who guesses the arguments has nothing to compare with"


async def test_a_yes_that_was_tampered_with_in_the_store_is_none() -> None:
    here = await read_letter()
    first = await approved(here)
    found = await here.tickets.found(first)
    assert found.ticket.bound is not None
    other = msgspec.structs.replace(found.ticket.bound, policies=("others",))
    await here.store.append(
        Append(puts=((found.key, msgspec.json.encode(msgspec.structs.replace(found.ticket, bound=other))),))
    )
    assert code_of(await here.act("pay", **WANTED)) == ASKED


async def test_what_nobody_answers_is_entered_as_expired_once() -> None:
    here = await read_letter()
    first = await asked(here, **WANTED)
    assert await here.tickets.expire() == 0
    here.clock.advance(DAY)
    assert (await here.tickets.page()).tickets == ()
    assert await here.tickets.waiting() == 1, "it is swept and not only hidden"
    assert await here.tickets.expire() == 1
    assert await here.tickets.expire() == 0
    assert await here.tickets.waiting() == 0
    (event,) = [one for one in await here.events() if isinstance(one, events.TicketExpired)]
    assert (event.ticket, event.state) == (first.id, "pending")
    assert (await here.tickets.find(first.id)).state is State.EXPIRED


async def test_a_yes_that_nobody_used_in_time_expires() -> None:
    here = await read_letter()
    first = await approved(here)
    here.clock.advance(DAY)
    assert await here.tickets.expire() == 1
    assert (await here.tickets.find(first)).state is State.EXPIRED
    assert code_of(await here.act("pay", **WANTED)) == ASKED


async def test_lists_are_of_what_waits_and_what_is_over() -> None:
    here = await read_letter()
    first = await asked(here, **WANTED)
    here.clock.advance(1)
    second = await asked(here, to=WANTED["to"], amount=5)
    page = await here.tickets.page(count=1)
    assert [one.id for one in page.tickets] == [first.id]
    rest = await here.tickets.page(page.after, 1)
    assert [one.id for one in rest.tickets] == [second.id]
    assert (await here.tickets.page(rest.after, 1)).tickets == ()
    assert await here.tickets.waiting() == 2
    await here.tickets.answer(first.id, False, "on call", "no")
    assert [one.id for one in (await here.tickets.page()).tickets] == [second.id]
    assert [one.id for one in await here.tickets.closed()] == [first.id]


async def test_tickets_of_an_earlier_version_get_their_places_in_the_lists() -> None:
    here = await read_letter()
    first = await asked(here, **WANTED)
    for kind in ("ticket_open", "ticket_due", "ticket_id"):
        rows = await here.store.scan(kind)
        await here.store.append(Append(puts=tuple(((kind, id_), None) for id_, _ in rows)))
    assert (await here.tickets.page()).tickets == ()
    assert await here.tickets.index() == 1
    assert [one.id for one in (await here.tickets.page()).tickets] == [first.id]
    assert await here.tickets.index() == 0
