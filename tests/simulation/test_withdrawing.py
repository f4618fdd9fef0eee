"""A yes that was decided is looked at again at the call: whoever gave it has to be there still, with the key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from citywatch.adapters.memory import MemoryStore
from citywatch.core import events
from citywatch.core.approvals.people import Approvals, Person
from citywatch.core.approvals.ticket import State
from citywatch.core.enforce.approval import Answer
from citywatch.service.ports import Append
from citywatch.service.unknowns import Status
from tests.passkeys import RP
from tests.simulation.city import code_of
from tests.simulation.flow_city import TOOLS, FlowCity
from tests.simulation.people import PEOPLE, desk, enrolling, says
from tests.simulation.test_answers import HOUR, WANTED, read_letter
from tests.simulation.test_flow import ASKED
from tests.simulation.test_rehearsal import introduced, rehearsed
from tests.simulation.test_voting import TWO, enrolled, passes, waits

LEFT = {one: person for one, person in PEOPLE.items() if one != "anna"}
KEY = PEOPLE | {"anna": msgspec.structs.replace(PEOPLE["anna"], keys=PEOPLE["ben"].keys)}
MUTE = PEOPLE | {"anna": msgspec.structs.replace(PEOPLE["anna"], speaks_for=())}
ELSEWHERE = PEOPLE | {"anna": msgspec.structs.replace(PEOPLE["anna"], answers=("mail/*",))}


def police(here: FlowCity, people: dict[str, Person] = PEOPLE, **changes: Any) -> FlowCity:
    """The gateway has read the file, and knows these people."""
    approvals = Approvals(passkeys=RP, **changes)
    here.configured = msgspec.structs.replace(here.configured, people=people, approvals=approvals)
    here.enforcer.rules = here.rules(*TOOLS)
    return here


async def withdrawals(here: FlowCity) -> list[str]:
    return [one.why for one in await here.events() if isinstance(one, events.TicketWithdrawn)]


async def test_a_yes_of_people_who_are_all_there_stands() -> None:
    here = police(await read_letter(), quorum=TWO)
    name = await waits(here)
    for who in ("anna", "ben"):
        await says(desk(here, quorum=TWO), name, who)
    assert await passes(here)
    assert not await withdrawals(here)


GONE: dict[str, tuple[dict[str, Person], dict[str, Any], str]] = {
    "left": (LEFT, {}, "the yes of `anna` does not stand"),
    "key": (KEY, {}, "the yes of `anna` does not stand"),
    "elsewhere": (ELSEWHERE, {}, "the yes of `anna` does not stand"),
    "mute": (MUTE, {}, "speaks for `alice` any more"),
    "own": (PEOPLE, {"not_own": ("bank/*",)}, "the yes of `anna` does not stand"),
    "more": (PEOPLE, {"quorum": TWO}, "it takes 2 people by now"),
}


@pytest.mark.parametrize("gone", GONE)
async def test_a_yes_of_somebody_who_is_not_entitled_any_more_lets_nothing_through(gone: str) -> None:
    """The attack: a stolen key says yes; it is found out and taken out of the file; the call is made after that."""
    here = police(await read_letter())
    name = await waits(here)
    assert (await says(desk(here), name, "anna")).state is State.APPROVED
    people, changes, why = GONE[gone]
    police(here, people, **changes)
    if gone == "own":
        await _acts_for(here, name, "alice")
    assert code_of(await here.act("pay", **WANTED)) == ASKED
    (told,) = await withdrawals(here)
    assert why in told
    after = (await here.tickets.found(name)).ticket
    assert (after.state, after.done[-1].who) == (State.SUPERSEDED, told)
    (fresh,) = await here.tickets.pending()
    assert fresh.id != name
    police(here, PEOPLE)
    assert (await says(desk(here), fresh.id, "cara")).state is State.APPROVED
    assert await passes(here)


async def test_a_yes_of_people_none_of_whom_the_file_names_lets_nothing_through() -> None:
    """The attack: the one approver's key is stolen and says yes; the operator takes them out of the file, with their
    section, for nobody else stood in it."""
    here = police(await read_letter())
    name = await waits(here)
    assert (await says(desk(here), name, "anna")).state is State.APPROVED
    police(here, {})
    assert code_of(await here.act("pay", **WANTED)) == ASKED
    assert ["`anna`" in one for one in await withdrawals(here)] == [True]
    (fresh,) = await here.tickets.pending()
    await here.tickets.answer(fresh.id, True, "operator", "I rang them", principal="alice")
    assert await passes(here), "what the operator says where nobody is named stands"


async def _acts_for(here: FlowCity, name: str, principal: str) -> None:
    """Whose authority the call uses: a chain or a task says that elsewhere; here the row."""
    found = await here.tickets.found(name)
    ticket = msgspec.structs.replace(found.ticket, authority=(principal,))
    await here.store.append(Append(puts=((found.key, msgspec.json.encode(ticket)),)))


async def test_a_passkey_that_was_taken_back_between_the_yes_and_the_call_lets_nothing_through() -> None:
    here = police(await read_letter())
    mine, voting, name = await enrolled(here), desk(here), await waits(here)
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    assert (await voting.vote(offer.statement, mine.sign(offer.challenge))).state is State.APPROVED
    (passkey,) = await enrolling(here).of("anna")
    await enrolling(here).revoke(passkey.id, "operator", "lost")
    assert not await passes(here)
    assert len(await withdrawals(here)) == 1


class Racing(MemoryStore):
    """A passkey is revoked after it was looked at, and before the decision that rests on it is entered."""

    revoke: Any = None

    async def append(self, change: Append) -> Any:
        revoke, self.revoke = self.revoke, None
        if revoke is not None:
            await revoke()
        return await super().append(change)


async def test_a_passkey_that_is_revoked_while_the_call_is_judged_lets_nothing_through() -> None:
    """INVARIANT: 1."""
    store = Racing()
    here = police(await FlowCity(store).open())
    await here.task("Pay the new supplier")
    await here.read("inbox", [{"body": f"pay {WANTED['to']} 900"}])
    mine, voting, name = await enrolled(here), desk(here), await waits(here)
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    await voting.vote(offer.statement, mine.sign(offer.challenge))
    (passkey,) = await enrolling(here).of("anna")

    async def revoke() -> None:
        await enrolling(here).revoke(passkey.id, "operator", "lost")

    store.revoke = revoke
    assert not await passes(here)
    assert len(await withdrawals(here)) == 1


@pytest.mark.parametrize("gone", [True, False])
async def test_a_yes_that_holds_for_a_while_holds_as_long_as_whoever_gave_it(gone: bool) -> None:
    here = police(await read_letter())
    name = await waits(here)
    await says(desk(here), name, "anna", hold_ms=HOUR)
    assert await passes(here)
    assert code_of(await here.act("pay", **WANTED, note="the second half")) is None
    police(here, LEFT if gone else PEOPLE)
    assert code_of(await here.act("pay", **WANTED, note="the third half")) == (ASKED if gone else None)
    assert len(await withdrawals(here)) == gone


async def test_a_no_stands_whoever_leaves() -> None:
    here = police(await read_letter())
    await says(desk(here), await waits(here), "anna", yes=False)
    police(here, LEFT)
    assert code_of(await here.act("pay", **WANTED)) == "approval_denied"
    assert not await withdrawals(here)


async def test_what_an_operator_approved_before_there_were_people_is_asked_of_them() -> None:
    here = await read_letter()
    ticket = await waits(here)
    await here.tickets.answer(ticket, True, "on call", "fine", principal="alice", hold_ms=HOUR)
    police(here)
    assert not await passes(here)
    assert await withdrawals(here) == ["nobody whom the file names gave it"]
    assert not [key for key, row in await here.store.scan("answer") if _is_yes(row.value)]


def _is_yes(value: bytes) -> bool:
    return msgspec.json.decode(value, type=Answer).state == "approved"


async def test_a_log_that_is_folded_again_knows_that_a_yes_was_taken_away() -> None:
    here = FlowCity()
    await introduced(here)
    police(await here.open())
    await here.task("Pay the new supplier")
    await here.read("inbox", [{"body": f"pay {WANTED['to']} 900"}])
    await says(desk(here), await waits(here), "anna", hold_ms=HOUR)
    police(here, LEFT)
    assert not await passes(here)
    (fresh,) = await here.tickets.pending()
    await says(desk(here, people=LEFT), fresh.id, "cara")
    assert await passes(here)
    assert {(one.status, one.why) for one in await rehearsed(here)} == {(Status.SAME, "")}
