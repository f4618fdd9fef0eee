"""What is made up stands among what was asked, and no page, stream or address of the console tells which is which."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from citywatch.adapters.console.city import CityPages
from citywatch.core import events
from citywatch.core.approvals.binding import ticket_digest
from citywatch.core.approvals.people import Approvals, Duty, Person
from citywatch.core.approvals.seal import Canary, Kind, canary_key
from citywatch.core.approvals.showing import Document
from citywatch.core.approvals.ticket import Done, State, Ticket, Vote, rows_of
from citywatch.core.call import Bound
from citywatch.service.ports import Append
from tests.unit.adapters.console.world import World, post, proof_of
from tests.unit.core.approvals.watched import MINUTE, story

ANNA = Person(name="anna", roles=(Duty.APPROVER,), answers=("*",), per_hour=2)
BEN = Person(name="ben", roles=(Duty.APPROVER,), answers=("*",))
LAX = Approvals(canaries=5, unsafe_unsigned=True, unsafe_hasty=True)
BOUND = Bound(
    agent="spiffe://t.example/agent/a", server="ledger", tool="pay", effect="write", pin="p", arguments="d",
    names=(("to", "destination", "d"),), labels=(), chain=(), policies=("p1",), code="approval_required", task="",
)  # fmt: skip
REAL, MADE = "a" * 32, "b" * 32


def ticket(call: str, at: int, **more: Any) -> Ticket:
    """One that waits; each reaches somebody else, so that they are no near-duplicates."""
    name, bound = call[:12], msgspec.structs.replace(BOUND, names=(("to", "destination", call),))
    made = Ticket(
        id=name, agent="spiffe://t.example/agent/a", server="ledger", tool="pay", state=State.PENDING, asked=at,
        expires=at + 3_600_000, why="", call=call, bound=bound, salt="00" * 16, nonce="11" * 16,
        done=(Done(at, "asked", "spiffe://t.example/agent/a"),),
        digest=ticket_digest(bound, name, "00" * 16, at + 3_600_000),
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


class Made(World):
    """A console with one ticket that was asked, and one that was made up for anna, of one that ben denied."""

    def __init__(self, folder: Path, approvals: Approvals = LAX) -> None:
        super().__init__(folder, people=(ANNA, BEN), approvals=approvals)

    async def ask(self, kind: Kind = Kind.CANARY, *, drill: bool = False) -> None:
        now = self.clock.now_ms()
        vote = Vote(person="ben", yes=kind is Kind.CLEAN, at=now, reason="nobody here knows <b>them</b>")
        state = State.DENIED if kind is Kind.CANARY else State.USED
        past = ticket("c" * 32, now - 1, state=state, votes=(vote,), by="ben")
        real, made = ticket(REAL, now), ticket(MADE, now)
        canary = Canary(kind=kind, of="anna", ticket=made, since=now - 1, call=past.call, past=past.id, drill=drill)
        puts = (*rows_of(past, "past", None, now), *rows_of(real, "real", None, now))
        kept = (canary_key(made.id), msgspec.json.encode(canary))
        await self.store.append(Append(puts=(*puts, kept)))

    async def anna(self) -> httpx.AsyncClient:
        return await self.visit(Duty.APPROVER, person="person:anna")


def same(page: str) -> str:
    """A page without what any two tickets differ in: their ids."""
    return page.replace(REAL[:12], "ID").replace(MADE[:12], "ID")


def rows(page: str) -> list[str]:
    return re.findall(r"<tr>.*?</tr>", page, re.S)[1:]


async def test_it_stands_in_the_list_and_on_a_page_as_what_was_asked_does(tmp_path: Path) -> None:
    here = Made(tmp_path)
    await here.ask()
    browser = await here.anna()
    for headers in ({}, {"hx-request": "true"}):
        page = (await browser.get("/tickets", headers=headers)).text
        one, other = map(same, rows(page))
        assert one == other
    assert "2 questions wait for you" in (await browser.get("/tickets")).text
    answers = [await browser.get(f"/tickets/{call[:12]}") for call in (REAL, MADE)]
    assert same(answers[0].text) == same(answers[1].text)
    assert sorted(answers[0].headers) == sorted(answers[1].headers)
    assert "/calls/" not in answers[0].text
    fields = {"proof": await proof_of(browser), "decision": "deny", "reason": ""}
    offers = [(await post(browser, f"/tickets/{call[:12]}/prepare", fields)) for call in (REAL, MADE)]
    assert [(one.status_code, sorted(one.json())) for one in offers] == [(409, ["problem"])] * 2
    assert same(offers[0].text) == same(offers[1].text)


@pytest.mark.parametrize(("roles", "person"), [((Duty.APPROVER,), "ben"), ((Duty.AUDITOR,), "dora")])
async def test_it_is_nobody_elses(tmp_path: Path, roles: tuple[Duty, ...], person: str) -> None:
    here = Made(tmp_path)
    await here.ask()
    browser = await here.visit(*roles, person=f"person:{person}")
    assert len(rows((await browser.get("/tickets")).text)) == 1
    answer = await browser.get(f"/tickets/{MADE[:12]}")
    assert (answer.status_code, "There is no such ticket" in answer.text) == (404, True)


def asked(call: str, at: int) -> events.Decided:
    return events.Decided(
        at=at, replica="r1", call=call, direction="to_server", agent="spiffe://t.example/agent/a", key="k",
        server="ledger", method="tools/call", name="pay", revision="2026-07-28", effect="write", decision="ask",
        code="approval_required", policies=("p1",), detail="", policy="p", manifest="m", pin=None, body="b",
    )  # fmt: skip


async def test_no_other_page_says_which_of_them_was_asked(tmp_path: Path) -> None:
    """The attack: somebody looks for each ticket's decision, and takes for made up what has none."""
    here = Made(tmp_path)
    await here.ask()
    allowed = msgspec.structs.replace(asked("d" * 32, 1), decision="allow", code=None)
    await here.enter(asked(REAL, here.clock.now_ms()), allowed)
    browser, auditor = await here.anna(), await here.visit(Duty.AUDITOR, person="person:dora")
    for path in (f"/decisions?q={REAL[:12]}", "/decisions?decision=ask", "/decisions?code=approval_required"):
        assert rows((await browser.get(path)).text) == []
        assert len(rows((await auditor.get(path)).text)) == 1
    listed = (await browser.get("/decisions")).text
    assert "1 calls were judged" in listed
    assert "approval_required" not in listed
    for path in ("/decisions/0", "/decisions/0/blast", f"/calls/{REAL}", f"/calls/{REAL[:12]}"):
        assert (await auditor.get(path)).status_code in (200, 303)
        assert (await browser.get(path)).status_code == 404
    gone = [(await browser.get(f"/calls/{call[:12]}")).text for call in (REAL, MADE)]
    assert same(gone[0]) == same(gone[1])
    assert (await browser.get("/decisions/1")).status_code == 200
    for path in ("/", "/city/table", "/city/place?id=s:ledger", "/policy", "/city/data"):
        assert (await browser.get(path)).text.count("asked about") <= 1, path
    data = (await browser.get("/city/data")).json()
    assert sum(road["asked"] for road in data["roads"]) == 0
    assert sum(road["asked"] for road in (await auditor.get("/city/data")).json()["roads"]) == 1
    assert "asked" not in (await browser.get("/people/load")).json()
    assert "asked" in (await auditor.get("/people/load")).json()


async def test_what_streams_to_who_answers_has_no_asks_in_it(tmp_path: Path) -> None:
    here = Made(tmp_path)
    await here.enter(asked(REAL, 1), msgspec.structs.replace(asked("d" * 32, 2), decision="deny", code="no_permit"))
    assert here.desk.apart is not None
    seen = [one.became for one in here.desk.apart.panorama.since(0)]
    assert (seen, [one.became for one in here.desk.sight.panorama.since(0)]) == (["deny"], ["ask", "deny"])
    pages = CityPages(here.desk, here.console.pages)
    told = [one async for one in pages._events(here.desk.apart.panorama, 0, iter((True, False)).__next__)]
    assert b'"ask"' not in b"".join(told)
    assert b'"deny"' in b"".join(told)


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        (Kind.CANARY, "deny", "You saw it right"),
        (Kind.CANARY, "approve", "You missed it"),
        (Kind.CLEAN, "approve", "You saw it right"),
        (Kind.CLEAN, "deny", "It was honest"),
    ],
)
async def test_what_it_was_is_said_as_soon_as_it_is_answered(tmp_path: Path, kind: Kind, said: str, told: str) -> None:
    here = Made(tmp_path)
    await here.ask(kind)
    browser = await here.anna()
    await browser.get(f"/tickets/{MADE[:12]}")
    document = await here.desk.documents.of(ticket(MADE, here.clock.now_ms()))
    fields: dict[str, str | list[str]] = {
        "proof": await proof_of(browser), "decision": said, "reason": "I rang them up",
        "acknowledged": list(document.uninspectable),
    }  # fmt: skip
    done = await post(browser, f"/tickets/{MADE[:12]}/answer", fields)
    assert (done.status_code, done.headers["location"]) == (303, f"/tickets/{MADE[:12]}")
    page = (await browser.get(done.headers["location"])).text
    assert told in page
    assert "nobody here knows &lt;b&gt;them&lt;/b&gt;" in page
    assert ">ben<" not in page, "what others said is told, and not who did"
    assert ("1 of 1" if said == "deny" and kind is Kind.CANARY else "0 of") in page
    assert (await post(browser, f"/tickets/{MADE[:12]}/answer", fields)).status_code == 404, "once"
    ben = await here.visit(Duty.APPROVER, person="person:ben")
    assert (await ben.get(f"/tickets/{MADE[:12]}")).status_code == 404
    rows_ = [await here.store.scan(one) for one in ("ticket", "answer")]
    assert [len(one) for one in rows_] == [2, 0], "nothing that a decision reads"


async def test_whose_yes_does_not_count_is_offered_an_exercise_and_nobody_else_is(tmp_path: Path) -> None:
    here = Made(tmp_path)
    browser = await here.anna()
    fields = {"proof": await proof_of(browser)}
    answer = await post(browser, "/exercise", fields)
    assert (answer.status_code, "your yes counts" in answer.text) == (409, True)
    assert "Begin an exercise" not in (await browser.get("/tickets")).text
    for number in range(4):
        await here.enter(*story("anna", f"t{number}", Kind.CANARY, True, at=number * MINUTE))
    page = (await browser.get("/tickets")).text
    assert "Your yes does not count for now" in page
    assert "you denied 0 of 4" in page
    assert "Begin an exercise" in page
    answer = await post(browser, "/exercise", fields)
    assert (answer.status_code, "an exercise takes 4 tickets" in answer.text) == (409, True)
    await here.ask(drill=True)
    page = (await browser.get("/tickets")).text
    assert "1 of the 8 are left" in page
    assert "Begin an exercise" not in page
    answer = await post(browser, "/exercise", fields)
    assert (answer.status_code, "still to be answered" in answer.text) == (409, True)
    operator = await here.visit(Duty.OPERATOR, Duty.APPROVER, person="operator:anna")
    answer = await post(operator, "/exercise", {"proof": await proof_of(operator)})
    assert (answer.status_code, "nobody else answers" in answer.text) == (409, True)


async def test_what_is_left_of_the_hour_is_said_and_where_the_rest_goes(tmp_path: Path) -> None:
    here = Made(tmp_path)
    await here.ask()
    browser = await here.anna()
    page = (await browser.get(f"/tickets/{REAL[:12]}")).text
    assert "2 of the 2 yeses of this hour are left" in page
    for _ in range(2):
        spends = await here.desk.care.check(ticket(REAL, 0), "anna", "", Document(ticket="", sections=()))
        await here.store.append(Append(spends=spends))
    page = (await browser.get(f"/tickets/{REAL[:12]}")).text
    assert "You have said yes 2 times in this hour" in page
    assert "ben may answer as well" in page
    assert "Your no still counts" in page
    assert "no more of yours count in it" in (await browser.get("/tickets")).text
    here.clock.now += 3_600_000
    browser = await here.anna()
    assert "2 of the 2 yeses" in (await browser.get("/tickets")).text
