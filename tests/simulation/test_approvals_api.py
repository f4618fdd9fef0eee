"""People answer from front ends of their own: by their own keys, with the same care, and in no other way."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from citywatch.core import events
from citywatch.core.approvals.people import Quorum
from citywatch.core.approvals.statement import parse_statement, statement_bytes
from citywatch.core.approvals.ticket import State
from citywatch.service.messages import drop_nonces
from tests.front_end import HOST, answer, b64url, key_name, signed_headers
from tests.simulation.api import DORA, LEEWAY, Api, api
from tests.simulation.people import SIGNERS
from tests.simulation.test_answers import WANTED, asked
from tests.simulation.test_voting import enrolled, passes
from tests.simulation.test_waiting import Bus, keeping, until

AT = "/api/v1/tickets/{}"
REASON = "I rang the payee myself"
TWO = (Quorum(acts=("bank/*",), need=2),)
YES = {"decision": "approve", "reason": REASON, "principal": "alice"}


async def opened(here: Api, name: str, who: str = "anna") -> dict[str, Any]:
    """Somebody opens a ticket, and reads it."""
    told = await here.of(who).post(AT.format(name) + "/open")
    assert told.status_code == 200, told.text
    found: dict[str, Any] = told.json()
    here.here.clock.advance(found["counts_in_ms"])
    return found


async def waits(here: Api) -> str:
    return (await asked(here.here, **WANTED)).id


async def rows(here: Api) -> int:
    return len(await here.here.store.scan("nonce"))


async def test_a_whole_approval_reaches_the_call_that_waits() -> None:
    here = await api()
    name, anna = await waits(here), here.of("anna")
    queue = (await anna.get("/api/v1/tickets")).json()
    assert [one["ticket"] for one in queue["tickets"]] == [name]
    assert (queue["waiting"], queue["next"], queue["floods"]) == (1, None, [])
    shown = await opened(here, name)
    assert {one["part"] for one in shown["sections"]} == {"act", "authority", "sources", "unusual", "no"}
    values = {one["label"]: one["quoted"] for one in shown["sections"][0]["lines"] if one["kind"] == "value"}
    assert values == {"whom it reaches, “to”": WANTED["to"], "how much, “amount”": "900"}
    assert (shown["own_words"], shown["standing"]["of"], shown["standing"]["yours"]) == (True, ["alice"], True)
    bus = Bus(here.here.store)
    waiter = asyncio.create_task(keeping(here.here, bus).answered(here.here.credential(), name, 1e6))
    await until(lambda: bus.asked > 4)
    voted = await anna.say(name, **YES)
    assert (voted.status_code, voted.json()["state"]) == (200, "approved"), voted.text
    async with asyncio.timeout(10):
        assert (await waiter)[0] == "approved"
    assert await passes(here.here)
    assert not await passes(here.here), "once"
    assert (await anna.get(AT.format(name))).json()["state"] == "used"
    (signed,) = [one for one in await here.here.events() if isinstance(one, events.TicketSigned)]
    assert (signed.by, signed.method, signed.answer) == ("anna", "ed25519", "approve")


async def test_a_no_is_given_without_waiting() -> None:
    here = await api()
    name = await waits(here)
    told = await here.of("ben").say(name, "deny", reason="who is that?")
    assert (told.status_code, told.json()["state"]) == (200, "denied"), told.text


async def test_a_passkey_signs_the_statement_where_the_request_is_signed_by_a_key() -> None:
    here = await api()
    name, anna = await waits(here), here.of("anna")
    device = await enrolled(here.here)
    me = (await anna.get("/api/v1/me")).json()
    assert (me["person"], me["rp"], me["passkeys"]) == ("anna", "console.acme.example", [b64url(device.id)])
    await opened(here, name)
    prepared = (await anna.post(AT.format(name) + "/prepare", YES)).json()
    padded = prepared["challenge"] + "=" * (-len(prepared["challenge"]) % 4)
    made = device.sign(urlsafe_b64decode(padded))
    proof = {"method": "webauthn", **msgspec.to_builtins(made)}
    told = await anna.post(AT.format(name) + "/vote", {"statement": prepared["statement"], "proof": proof})
    assert (told.status_code, told.json()["state"]) == (200, "approved"), told.text


# -- whose request it is -----------------------------------------------------------------------------------------------

Headers = dict[str, str]
Attack = Callable[[Api, str, str, bytes], tuple[str, str, bytes, Headers]]
"""What becomes of a request that anna sends: its method, its target, its body, its headers."""


def _unsigned(here: Api, method: str, target: str, body: bytes) -> tuple[str, str, bytes, Headers]:
    return method, target, body, {"content-type": "application/json"}


def _changed(**changed: Any) -> Attack:
    """Signed by anna, and said otherwise of itself."""

    def attack(here: Api, method: str, target: str, body: bytes) -> tuple[str, str, bytes, Headers]:
        at = {name: value(here.here.clock.now_ms() // 1000) for name, value in changed.items() if callable(value)}
        return method, target, body, here.of("anna").headers(method, target, body, **(changed | at))

    return attack


def _put(**others: Any) -> Attack:
    """Signed by anna for one request, sent as another."""

    def attack(here: Api, method: str, target: str, body: bytes) -> tuple[str, str, bytes, Headers]:
        signed = {"method": method, "target": target, "body": body} | others
        return method, target, body, here.of("anna").headers(signed["method"], signed["target"], signed["body"])

    return attack


def _as(who: Any, named: Any) -> Attack:
    """Signed with one key, and said to be another's."""

    def attack(here: Api, method: str, target: str, body: bytes) -> tuple[str, str, bytes, Headers]:
        front = here.of("anna")
        front.signer = who
        return method, target, body, front.headers(method, target, body, keyid=key_name(named))

    return attack


def _twice(here: Api, method: str, target: str, body: bytes) -> tuple[str, str, bytes, Headers]:
    headers = here.of("anna").headers(method, target, body)
    return method, target, body, headers | {"signature": f"{headers['signature']}, other=:AAAA:"}


def _cookie(here: Api, method: str, target: str, body: bytes) -> tuple[str, str, bytes, Headers]:
    headers = {"cookie": "citywatch=" + "s" * 43, "authorization": "Bearer " + "t" * 43, "origin": f"http://{HOST}"}
    return method, target, body, headers | {"content-type": "application/json"}


WITHOUT = ("@method", "@authority", "@request-target", "content-digest")
ATTACKS: dict[str, Attack] = {
    "unsigned": _unsigned,
    "a session of the console, a token": _cookie,
    "another's key in her name": _as(SIGNERS["ben"], SIGNERS["anna"]),
    "her key in another's name": _as(SIGNERS["anna"], SIGNERS["ben"]),
    "a key that nobody has": _as(DORA.__class__(1), DORA.__class__(1)),
    "stale": _changed(created=lambda now: now - 66),
    "of tomorrow": _changed(created=lambda now: now + 6),
    "for an hour": _changed(expires=lambda now: now + 3_600),
    "without an end": _changed(expires=lambda now: now),
    "a nonce that can be guessed": _changed(nonce="1"),
    "of an agent": _changed(tag="wimse-workload-to-workload"),
    "another algorithm": _changed(alg="hmac-sha256"),
    "nobody's": _changed(keyid=""),
    "signed twice": _twice,
    "another method": _put(method="GET"),
    "another path": _put(target="/api/v1/me"),
    "a query more": _put(target="/api/v1/tickets?count=1"),
    "another body": _put(body=b'{"decision":"deny"}'),
    "no body": _put(body=b""),
    **{f"without {one}": _changed(covered=tuple(name for name in WITHOUT if name != one)) for one in WITHOUT},
}


@pytest.mark.parametrize("how", ATTACKS)
async def test_a_request_that_is_not_anna_s_own_of_now_does_nothing(how: str) -> None:
    here = await api()
    name = await waits(here)
    await opened(here, name)
    anna = here.of("anna")
    prepared = (await anna.post(AT.format(name) + "/prepare", YES)).json()
    before = await rows(here)
    body = json.dumps(answer(SIGNERS["anna"], prepared["statement"])).encode()
    method, target, body, headers = ATTACKS[how](here, "POST", AT.format(name) + "/vote", body)
    told = await anna.send(method, target, body, headers)
    assert told.status_code == 401, told.text
    assert told.headers["content-type"] == "application/problem+json"
    assert told.headers["www-authenticate"] == "Signature"
    assert "set-cookie" not in told.headers
    assert (await rows(here), (await here.here.tickets.find(name)).state) == (before, State.PENDING)
    good = anna.headers(method, target, body)
    assert (await anna.send(method, target, body, good)).status_code == 200, "and the honest one goes through"


async def test_a_request_for_another_console_is_none_for_this_one() -> None:
    here = await api()
    anna = here.of("anna")
    now = here.here.clock.now_ms()
    headers = signed_headers(SIGNERS["anna"], "GET", "/api/v1/me", now=now, host="city-2.localhost:8470")
    assert (await anna.send("GET", "/api/v1/me", b"", headers)).status_code == 401
    named = await anna.send("GET", "/api/v1/me", b"", headers | {"host": "city-2.localhost:8470"})
    assert named.status_code == 421


async def test_a_request_is_good_once_also_after_its_nonce_is_forgotten_and_of_two_at_once() -> None:
    here = await api()
    anna = here.of("anna")
    headers = anna.headers("GET", "/api/v1/me")
    several = await asyncio.gather(*(anna.send("GET", "/api/v1/me", b"", headers) for _ in range(4)))
    assert sorted(one.status_code for one in several) == [200, 401, 401, 401]
    here.here.clock.advance(60_000 + LEEWAY)
    assert await drop_nonces(here.here.store, here.here.clock.now_ms(), LEEWAY) == 1
    here.here.clock.advance(-30_000)
    again = await anna.send("GET", "/api/v1/me", b"", headers)
    assert (again.status_code, "sent before" in again.json()["detail"]) == (401, True)


async def test_a_request_is_no_answer_and_an_answer_no_request() -> None:
    """What one key signs for the one purpose is of no use for the other."""
    here = await api()
    name, anna = await waits(here), here.of("anna")
    await opened(here, name)
    statement = (await anna.post(AT.format(name) + "/prepare", YES)).json()["statement"]
    body = json.dumps({"statement": statement, "proof": {"method": "ed25519", "signature": "A" * 86}}).encode()
    headers = anna.headers("POST", AT.format(name) + "/vote", body)
    made = headers["signature"].removeprefix("sig=:").removesuffix(":")
    as_answer = {"method": "ed25519", "signature": made.rstrip("=").replace("+", "-").replace("/", "_")}
    told = await anna.post(AT.format(name) + "/vote", {"statement": statement, "proof": as_answer})
    assert (told.status_code, "none of the keys" in told.json()["detail"]) == (422, True), told.text
    raw = b64encode(SIGNERS["anna"].sign(statement_bytes(parse_statement(statement)))).decode()
    headers |= {"signature": f"sig=:{raw}:"}
    assert (await anna.send("POST", AT.format(name) + "/vote", body, headers)).status_code == 401


# -- what an answer takes ----------------------------------------------------------------------------------------------


async def test_an_auditor_reads_and_does_not_answer() -> None:
    here = await api()
    name, dora = await waits(here), here.of("dora")
    assert [one["ticket"] for one in (await dora.get("/api/v1/tickets")).json()["tickets"]] == [name]
    assert not (await dora.get("/api/v1/me")).json()["may_answer"]
    shown = (await dora.post(AT.format(name) + "/open")).json()
    assert (shown["standing"]["yours"], len(shown["sections"])) == (False, 5)
    assert not [one for one in await here.here.events() if isinstance(one, events.TicketShown)]
    for draft in (YES, {"decision": "deny"}):
        told = await dora.post(AT.format(name) + "/prepare", draft)
        assert (told.status_code, told.json()["type"]) == (403, "/api/v1/openapi.json#/x-problems/not_yours")
    await opened(here, name)
    statement = (await here.of("anna").post(AT.format(name) + "/prepare", YES)).json()["statement"]
    assert (await dora.post(AT.format(name) + "/vote", answer(DORA, statement))).status_code == 403
    assert (await here.here.tickets.find(name)).state is State.PENDING


async def test_a_yes_takes_the_same_care_as_anywhere() -> None:
    here = await api()
    name, anna = await waits(here), here.of("anna")
    told = await anna.say(name, **YES)
    assert (told.status_code, "was not shown the ticket" in told.json()["detail"]) == (422, True)
    shown = (await anna.post(AT.format(name) + "/open")).json()
    told = await anna.say(name, **YES)
    assert (told.status_code, "read it first" in told.json()["detail"]) == (422, True)
    assert (await anna.get(AT.format(name))).json()["votes"] == []
    here.here.clock.advance(shown["counts_in_ms"])
    told = await anna.say(name, **(YES | {"reason": "ok"}))
    assert (told.status_code, "words of your own" in told.json()["detail"]) == (422, True)
    told = await anna.say(name, **(YES | {"principal": "guest"}))
    assert (told.status_code, "does not speak for" in told.json()["detail"]) == (422, True)
    assert (await anna.say(name, **YES)).status_code == 200


async def test_to_look_at_where_a_ticket_stands_is_not_to_be_shown_it() -> None:
    here = await api()
    name, anna = await waits(here), here.of("anna")
    for _ in range(3):
        assert (await anna.get(AT.format(name))).status_code == 200
    here.here.clock.advance(60_000)
    assert (await anna.say(name, **YES)).status_code == 422
    assert not [one for one in await here.here.events() if isinstance(one, events.TicketShown)]


CHANGES: list[dict[str, Any]] = [
    {"decision": "deny"}, {"approver": "ben"}, {"reason": "another reason"}, {"principal": "guest"},
    {"hold_ms": 1_000}, {"document": "0" * 64}, {"digest": "0" * 64}, {"nonce": "0" * 32}, {"ticket": "other"},
]  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES, ids=lambda one: next(iter(one)))
async def test_a_statement_that_was_changed_after_it_was_signed_counts_for_nothing(changed: dict[str, Any]) -> None:
    here = await api()
    name, anna = await waits(here), here.of("anna")
    await opened(here, name)
    signed = answer(SIGNERS["anna"], (await anna.post(AT.format(name) + "/prepare", YES)).json()["statement"])
    told = json.loads(signed["statement"]) | changed
    signed["statement"] = json.dumps(told, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    assert (await anna.post(AT.format(name) + "/vote", signed)).status_code == 422
    assert (await here.here.tickets.find(name)).votes == ()


async def test_an_answer_is_of_whoever_signed_the_request() -> None:
    """The attack: ben brings what anna signed, in a request of his own; or what she signed for another ticket."""
    here = await api()
    name, anna = await waits(here), here.of("anna")
    await opened(here, name)
    signed = answer(SIGNERS["anna"], (await anna.post(AT.format(name) + "/prepare", YES)).json()["statement"])
    told = await here.of("ben").post(AT.format(name) + "/vote", signed)
    assert (told.status_code, "another person's" in told.json()["detail"]) == (422, True)
    other = (await asked(here.here, "delete_file", id="x-99")).id
    told = await anna.post(AT.format(other) + "/vote", signed)
    assert (told.status_code, "of another ticket" in told.json()["detail"]) == (422, True)
    assert (await here.here.tickets.find(name)).votes == ()


async def test_nobody_answers_twice() -> None:
    here = await api(quorum=TWO)
    name, anna = await waits(here), here.of("anna")
    await opened(here, name)
    signed = answer(SIGNERS["anna"], (await anna.post(AT.format(name) + "/prepare", YES)).json()["statement"])
    assert (await anna.post(AT.format(name) + "/vote", signed)).json()["state"] == "pending"
    told = await anna.post(AT.format(name) + "/vote", signed)
    assert (told.status_code, "before" in told.json()["detail"]) == (409, True)
    assert (await anna.say(name, **YES)).status_code == 409
    assert (await anna.get("/api/v1/tickets")).json()["tickets"] == []
    assert len((await here.here.tickets.find(name)).votes) == 1


async def test_reviewers_do_not_see_each_other_before_all_is_said() -> None:
    here = await api(quorum=TWO)
    name = await waits(here)
    await opened(here, name)
    assert (await here.of("anna").say(name, **YES)).status_code == 200
    for who, sees in (("anna", ["anna"]), ("ben", []), ("dora", [])):
        looked = (await here.of(who).get(AT.format(name))).json()
        shown = (await here.of(who).post(AT.format(name) + "/open")).json()["standing"]
        for seen in (looked, shown):
            assert [one["person"] for one in seen["votes"]] == sees
            assert any(one["who"] == "anna" for one in seen["steps"]) is bool(sees)
            assert (seen["blinded"], seen["answered"]) == (True, bool(sees))
    here.here.clock.advance(60_000)
    told = await here.of("ben").say(name, "approve", reason=REASON)
    assert told.json()["state"] == "approved"
    assert [one["person"] for one in told.json()["votes"]] == ["anna", "ben"]


async def test_what_a_stranger_sends_slows_nobody_down_but_strangers() -> None:
    here = await api()
    anna = here.of("anna")
    codes = [(await anna.send("GET", "/api/v1/me", b"", {})).status_code for _ in range(22)]
    assert codes == [401] * 20 + [429] * 2
    assert (await anna.get("/api/v1/me")).status_code == 200
    codes = [(await anna.post(AT.format("abc") + "/prepare", YES)).status_code for _ in range(61)]
    assert codes == [404] * 60 + [429]
    assert (await here.of("ben").post(AT.format("abc") + "/prepare", YES)).status_code == 404
    assert (await anna.get("/api/v1/me")).status_code == 200


async def test_whoever_saw_a_request_holds_nobody_up_by_sending_it_again() -> None:
    """The attack: a proxy's log, or a program that listens on loopback, has one request of anna's, still of its minute;
    sent on and on, it is refused each time, and would be counted as hers."""
    here = await api()
    name, anna = await waits(here), here.of("anna")
    target, body = f"/api/v1/tickets/{name}/prepare", b'{"decision": "deny"}'
    headers = anna.headers("POST", target, body)
    assert (await anna.send("POST", target, body, headers)).status_code == 200
    codes = {(await anna.send("POST", target, body, headers)).status_code for _ in range(70)}
    assert codes == {401, 429}
    looked = anna.headers("GET", "/api/v1/me")
    for _ in range(3):
        await anna.send("GET", "/api/v1/me", b"", looked)
    told = [(await anna.post(target, {"decision": "deny"})).status_code for _ in range(60)]
    assert told == [200] * 59 + [429], "what she sent herself counts, and no more is given back than was taken"
