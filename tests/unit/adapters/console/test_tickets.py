"""Whose answer it is, the session says: what a page brings back in another's name counts for nobody."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path

import msgspec
import pytest

from citywatch.adapters.console.answering import ANSWERS
from citywatch.adapters.memory import MemorySigner
from citywatch.core.approvals.absence import absence_bytes
from citywatch.core.approvals.people import Approvals, Duty, Passkeys, Person
from citywatch.core.approvals.showing import Why
from citywatch.core.approvals.statement import Statement, format_statement
from citywatch.core.approvals.ticket import State, Ticket, rows_of
from citywatch.service.ports import Append
from tests.unit.adapters.console.world import ORIGIN, World, post, proof_of

ANNA = Person(name="anna", roles=(Duty.APPROVER,), answers=("*",))
BEN = Person(name="ben", roles=(Duty.APPROVER,), answers=("*",))
RP = Passkeys(rp_id="city-1.localhost", origins=(ORIGIN,))


def world(folder: Path) -> World:
    return World(folder, people=(ANNA, BEN), approvals=Approvals(passkeys=RP))


def statement(**changed: object) -> str:
    told: dict[str, object] = {
        "domain": "t.example", "ticket": "abc", "digest": "d", "document": "d", "decision": "approve",
        "approver": "anna", "principal": "", "reason": "I rang them", "hold_ms": 0, "acknowledged": (),
        "expires": 1, "nonce": "n", **changed,
    }  # fmt: skip
    return format_statement(Statement(**told))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"approver": "ben"}, "another person's"),
        ({"ticket": "other"}, "of another ticket"),
        ({}, "there is no ticket"),
    ],
)
async def test_a_statement_is_the_sessions_own_and_of_the_page_it_was_written_for(
    tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    here = world(tmp_path)
    browser = await here.visit(Duty.APPROVER, person="person:anna")
    proof = await proof_of(browser)
    answer = await post(browser, "/tickets/abc/answer", {"proof": proof, "statement": statement(**changed)})
    assert (answer.status_code, said in answer.json()["problem"]) == (409, True), answer.text


async def test_what_answers_no_ticket_and_is_no_answer_is_told_so(tmp_path: Path) -> None:
    here = world(tmp_path)
    browser = await here.visit(Duty.APPROVER, person="person:anna")
    proof = await proof_of(browser)
    answer = await post(browser, "/tickets/abc/answer", {"proof": proof, "decision": "deny"})
    assert (answer.status_code, "no ticket" in answer.text) == (404, True)
    answer = await post(browser, "/tickets/abc/answer", {"proof": proof, "decision": "perhaps"})
    assert (answer.status_code, answer.json()["problem"]) == (400, "an answer is `approve` or `deny`")


async def test_somebody_whom_the_file_no_longer_names_answers_nothing(tmp_path: Path) -> None:
    here = world(tmp_path)
    browser = await here.visit(Duty.APPROVER, person="person:gone")
    proof = await proof_of(browser)
    answer = await post(browser, "/tickets/abc/prepare", {"proof": proof, "decision": "approve"})
    assert (answer.status_code, "nobody else answers" in answer.text) == (403, True)


async def test_nobody_answers_faster_than_anybody_reads(tmp_path: Path) -> None:
    here = world(tmp_path)
    browser = await here.visit(Duty.APPROVER, person="person:anna")
    fields = {"proof": await proof_of(browser), "statement": statement()}
    answers = [(await post(browser, "/tickets/abc/answer", fields)).status_code for _ in range(ANSWERS + 1)]
    assert answers == [409] * ANSWERS + [429]


async def test_approvers_see_nothing_of_how_others_answer(tmp_path: Path) -> None:
    here = world(tmp_path)
    anna = await here.visit(Duty.APPROVER, person="person:anna")
    page = (await anna.get("/people")).text
    assert re.search(r">anna<", page)
    assert not re.search(r">ben<", page)
    auditor = await here.visit(Duty.AUDITOR, person="person:dora")
    assert re.search(r">ben<", (await auditor.get("/people")).text)


async def test_the_page_says_who_is_away_and_who_stands_in(tmp_path: Path) -> None:
    signer = MemorySigner(7)
    anna = msgspec.structs.replace(ANNA, keys=(b64encode(signer.public).decode(),), deputies=("ben",))
    here = World(tmp_path, people=(anna, BEN), approvals=Approvals(passkeys=RP))
    absences = here.desk.absences
    said = await absences.prepare("anna", "ben", here.clock.now_ms() + 3_600_000)
    await absences.say(said, urlsafe_b64encode(signer.sign(absence_bytes(said))).rstrip(b"=").decode())
    auditor = await here.visit(Duty.AUDITOR, person="person:dora")
    page = (await auditor.get("/people")).text
    assert re.search(r"away until <time[^>]*>[^<]*</time>: .{0,40}ben.{0,20} stands in", page)
    assert page.count("stands in") == 1


async def test_the_operators_click_does_not_approve_what_could_not_be_shown_and_naming_it_does(tmp_path: Path) -> None:
    """The attack: a call whose payload is gone, and an operator who clicks what is there to click."""
    here = World(tmp_path)
    now = here.clock.now_ms()
    asked = Ticket(
        id="abc", agent="spiffe://t.example/agent/a", server="ledger", tool="pay", state=State.PENDING, asked=now,
        expires=now + 60_000, why="", call="c",
    )  # fmt: skip
    await here.store.append(Append(puts=rows_of(asked, "like", None, now)))
    browser = await here.visit(Duty.APPROVER, Duty.OPERATOR, person="operator:root")
    fields = {"proof": await proof_of(browser), "decision": "approve", "reason": "it looks right"}
    page = (await post(browser, "/tickets/abc/answer", fields)).text
    assert "cannot be shown faithfully" in page
    assert (await here.tickets.find("abc")).state is State.PENDING
    page = (await post(browser, "/tickets/abc/answer", fields | {"acknowledged": "something_else"})).text
    assert "cannot be shown faithfully" in page
    document = await here.desk.documents.of(await here.tickets.find("abc"))
    assert Why.ERASED.value in document.uninspectable
    done = await post(browser, "/tickets/abc/answer", fields | {"acknowledged": list(document.uninspectable)})
    assert (done.status_code, (await here.tickets.find("abc")).state) == (303, State.APPROVED)
