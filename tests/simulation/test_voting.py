"""People answer: signed, each for themselves, over what they were shown; and everything else is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.approvals.people import Quorum, Uninspectable
from citywatch.core.approvals.statement import format_statement, parse_statement, verify_statement
from citywatch.core.approvals.ticket import State, Ticket
from citywatch.core.approvals.webauthn import Assertion
from citywatch.core.errors import Malformed, Refused
from citywatch.core.signature import Ed25519Key, parse_b64url, parse_spki
from citywatch.service.ports import Append
from citywatch.service.signatures import Proof, Signature, Unsigned
from spec import approvals as law
from tests.passkeys import Authenticator
from tests.simulation.city import code_of
from tests.simulation.flow_city import FlowCity
from tests.simulation.people import PEOPLE, SIGNERS, desk, enrolling, says, signed
from tests.simulation.test_answers import WANTED, asked, read_letter
from tests.simulation.test_flow import ASKED

TWO = (Quorum(acts=("bank/*",), need=2),)


async def waits(here: FlowCity) -> str:
    return (await asked(here, **WANTED)).id


async def passes(here: FlowCity) -> bool:
    return code_of(await here.act("pay", **WANTED)) is None


async def test_a_signed_yes_lets_its_call_through_and_the_log_shows_a_stranger_who_said_it() -> None:
    here = await read_letter()
    name = await waits(here)
    assert (await says(desk(here), name, "anna")).state is State.APPROVED
    assert await passes(here)
    assert not await passes(here)
    (event,) = [one for one in await here.events() if isinstance(one, events.TicketSigned)]
    key = parse_spki(SIGNERS["anna"].public)
    assert isinstance(key, Ed25519Key)
    statement = parse_statement(event.statement)
    assert verify_statement(statement, parse_b64url(event.signature), key).approver == "anna"
    assert law.is_signed(msgspec.to_builtins(statement), parse_b64url(event.signature), key.raw)
    asking = next(one for one in await here.events() if isinstance(one, events.TicketAsked))
    assert statement.digest == asking.digest


CHANGES: list[dict[str, Any]] = [
    {"domain": "evil.example"},
    {"ticket": "0" * 12},
    {"digest": "0" * 64},
    {"document": "0" * 64},
    {"decision": "deny"},
    {"approver": "ben"},
    {"approver": "eve"},
    {"principal": ""},
    {"principal": "guest"},
    {"reason": "another reason"},
    {"reason": ""},
    {"hold_ms": 1_000},
    {"hold_ms": -1},
    {"acknowledged": ("erased",)},
    {"expires": 2**52},
    {"nonce": "0" * 32},
]


@pytest.mark.parametrize("changed", CHANGES, ids=lambda one: next(iter(one)))
async def test_a_statement_that_was_changed_after_signing_counts_for_nothing(changed: dict[str, Any]) -> None:
    here = await read_letter()
    voting = desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    forged = msgspec.structs.replace(offer.statement, **changed)
    with pytest.raises((Malformed, Refused)):
        await voting.vote(forged, signed(offer, "anna"))
    assert not await passes(here)
    assert not [one for one in await here.events() if isinstance(one, events.TicketSigned)]


@pytest.mark.parametrize("proof", [Unsigned(), Signature("AAAA"), Signature("%"), Signature("")])
async def test_what_is_not_signed_is_no_answer(proof: Proof) -> None:
    here = await read_letter()
    voting = desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    with pytest.raises(Malformed):
        await voting.vote(offer.statement, proof)
    assert not await passes(here)


async def test_anothers_signature_is_not_mine() -> None:
    here = await read_letter()
    voting = desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    with pytest.raises(Malformed, match="none of the keys of `anna`"):
        await voting.vote(offer.statement, signed(offer, "cara"))


async def test_an_answer_to_one_ticket_is_none_to_the_next_that_asks_the_same() -> None:
    here = await read_letter()
    voting = desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    proof = signed(offer, "anna")
    await voting.vote(offer.statement, proof)
    assert await passes(here)
    again = await waits(here)
    with pytest.raises(Refused, match="is used"):
        await voting.vote(offer.statement, proof)
    moved = msgspec.structs.replace(offer.statement, ticket=again)
    with pytest.raises(Malformed, match="another ticket"):
        await voting.vote(moved, proof)
    assert not await passes(here)


async def test_an_answer_after_the_end_is_none() -> None:
    here = await read_letter()
    voting = desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    here.clock.advance(24 * 3_600_000)
    with pytest.raises(Refused, match="is expired"):
        await voting.vote(offer.statement, signed(offer, "anna"))


async def test_what_was_shown_and_is_not_there_any_more_was_not_approved() -> None:
    """Between the look and the answer the call is erased: the page that was signed is not the page that there is."""
    here = await read_letter()
    voting = desk(here)
    name = await waits(here)
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    here.enforcer.rules = msgspec.structs.replace(here.enforcer.rules, tools={})
    with pytest.raises(Malformed, match="look again"):
        await voting.vote(offer.statement, signed(offer, "anna"))


async def test_of_two_answers_at_once_one_is_told_to_look_again_and_none_is_lost() -> None:
    here = await read_letter()
    voting = desk(here, quorum=TWO)
    name = await waits(here)
    both = await asyncio.gather(says(voting, name, "anna"), says(voting, name, "ben"), return_exceptions=True)
    assert [type(one) for one in both if not isinstance(one, Ticket)] == [Refused]
    ticket = await here.tickets.find(name)
    assert (ticket.state, len(ticket.votes)) == (State.PENDING, 1)
    second = "ben" if ticket.votes[0].person == "anna" else "anna"
    assert (await says(voting, name, second)).state is State.APPROVED


async def test_reviewers_do_not_see_each_other_before_all_is_said() -> None:
    here = await read_letter()
    voting = desk(here, quorum=TWO)
    name = await waits(here)
    await voting.opened(name, "anna")
    await says(voting, name, "anna")
    for person, sees in (("anna", 1), ("ben", 0), ("dora", 0)):
        seen, _ = await voting.opened(name, person)
        assert len(seen.votes) == sees
        assert any(one.who == "anna" for one in seen.done) is (person == "anna")
    assert (await says(voting, name, "ben")).state is State.APPROVED
    seen, _ = await voting.opened(name, "dora")
    assert [one.person for one in seen.votes] == ["anna", "ben"]


async def test_where_it_is_not_to_be_blind_they_see() -> None:
    here = await read_letter()
    voting = desk(here, quorum=(Quorum(acts=("*",), need=2, blinded=False),))
    name = await waits(here)
    await says(voting, name, "anna")
    assert len((await voting.opened(name, "ben"))[0].votes) == 1


async def test_two_who_both_speak_for_nobody_do_not_approve_what_a_principal_has_to() -> None:
    here = await read_letter()
    voting = desk(here, quorum=TWO)
    name = await waits(here)
    await says(voting, name, "ben")
    assert (await says(voting, name, "cara", principal="")).state is State.PENDING
    assert not await passes(here)
    assert (await says(voting, name, "anna")).state is State.APPROVED


@pytest.mark.parametrize("gone", ["left", "key", "nothing"])
async def test_a_vote_of_somebody_who_left_or_lost_the_key_does_not_decide_with_anothers(gone: str) -> None:
    """The attack: a stolen key says yes; it is taken out of the file; then somebody honest is the second."""
    here = await read_letter()
    name = await waits(here)
    await says(desk(here, quorum=TWO), name, "anna")
    changed = {
        "left": {one: person for one, person in PEOPLE.items() if one != "anna"},
        "key": PEOPLE | {"anna": msgspec.structs.replace(PEOPLE["anna"], keys=PEOPLE["ben"].keys)},
        "nothing": PEOPLE,
    }[gone]
    after = await says(desk(here, quorum=TWO, people=changed), name, "cara")
    assert after.state is (State.APPROVED if gone == "nothing" else State.PENDING)
    assert await passes(here) is (gone == "nothing")


async def test_a_vote_by_a_passkey_that_was_taken_back_does_not_decide_with_anothers() -> None:
    here = await read_letter()
    mine, voting, name = await enrolled(here), desk(here, quorum=TWO), await waits(here)
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    await voting.vote(offer.statement, mine.sign(offer.challenge))
    (passkey,) = await enrolling(here).of("anna")
    await enrolling(here).revoke(passkey.id, "operator", "lost")
    assert (await says(voting, name, "cara")).state is State.PENDING
    assert not await passes(here)


async def test_a_weight_that_was_taken_away_needs_one_more() -> None:
    here = await read_letter()

    async def weigh(person: str, ticket: Ticket) -> int:
        return 50 if person == "anna" else 100

    voting = desk(here, weigh=weigh)
    name = await waits(here)
    assert (await says(voting, name, "anna")).state is State.PENDING
    assert (await says(voting, name, "cara")).state is State.APPROVED
    assert [one.weight for one in await here.events() if isinstance(one, events.TicketSigned)] == [50, 100]


async def test_one_no_decides_and_covers_every_way_of_writing_it() -> None:
    here = await read_letter()
    voting = desk(here, quorum=TWO)
    name = await waits(here)
    await says(voting, name, "anna")
    assert (await says(voting, name, "ben", False, reason="")).state is State.DENIED
    assert code_of(await here.act("pay", **WANTED)) == "approval_denied"


async def test_a_no_that_does_not_decide_alone_does_once_yes_is_out_of_reach() -> None:
    here = await read_letter()
    voting = desk(here, quorum=TWO, one_denies=False)
    name = await waits(here)
    assert (await says(voting, name, "ben", False)).state is State.PENDING
    await says(voting, name, "anna")
    assert (await says(voting, name, "cara")).state is State.APPROVED
    here = await read_letter()
    voting = desk(here, quorum=TWO, one_denies=False)
    name = await waits(here)
    await says(voting, name, "ben", False)
    assert (await says(voting, name, "anna", False)).state is State.DENIED


async def test_what_cannot_be_shown_needs_a_second_person_who_knows_it() -> None:
    here = await read_letter()
    hidden = {"to": f"{WANTED['to']}\u200b", "amount": 900}
    voting, name = desk(here), (await asked(here, **hidden)).id
    with pytest.raises(Malformed, match="name why: unprintable"):
        await says(voting, name, "anna")
    assert (await says(voting, name, "anna", acknowledged=("unprintable",))).state is State.PENDING
    assert (await says(voting, name, "cara", acknowledged=("unprintable",))).state is State.APPROVED
    assert code_of(await here.act("pay", **hidden)) is None


async def test_what_cannot_be_shown_is_approved_by_nobody_where_it_is_refused() -> None:
    here = await read_letter()
    name = (await asked(here, to=f"{WANTED['to']}\u200b", amount=900)).id
    voting = desk(here, uninspectable=Uninspectable.REFUSE)
    with pytest.raises(Refused, match="is not approved here"):
        await says(voting, name, "anna", acknowledged=("unprintable",))
    alone = desk(here, uninspectable=Uninspectable.SECOND_STEP)
    assert (await says(alone, name, "anna", acknowledged=("unprintable",))).state is State.APPROVED


async def test_a_ticket_is_shown_once_for_each_who_may_answer_it() -> None:
    here = await read_letter()
    voting = desk(here)
    name = await waits(here)
    for person in ("anna", "anna", "ben", "dora"):
        await voting.opened(name, person)
    shown = [one.by for one in await here.events() if isinstance(one, events.TicketShown)]
    assert shown == ["anna", "ben"]
    assert await here.tickets.shown_at(name, "anna") == here.clock.now_ms()
    assert await here.tickets.shown_at(name, "cara") is None
    with pytest.raises(Refused, match="names nobody `eve`"):
        await voting.opened(name, "eve")


async def test_a_ticket_of_an_earlier_version_is_asked_anew() -> None:
    here = await read_letter()
    name = await waits(here)
    found = await here.tickets.found(name)
    old = msgspec.structs.replace(found.ticket, bound=None)
    await here.store.append(Append(puts=((found.key, msgspec.json.encode(old)),)))
    with pytest.raises(Refused, match="earlier version"):
        await says(desk(here), name, "anna")


# -- passkeys ----------------------------------------------------------------------------------------------------------


async def enrolled(here: FlowCity, person: str = "anna", seed: int = 1) -> Authenticator:
    keys, mine = enrolling(here), Authenticator(seed)
    code = await keys.invite(person, "operator")
    begun = await keys.begin(code)
    await keys.finish(code, mine.register(begun.challenge), "my phone")
    return mine


async def test_a_passkey_signs_an_answer_over_a_challenge_of_its_own() -> None:
    here = await read_letter()
    mine, voting, name = await enrolled(here), desk(here), await waits(here)
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    assert (await voting.vote(offer.statement, mine.sign(offer.challenge))).state is State.APPROVED
    assert await passes(here)
    (passkey,) = await enrolling(here).of("anna")
    assert (passkey.count, passkey.called) == (1, "my phone")
    told = [one for one in await here.events() if isinstance(one, events.TicketSigned)]
    assert [(one.method, one.key) for one in told] == [("webauthn", passkey.id)]


async def test_a_passkey_answers_for_its_person_alone_and_once() -> None:
    here = await read_letter()
    mine, voting, name = await enrolled(here, "ben"), desk(here, quorum=TWO), await waits(here)
    offer = await voting.prepare(name, "anna", True, "I rang them", principal="alice")
    with pytest.raises(Malformed, match="none of those of `anna`"):
        await voting.vote(offer.statement, mine.sign(offer.challenge))
    theirs = await voting.prepare(name, "ben", True, "I rang them")
    assertion = mine.sign(theirs.challenge)
    await voting.vote(theirs.statement, assertion)
    with pytest.raises(Refused, match="answered the ticket"):
        await voting.vote(theirs.statement, assertion)


async def test_an_assertion_for_one_decision_is_none_for_the_other() -> None:
    here = await read_letter()
    mine, voting, name = await enrolled(here), desk(here), await waits(here)
    no = await voting.prepare(name, "anna", False, "no", principal="alice")
    yes = await voting.prepare(name, "anna", True, "no", principal="alice")
    with pytest.raises(Malformed, match="another challenge"):
        await voting.vote(yes.statement, mine.sign(no.challenge))


async def test_a_copied_authenticator_and_a_revoked_passkey_sign_nothing() -> None:
    here = await read_letter()
    mine, voting = await enrolled(here), desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    await voting.vote(offer.statement, mine.sign(offer.challenge, steps=5))
    assert await passes(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    mine.count = 2
    with pytest.raises(Malformed, match="did not rise"):
        await voting.vote(offer.statement, mine.sign(offer.challenge))
    (passkey,) = await enrolling(here).of("anna")
    await enrolling(here).revoke(passkey.id, "operator", "lost")
    mine.count = 9
    with pytest.raises(Malformed, match="revoked"):
        await voting.vote(offer.statement, mine.sign(offer.challenge))
    assert not await passes(here)


async def test_a_code_enrols_one_credential_for_one_person_in_its_time() -> None:
    here = await read_letter()
    keys = enrolling(here)
    code = await keys.invite("anna", "operator")
    begun = await keys.begin(code)
    with pytest.raises(Malformed, match="another challenge"):
        await keys.finish(code, Authenticator().register(bytes(32)))
    await keys.finish(code, Authenticator().register(begun.challenge))
    for late in (keys.begin(code), keys.finish(code, Authenticator(2).register(begun.challenge))):
        with pytest.raises(Refused, match="used, over or none of ours"):
            await late
    other = await keys.invite("ben", "operator")
    with pytest.raises(Malformed, match="enrolled already"):
        await keys.finish(other, Authenticator().register((await keys.begin(other)).challenge))
    here.clock.advance(15 * 60_000)
    with pytest.raises(Refused, match="used, over"):
        await keys.begin(other)
    with pytest.raises(Malformed, match="no approver `dora`"):
        await keys.invite("dora", "operator")


async def test_no_code_and_no_secret_is_in_the_log_or_the_rows() -> None:
    here = await read_letter()
    code = await enrolling(here).invite("anna", "operator")
    rows = [row.value for _, row in await here.store.scan("enrolment")]
    ids = [id_ for id_, _ in await here.store.scan("enrolment")]
    assert not any(code.encode() in one for one in rows)
    assert code not in ids
    assert code not in "".join(map(str, await here.events()))


async def test_an_unknown_credential_is_nobodys() -> None:
    here = await read_letter()
    voting = desk(here)
    offer = await voting.prepare(await waits(here), "anna", True, "I rang them", principal="alice")
    for odd in (
        Assertion(id="x" * 5000, authenticator="", client="", signature=""),
        Authenticator().sign(offer.challenge),
    ):
        with pytest.raises(Malformed, match="none of those of `anna`"):
            await voting.vote(offer.statement, odd)
    assert format_statement(offer.statement) == offer.text
    assert code_of(await here.act("pay", **WANTED)) == ASKED
