"""What nobody answers goes to those whom the file names next: beside the first, once, and never for fewer yes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core import events
from citywatch.core.approvals.people import Approvals, Duty, Person, Quorum
from citywatch.core.approvals.ticket import State
from citywatch.core.errors import Refused
from citywatch.service.escalating import Escalating
from citywatch.service.ports import Append, Stale
from citywatch.service.queueing import Queueing
from citywatch.service.tickets import Tickets
from citywatch.service.unknowns import Status
from tests.simulation.flow_city import FlowCity
from tests.simulation.people import PEOPLE, desk, says
from tests.simulation.test_answers import HOUR, asked, read_letter
from tests.simulation.test_rehearsal import introduced, rehearsed
from tests.simulation.test_voting import passes, waits
from tests.simulation.test_withdrawing import police

RULE: dict[str, Any] = {
    "quorum": (Quorum(acts=("bank/*",), need=1, of=("anna",)),),
    "escalate_after_ms": HOUR,
    "escalate_to": ("ben", "cara", "dora"),
}
ELSEWHERE = PEOPLE | {"ben": msgspec.structs.replace(PEOPLE["ben"], answers=("mail/*",))}
"""Of those who come next, cara alone can answer for the bank: ben's acts are others, dora is an auditor."""


def escalating(here: FlowCity, people: dict[str, Person] = ELSEWHERE, **changes: Any) -> Escalating:
    return Escalating(here.tickets, people, Approvals(**RULE | changes))


async def told(here: FlowCity) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.ticket, one.to) for one in await here.events() if isinstance(one, events.TicketEscalated)]


async def test_what_waits_too_long_goes_to_those_who_come_next_and_the_log_says_to_whom() -> None:
    here = police(await read_letter(), ELSEWHERE, **RULE)
    voting, name = desk(here, people=ELSEWHERE, **RULE), await waits(here)
    with pytest.raises(Refused, match="is not for `cara`"):
        await says(voting, name, "cara")
    sweeping = escalating(here)
    here.clock.advance(HOUR - 1)
    assert (await sweeping.sweep(), await told(here)) == (0, [])
    here.clock.advance(1)
    with pytest.raises(Refused, match="is not for `cara`"):  # INVARIANT: 2. The log has to say so first.
        await says(voting, name, "cara")
    assert await sweeping.sweep() == 1
    assert await told(here) == [(name, ("cara",))]
    assert (await here.tickets.find(name)).done[-1].who == "cara"
    assert (await sweeping.sweep(), await escalating(here).sweep(), len(await told(here))) == (0, 0, 1)
    assert (await says(voting, name, "cara")).state is State.APPROVED
    assert await passes(here)


@pytest.mark.parametrize("who", ["ben", "dora"])
async def test_nobody_answers_whom_the_file_rules_out(who: str) -> None:
    """The attack: wait until nobody who is meant to answers, and ask somebody who does not know the act."""
    here = police(await read_letter(), ELSEWHERE, **RULE)
    name = await waits(here)
    here.clock.advance(HOUR)
    await escalating(here).sweep()
    voting = desk(here, people=ELSEWHERE, unsafe_unsigned=True, **RULE)
    with pytest.raises(Refused, match=f"is not for `{who}`"):
        await voting.prepare(name, who, True, "I rang them")


async def test_those_who_come_next_approve_nothing_in_their_own_name() -> None:
    rule: dict[str, Any] = RULE | {"not_own": ("bank/*",)}
    here = police(await read_letter(), ELSEWHERE, **rule)
    name = await waits(here)
    found = await here.tickets.found(name)
    owned = msgspec.structs.replace(found.ticket, authority=("alice",))
    await here.store.append(Append(puts=((found.key, msgspec.json.encode(owned)),)))
    here.clock.advance(HOUR)
    await escalating(here, not_own=("bank/*",)).sweep()
    with pytest.raises(Refused, match="uses the authority of `alice`, for whom `cara` speaks"):
        await says(desk(here, people=ELSEWHERE, **rule), name, "cara")


async def test_it_needs_as_many_yes_as_before_and_what_the_first_said_stands() -> None:
    rule: dict[str, Any] = RULE | {"quorum": (Quorum(acts=("bank/*",), need=2, of=("anna", "ben")),)}
    here = police(await read_letter(), PEOPLE, **rule)
    voting, name = desk(here, **rule), await waits(here)
    assert (await says(voting, name, "anna")).state is State.PENDING
    here.clock.advance(HOUR)
    await escalating(here, PEOPLE, quorum=rule["quorum"]).sweep()
    assert (await here.tickets.find(name)).state is State.PENDING
    assert (await says(voting, name, "cara")).state is State.APPROVED
    assert await passes(here)


async def test_a_no_of_one_does_not_end_what_those_who_come_next_may_still_decide() -> None:
    rule: dict[str, Any] = RULE | {
        "quorum": (Quorum(acts=("bank/*",), need=2, of=("anna", "ben")),),
        "one_denies": False,
    }
    here = police(await read_letter(), PEOPLE, **rule)
    voting, name = desk(here, **rule), await waits(here)
    assert (await says(voting, name, "ben", yes=False)).state is State.PENDING
    here.clock.advance(HOUR)
    await escalating(here, PEOPLE, quorum=rule["quorum"]).sweep()
    assert (await says(voting, name, "anna")).state is State.PENDING
    assert (await says(voting, name, "cara")).state is State.APPROVED


async def test_where_nobody_is_left_it_expires_and_that_is_no() -> None:
    here = police(await read_letter(), ELSEWHERE, **RULE)
    name = await waits(here)
    here.clock.advance(HOUR)
    assert await escalating(here, escalate_to=("ben", "dora")).sweep() == 0
    assert not await told(here)
    here.clock.advance(24 * HOUR)
    await here.tickets.expire()
    assert (await here.tickets.find(name)).state is State.EXPIRED
    assert not await passes(here)


async def test_only_what_waits_is_passed_on() -> None:
    here = police(await read_letter(), ELSEWHERE, **RULE)
    first = await waits(here)
    second = await asked(here, "delete_file", id="x-99")
    await says(desk(here, people=ELSEWHERE, **RULE), first, "anna", yes=False)
    here.clock.advance(HOUR)
    fresh = await asked(here, "delete_file", id="x-100")
    assert await escalating(here).sweep() == 1
    assert await told(here) == [(second.id, ("cara",))]
    assert not (await here.tickets.find(fresh.id)).escalated


async def test_who_comes_next_sees_it_in_their_queue_once_it_is_theirs() -> None:
    here = police(await read_letter(), ELSEWHERE, **RULE)
    name = await waits(here)
    queueing = Queueing(here.tickets, ELSEWHERE, Approvals(**RULE))
    assert not (await queueing.look("cara")).queued
    here.clock.advance(HOUR)
    await escalating(here).sweep()
    assert [one.ticket.id for one in (await queueing.look("cara")).queued] == [name]


class Busy(MemoryStore):
    """Somebody else changes the ticket at the same moment, once."""

    busy = False

    async def append(self, change: Append) -> Any:
        if self.busy:
            self.busy = False
            return Stale(change.reads[0][0])
        return await super().append(change)


async def test_what_could_not_be_written_is_looked_at_again() -> None:
    """INVARIANT: 3."""
    store = Busy()
    here = FlowCity(store)
    await introduced(here)
    police(await here.open(), ELSEWHERE, **RULE)
    await here.task("Pay the new supplier")
    await here.read("inbox", [{"body": "pay somebody 900"}])
    name = await waits(here)
    here.clock.advance(HOUR)
    sweeping = escalating(here)
    store.busy = True
    assert await sweeping.sweep() == 0
    assert await sweeping.sweep() == 1
    other = Tickets(store=store, clock=here.clock, replica="r2", named=True)
    assert await Escalating(other, ELSEWHERE, Approvals(**RULE)).sweep() == 0, "another replica"
    assert await told(here) == [(name, ("cara",))]
    assert {one.status for one in await rehearsed(here)} == {Status.SAME}


async def test_a_yes_of_those_who_came_next_lasts_as_long_as_the_file_names_them_so() -> None:
    here = police(await read_letter(), ELSEWHERE, **RULE)
    name = await waits(here)
    here.clock.advance(HOUR)
    await escalating(here).sweep()
    assert (await says(desk(here, people=ELSEWHERE, **RULE), name, "cara")).state is State.APPROVED
    police(here, ELSEWHERE, **RULE | {"escalate_to": ("ben",)})
    assert not await passes(here)
    assert Duty.APPROVER in ELSEWHERE["cara"].roles
