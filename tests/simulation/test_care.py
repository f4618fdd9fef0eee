"""A yes takes care, wherever it is given: shown first, long enough, with a reason, within a budget; floods are seen."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core import events
from citywatch.core.approvals.people import Approvals, Quorum
from citywatch.core.approvals.reading import dwell_ms
from citywatch.core.approvals.recorded import reading_of
from citywatch.core.approvals.seal import is_what_was_sealed
from citywatch.core.approvals.ticket import State
from citywatch.core.approvals.vigilance import Bar
from citywatch.core.errors import Malformed, Refused
from citywatch.core.log.entry import encode_event
from citywatch.core.manifest import Budget, Impact
from citywatch.core.policy.cedar import Source, parse_policies
from citywatch.main.replay import rebuild
from citywatch.service.care import Care
from citywatch.service.counting import whole
from citywatch.service.documents import Documents
from citywatch.service.floodwatch import Floodwatch
from citywatch.service.ports import NewEntry
from citywatch.service.queueing import Queueing
from citywatch.service.vigilance import Watching
from citywatch.service.voting import Voting
from tests.passkeys import RP
from tests.simulation.city import code_of
from tests.simulation.flow_city import MANIFESTS, POLICY, TOOLS, FlowCity
from tests.simulation.people import DOMAIN, PEOPLE, named, says, signed
from tests.simulation.test_answers import WANTED, asked, read_letter

MINUTE = 60_000


def desk(here: FlowCity, **changes: object) -> Voting:
    approvals = Approvals(passkeys=RP, **changes)  # type: ignore[arg-type]
    return Voting(
        named(here, PEOPLE, approvals).tickets,
        Documents(here.store, lambda: here.enforcer.rules, rebuild),
        people={name: msgspec.structs.replace(one, per_hour=2) for name, one in PEOPLE.items()},
        approvals=approvals,
        domain=DOMAIN,
        weigh=Watching(here.store, Bar()).weigh,
        care=Care(here.tickets, here.chance, people=PEOPLE, approvals=approvals),
    )


async def test_a_yes_in_no_time_is_refused_wherever_it_comes_from_and_a_no_is_not() -> None:
    here = await read_letter()
    name = (await asked(here, **WANTED)).id
    voting = desk(here)
    with pytest.raises(Malformed, match="was not shown the ticket"):
        await says(voting, name, "anna")
    _, document = await voting.opened(name, "anna")
    least = dwell_ms(*reading_of(document))
    assert least > 10_000, "there is something to read"
    here.clock.advance(least - 1)
    with pytest.raises(Malformed, match="read it first"):
        await says(voting, name, "anna")
    with pytest.raises(Malformed, match="was not shown"):
        await says(voting, name, "cara"), "anna's time is not cara's"
    here.clock.advance(1)
    assert (await says(voting, name, "anna")).state is State.APPROVED
    other = (await asked(here, **{**WANTED, "amount": 7})).id
    assert (await says(voting, other, "cara", yes=False)).state is State.DENIED


async def test_a_yes_to_a_value_that_nobody_entitled_has_a_reason_of_its_own_words() -> None:
    here = await read_letter()
    name = (await asked(here, **WANTED)).id
    voting = desk(here, reason_required=False)
    await voting.opened(name, "anna")
    here.clock.advance(10 * MINUTE)
    for reason in ("", "ok"):
        with pytest.raises(Malformed, match="in words of your own"):
            await says(voting, name, "anna", reason=reason)
    assert (await says(voting, name, "anna", reason="rang the payee on their known number")).state is State.APPROVED


async def test_in_an_hour_nobody_says_yes_more_often_than_their_budget() -> None:
    here = await read_letter()
    approvals = Approvals(unsafe_hasty=True, passkeys=RP)
    few = {name: msgspec.structs.replace(one, per_hour=2) for name, one in PEOPLE.items()}
    documents = Documents(here.store, lambda: here.enforcer.rules, rebuild)
    care = Care(here.tickets, here.chance, people=few, approvals=approvals)
    voting = Voting(here.tickets, documents, people=few, approvals=approvals, domain=DOMAIN, weigh=whole, care=care)
    for amount in (11, 12):
        name = (await asked(here, **{**WANTED, "amount": amount})).id
        assert (await says(voting, name, "anna")).state is State.APPROVED
    last = (await asked(here, **{**WANTED, "amount": 13})).id
    with pytest.raises(Refused, match="2 times in this hour: leave it to somebody else"):
        await says(voting, last, "anna")
    assert (await here.tickets.find(last)).state is State.PENDING
    assert (await says(voting, last, "cara")).state is State.APPROVED


async def test_what_a_ticket_is_stands_sealed_before_the_answer_and_is_said_after_it() -> None:
    here = await read_letter()
    name = (await asked(here, **WANTED)).id
    voting = desk(here, quorum=(Quorum(acts=("bank/*",), need=2),))
    for who in ("anna", "cara", "anna"):
        await voting.opened(name, who)
    here.clock.advance(10 * MINUTE)
    assert (await says(voting, name, "anna")).state is State.PENDING
    seals = [one for one in await here.events() if isinstance(one, events.TicketSealed)]
    assert [one.by for one in seals] == ["anna", "cara"]
    assert len({one.seal for one in seals}) == 1, "it is sealed once"
    assert not [one for one in await here.events() if isinstance(one, events.TicketUnsealed)]
    await says(voting, name, "cara")
    (said,) = [one for one in await here.events() if isinstance(one, events.TicketUnsealed)]
    assert is_what_was_sealed(seals[0].seal, name, said.kind, said.category, said.salt)
    assert said.kind == "call"
    rates = (await Watching(here.store, Bar()).now()).rates("anna")
    assert (rates.answered, rates.approved, rates.targets) == (1, 1, 0)
    assert rates.pace is not None


async def test_who_lost_their_weight_is_no_voice_for_yes_and_one_for_no() -> None:
    from tests.unit.core.approvals.test_vigilance import CANARY, many

    here = await read_letter()
    from citywatch.core.log.entry import encode_event
    from citywatch.service.ports import Append, NewEntry

    missed = tuple(NewEntry(encode_event(one)) for one in many("anna", CANARY, "yyyy", "canary"))
    await here.store.append(Append(entries=missed))
    name = (await asked(here, **WANTED)).id
    voting = desk(here, unsafe_hasty=True, one_denies=False)
    assert (await says(voting, name, "anna")).state is State.PENDING
    assert (await says(voting, name, "cara")).state is State.APPROVED


async def test_a_flood_is_entered_once_and_its_agent_put_aside_and_an_honest_day_is_not() -> None:
    here = await read_letter()
    aside: list[tuple[str, str]] = []

    async def lay(agent: str, reason: str) -> None:
        aside.append((agent, reason))

    def watch() -> Floodwatch:
        queueing = Queueing(here.tickets, PEOPLE, Approvals())
        return Floodwatch(queueing, store=here.store, clock=here.clock, replica="r1", lay=lay)

    for amount in range(8):
        await asked(here, **{**WANTED, "amount": 100 + amount})
    assert await watch().sweep() == ()
    view = await Queueing(here.tickets, PEOPLE, Approvals()).look()
    assert (len(view.queued), view.floods) == (1, ()), "of one payee they are one question"
    assert view.queued[0].line.count == 8
    for amount in range(8, 27):
        await asked(here, **{**WANTED, "amount": 100 + amount})
    strikes = await watch().sweep()
    assert [one.number for one in strikes if one.kind == "agent"] == [1, 2, 3]
    assert aside == [("clerk", "it flooded people with questions")]
    assert await watch().sweep() == ()
    assert len(aside) == 1
    entered = [one for one in await here.events() if isinstance(one, events.FloodStruck)]
    assert [(one.kind, one.number, one.aside) for one in entered if one.kind == "agent"] == [
        ("agent", 1, False),
        ("agent", 2, False),
        ("agent", 3, True),
    ]
    after = await Queueing(here.tickets, PEOPLE, Approvals()).look()
    assert after.queued == (), "nobody is asked for an agent that was put aside"


@pytest.mark.parametrize("impact", [Impact.LOW, Impact.MEDIUM, Impact.HIGH, Impact.CRITICAL])
async def test_what_costs_more_by_the_file_is_asked_first_and_an_act_that_says_nothing_stands_by_its_effect(
    impact: Impact,
) -> None:
    """A file is deleted by an act as hard to take back as a payment: which comes first, only the file can say."""
    here = await read_letter()
    servers = {"bank": {**MANIFESTS, "delete_file": msgspec.structs.replace(MANIFESTS["delete_file"], impact=impact)}}
    here.configured = msgspec.structs.replace(here.configured, servers=servers)
    here.enforcer.rules = here.rules(*TOOLS)
    first, later = await asked(here, **WANTED), await asked(here, "delete_file", id="x-99")
    assert (first.impact, later.impact) == (1, impact.times)
    queued = (await Queueing(here.tickets, PEOPLE, Approvals()).look()).queued
    stakes = {one.ticket.tool: one.line.stake for one in queued}
    assert stakes["delete_file"] * 3 == stakes["pay"] * 2 * impact.times, "two values of nobody's stand against one"
    dearest = "delete_file" if impact.times > 1 else "pay"
    assert queued[0].ticket.tool == dearest


async def test_each_person_is_shown_what_reaches_them_and_they_have_not_answered() -> None:
    here = await read_letter()
    name = (await asked(here, **WANTED)).id
    approvals = Approvals(unsafe_hasty=True, passkeys=RP, quorum=(Quorum(acts=("bank/*",), need=2),))
    queueing = Queueing(here.tickets, PEOPLE, approvals)
    voting = desk(here, unsafe_hasty=True, quorum=approvals.quorum)
    assert [[one.ticket.id for one in (await queueing.look(who)).queued] for who in ("anna", "dora")] == [[name], []]
    await says(voting, name, "anna")
    assert [len((await queueing.look(who)).queued) for who in ("anna", "cara")] == [0, 1]


async def test_a_signature_given_before_the_time_is_good_once_it_has_come() -> None:
    """What counts is when the answer comes, and not when it was signed."""
    here = await read_letter()
    name = (await asked(here, **WANTED)).id
    voting = desk(here)
    await voting.opened(name, "anna")
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    with pytest.raises(Malformed, match="read it first"):
        await voting.vote(offer.statement, signed(offer, "anna"))
    here.clock.advance(5 * MINUTE)
    assert (await voting.vote(offer.statement, signed(offer, "anna"))).state is State.APPROVED


FORBIDS = '@id("no") forbid(principal, action == Action::"bank/pay", resource);'


@settings(max_examples=40, deadline=None)
@given(
    forbidden=st.booleans(),
    spent=st.booleans(),
    withdrawn=st.booleans(),
    amounts=st.lists(st.integers(1, 10**6), min_size=1, max_size=4, unique=True),
)
def test_nobody_is_asked_about_what_would_be_refused_anyway(
    forbidden: bool, spent: bool, withdrawn: bool, amounts: list[int]
) -> None:
    """Whatever stands against a call, it opens a ticket exactly if nothing but a person's word is missing."""

    async def run() -> None:
        here = await read_letter()
        if forbidden:
            here.policies = parse_policies([Source("test.cedar", POLICY + FORBIDS)])
        if spent:
            budget = {("bank", "pay"): (Budget(calls=1),)}
            here.configured = msgspec.structs.replace(here.configured, budgets={"clerk": budget})
        tools = [one for one in TOOLS if not withdrawn or one["name"] != "pay"]
        here.enforcer.rules = here.rules(*tools)
        if spent:
            await here.act("pay", **WANTED)
        before = len(await here.tickets.pending())
        for amount in amounts:
            code = code_of(await here.act("pay", **{**WANTED, "amount": amount + 10**7}))
            assert (code == "approval_required") is not (forbidden or spent or withdrawn)
        opened = len(await here.tickets.pending()) - before
        assert opened == (0 if forbidden or spent or withdrawn else len(amounts))

    asyncio.run(run())


async def test_a_yes_to_what_is_shown_otherwise_by_now_takes_another_look() -> None:
    """The attack: what stood around a value is erased, or a tool approved anew, between the look and the yes; the
    statement is over what is shown now, and nobody has read that."""
    here = await read_letter()
    name = (await asked(here, **WANTED)).id
    voting = desk(here)
    before = (await voting.opened(name, "anna"))[1]
    here.clock.advance(10 * MINUTE)
    await _forget(here)
    assert (await voting.show(name, "anna")).document != before
    with pytest.raises(Malformed, match=r"was not shown the ticket .* as it is now"):
        await says(voting, name, "anna")
    await voting.opened(name, "anna")
    with pytest.raises(Malformed, match="read it first"):
        await says(voting, name, "anna")
    here.clock.advance(10 * MINUTE)
    assert (await says(voting, name, "anna")).state is State.APPROVED


async def _forget(here: FlowCity) -> None:
    """Erase what the letters said that an agent was given."""
    for index, event in enumerate(await here.events()):
        if isinstance(event, events.Settled):
            erased = events.Erased(at=here.clock.now_ms(), replica="r1", index=index, by="operator", reason="asked to")
            await here.store.erase(index, NewEntry(encode_event(erased)))
