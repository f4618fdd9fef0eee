"""An approver is away, and somebody stands in: what they may answer, and what nobody gains by it."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import Any

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.approvals.absence import Absence, absence_bytes, parse_absence
from citywatch.core.approvals.people import Duty, Person, Quorum
from citywatch.core.approvals.statement import parse_statement
from citywatch.core.approvals.ticket import State
from citywatch.core.errors import Malformed, Refused
from citywatch.service.absences import Absences
from citywatch.service.ports import Append
from citywatch.service.queueing import Queueing
from tests.simulation.flow_city import FlowCity
from tests.simulation.people import DOMAIN, PEOPLE, SIGNERS, desk, says
from tests.simulation.test_answers import HOUR, read_letter
from tests.simulation.test_voting import TWO, passes, waits
from tests.simulation.test_withdrawing import police, withdrawals

ELSEWHERE = msgspec.structs.replace(PEOPLE["ben"], answers=("mail/*",))
"""Ben is an approver, whom no act of the bank reaches but in somebody's place."""
HERE = PEOPLE | {"anna": msgspec.structs.replace(PEOPLE["anna"], deputies=("ben", "cara")), "ben": ELSEWHERE}
BOTH = HERE | {"cara": msgspec.structs.replace(PEOPLE["cara"], deputies=("ben",))}


def absences(here: FlowCity, people: dict[str, Person] = HERE) -> Absences:
    return Absences(store=here.store, clock=here.clock, replica="r1", people=people, domain=DOMAIN)


async def goes(here: FlowCity, who: str, deputy: str, people: dict[str, Person] = HERE, hours: int = 4) -> Absence:
    here.clock.advance(1)
    until = here.clock.now_ms() + hours * HOUR if deputy else 0
    said = await absences(here, people).prepare(who, deputy, until)
    await absences(here, people).say(said, _signature(said, who))
    return said


def _signature(said: Absence, who: str) -> str:
    return urlsafe_b64encode(SIGNERS[who].sign(absence_bytes(said))).rstrip(b"=").decode()


async def test_a_deputy_answers_in_the_place_of_whoever_is_away_and_the_log_says_so() -> None:
    here = police(await read_letter(), HERE)
    name = await waits(here)
    with pytest.raises(Refused, match="is not for `ben` to answer"):
        await says(desk(here, people=HERE), name, "ben", principal="alice")
    said = await goes(here, "anna", "ben")
    assert (await says(desk(here, people=HERE), name, "ben", principal="alice")).state is State.APPROVED
    assert await passes(here)
    (away,) = [one for one in await here.events() if isinstance(one, events.AbsenceSaid)]
    assert (parse_absence(away.statement), away.person, away.deputy) == (said, "anna", "ben")
    (answer,) = [one for one in await here.events() if isinstance(one, events.TicketSigned)]
    statement = parse_statement(answer.statement)
    assert (statement.approver, statement.place, statement.principal) == ("ben", "anna", "alice")
    (decided,) = [one for one in await here.events() if isinstance(one, events.TicketAnswered)]
    assert decided.by == "ben"


async def test_whoever_is_away_answers_nothing_until_they_are_back() -> None:
    here = police(await read_letter(), HERE)
    name = await waits(here)
    await goes(here, "anna", "ben")
    for yes in (True, False):
        with pytest.raises(Refused, match="`anna` is away"):
            await says(desk(here, people=HERE), name, "anna", yes=yes)
    await goes(here, "anna", "")
    with pytest.raises(Refused, match="is not for `ben` to answer"):
        await says(desk(here, people=HERE), name, "ben", principal="alice")
    assert (await says(desk(here, people=HERE), name, "anna")).state is State.APPROVED


async def test_an_absence_ends_by_itself_and_with_the_key_that_signed_it() -> None:
    here = police(await read_letter(), HERE)
    name = await waits(here)
    await goes(here, "anna", "ben")
    lost = HERE | {"anna": msgspec.structs.replace(HERE["anna"], keys=PEOPLE["cara"].keys)}
    with pytest.raises(Refused, match="is not for `ben` to answer"):
        await says(desk(here, people=lost), name, "ben", principal="alice")
    here.clock.advance(4 * HOUR)
    with pytest.raises(Refused, match="is not for `ben` to answer"):
        await says(desk(here, people=HERE), name, "ben", principal="alice")


async def test_nobody_counts_twice_neither_in_two_places_nor_with_whom_they_stand_in_for() -> None:
    """Undefended, ben alone would be two of two; so would anna, with ben's yes in her place and then her own."""
    here = police(await read_letter(), BOTH, quorum=TWO)
    voting, name = desk(here, people=BOTH, quorum=TWO), await waits(here)
    await goes(here, "anna", "ben", BOTH)
    await goes(here, "cara", "ben", BOTH)
    assert (await says(voting, name, "ben", principal="alice")).state is State.PENDING
    with pytest.raises(Refused, match="has answered"):
        await says(voting, name, "ben", principal="alice")
    await goes(here, "anna", "", BOTH)
    assert (await says(voting, name, "anna")).state is State.PENDING, "ben stands in for her no more"
    assert not await passes(here)
    await goes(here, "cara", "", BOTH)
    assert (await says(voting, name, "cara")).state is State.APPROVED
    assert await passes(here)


async def test_what_somebody_said_themselves_is_not_undone_by_what_their_deputy_said_before() -> None:
    """The attack: a deputy says yes; whoever they stood in for is back and says no, and goes away once more."""
    three = HERE | {"eve": msgspec.structs.replace(PEOPLE["cara"], name="eve", keys=())}
    here = police(await read_letter(), three, quorum=TWO, one_denies=False)
    voting, name = desk(here, people=three, quorum=TWO, one_denies=False), await waits(here)
    await goes(here, "anna", "ben", three)
    await says(voting, name, "ben", principal="alice")
    await goes(here, "anna", "", three)
    assert (await says(voting, name, "anna", False)).state is State.PENDING
    await goes(here, "anna", "ben", three)
    assert (await says(voting, name, "cara")).state is State.PENDING


async def test_a_place_that_was_answered_is_not_answered_again_by_a_deputy() -> None:
    here = police(await read_letter(), HERE, quorum=TWO)
    voting, name = desk(here, people=HERE, quorum=TWO), await waits(here)
    await says(voting, name, "anna")
    await goes(here, "anna", "ben")
    with pytest.raises(Refused, match="`anna` has answered the ticket"):
        await says(voting, name, "ben", principal="alice")
    assert (await says(voting, name, "cara")).state is State.APPROVED, "what she said before she went stands"


async def test_what_somebody_stands_in_for_is_not_handed_on() -> None:
    chain = HERE | {"ben": msgspec.structs.replace(ELSEWHERE, deputies=("cara",))}
    chain["cara"] = msgspec.structs.replace(PEOPLE["cara"], answers=("mail/*",))
    here = police(await read_letter(), chain)
    name = await waits(here)
    await goes(here, "anna", "ben", chain)
    await goes(here, "ben", "cara", chain)
    for who in ("ben", "cara"):
        with pytest.raises(Refused, match=r"is away|is not for"):
            await says(desk(here, people=chain), name, who, principal="alice")
    ticket, audience = (await here.tickets.found(name)).ticket, await desk(here, people=chain).audience()
    assert [audience.places_of(ticket, who) for who in ("anna", "ben", "cara")] == [(), (), ()]


@pytest.mark.parametrize("whose", ["anna", "ben"])
async def test_nobody_gets_round_not_own_by_a_deputy_nor_as_one(whose: str) -> None:
    people = dict(HERE)
    people["anna"] = msgspec.structs.replace(HERE["anna"], speaks_for=("alice", "guest"))
    people["ben"] = msgspec.structs.replace(ELSEWHERE, speaks_for=("guest",) if whose == "ben" else ())
    people["anna"] = people["anna"] if whose == "anna" else HERE["anna"]
    here = police(await read_letter(), people, not_own=("bank/*",))
    name = await waits(here)
    found = await here.tickets.found(name)
    owned = msgspec.structs.replace(found.ticket, authority=("guest",))
    await here.store.append(Append(puts=((found.key, msgspec.json.encode(owned)),)))
    await goes(here, "anna", "ben", people)
    with pytest.raises(Refused, match=f"uses the authority of `guest`, for whom `{whose}` speaks"):
        await says(desk(here, people=people, not_own=("bank/*",)), name, "ben", principal="alice")


async def test_in_anothers_place_one_speaks_in_their_names_alone() -> None:
    people = HERE | {"ben": msgspec.structs.replace(ELSEWHERE, speaks_for=("guest",))}
    here = police(await read_letter(), people)
    name = await waits(here)
    await goes(here, "anna", "ben", people)
    with pytest.raises(Malformed, match="`anna` does not speak for `guest`"):
        await says(desk(here, people=people), name, "ben", principal="guest")


async def test_a_deputy_who_has_a_place_of_their_own_takes_anothers_only_to_speak_for_them() -> None:
    people = HERE | {"ben": PEOPLE["ben"]}
    here = police(await read_letter(), people, quorum=(Quorum(acts=("bank/*",), need=2),))
    voting, name = desk(here, people=people, quorum=TWO), await waits(here)
    await goes(here, "anna", "ben", people)
    offer = await voting.prepare(name, "ben", True, "I rang them")
    assert offer.statement.place == ""
    offer = await voting.prepare(name, "ben", True, "I rang them", principal="alice")
    assert offer.statement.place == "anna"


async def test_a_statement_names_the_place_and_no_other() -> None:
    here = police(await read_letter(), HERE)
    voting, name = desk(here, people=HERE), await waits(here)
    await goes(here, "anna", "ben")
    offer = await voting.prepare(name, "ben", True, "I rang them", principal="alice")
    for place in ("", "cara", "ben", "dora", "nobody"):
        forged = msgspec.structs.replace(offer.statement, place=place)
        with pytest.raises(Refused, match="is not for `ben`"):
            await voting.judge(forged)


async def test_a_yes_of_a_deputy_lasts_as_long_as_they_stand_in() -> None:
    here = police(await read_letter(), HERE)
    name = await waits(here)
    await goes(here, "anna", "ben")
    assert (await says(desk(here, people=HERE), name, "ben", principal="alice")).state is State.APPROVED
    await goes(here, "anna", "")
    assert not await passes(here)
    assert await withdrawals(here) == ["the yes of `ben` does not stand any more"]


async def test_the_weight_is_that_of_whoever_answers() -> None:
    here = police(await read_letter(), HERE)
    name = await waits(here)
    await goes(here, "anna", "ben")

    async def weigh(person: str, _: Any) -> int:
        return 0 if person == "ben" else 100

    after = await says(desk(here, people=HERE, weigh=weigh), name, "ben", principal="alice")
    assert after.state is State.PENDING


async def test_what_somebody_is_asked_is_what_they_can_answer() -> None:
    here = police(await read_letter(), HERE)
    name = await waits(here)
    queueing = Queueing(here.tickets, HERE, here.enforcer.rules.approvals, None, absences(here))

    async def listed(who: str) -> list[str]:
        return [one.ticket.id for one in (await queueing.look(who)).queued]

    assert (await listed("anna"), await listed("ben")) == ([name], [])
    await goes(here, "anna", "ben")
    assert (await listed("anna"), await listed("ben")) == ([], [name])


async def test_a_statement_of_absence_is_taken_once_and_signed() -> None:
    here = police(await read_letter(), HERE)
    said = await goes(here, "anna", "ben")
    await goes(here, "anna", "")
    with pytest.raises(Malformed, match="older than the last one"):
        await absences(here).say(said, _signature(said, "anna"))
    here.clock.advance(1)
    fresh = await absences(here).prepare("anna", "ben", here.clock.now_ms() + HOUR)
    with pytest.raises(Malformed, match="none of the keys of `anna`"):
        await absences(here).say(fresh, _signature(fresh, "ben"))
    assert not await absences(here).now()


async def test_an_auditor_is_nobodys_deputy_whatever_the_file_says() -> None:
    odd = HERE | {"anna": msgspec.structs.replace(HERE["anna"], deputies=("dora",))}
    assert Duty.APPROVER not in odd["dora"].roles
    here = police(await read_letter(), odd)
    with pytest.raises(Refused, match="`dora` is no approver"):
        await goes(here, "anna", "dora", odd)
