"""What is not asked as the table says is refused, with a sentence that says why; and nothing more is said."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.adapters.approvals_api.app import MAX_BODY
from citywatch.adapters.approvals_api.forms import MOST
from citywatch.adapters.approvals_api.operations import DOCUMENT, OPERATIONS, PROBLEMS, openapi
from citywatch.core.approvals.people import RIGHTS, Duty, Right
from tests.front_end import HOST, signed_headers
from tests.simulation.api import Api, api
from tests.simulation.people import SIGNERS

PREPARE = "/api/v1/tickets/abc/prepare"


@pytest.fixture
async def here() -> Api:
    return await api()


async def asked(
    here: Api, method: str, target: str, body: bytes = b"", signed: bool = True, **headers: str
) -> tuple[int, dict[str, Any]]:
    anna = here.of("anna")
    sent = anna.headers(method, target, body) if signed else {}
    told = await anna.send(method, target, body, sent | {name.replace("_", "-"): one for name, one in headers.items()})
    if told.status_code != 200:
        assert told.headers["content-type"] == "application/problem+json"
        assert told.json().keys() == {"type", "title", "status", "detail"}
        assert told.json()["status"] == told.status_code
        name = told.json()["type"].removeprefix(f"{DOCUMENT}#/x-problems/")
        assert PROBLEMS[name].status == told.status_code
    found: dict[str, Any] = told.json()
    return told.status_code, found


LOAN = b'{"person":"anna","key":"","issued":0,"expires":1,"passkey":%s}'
REFUSED: list[tuple[str, str, bytes, int, str]] = [
    ("GET", "/api/v1/me?a=b", b"", 400, "takes no query"),
    ("GET", "/api/v1/me", b"{}", 400, "takes no body"),
    ("GET", "/api/v1/tickets?start=-1", b"", 400, "`int` >= 0"),
    ("GET", f"/api/v1/tickets?count={MOST + 1}", b"", 400, "`int` <= 200"),
    ("GET", "/api/v1/tickets?count=many", b"", 400, "Expected `int`"),
    ("GET", "/api/v1/tickets?page=1", b"", 400, "unknown field `page`"),
    ("GET", "/api/v1/tickets?count=1&count=2", b"", 400, "twice"),
    ("GET", "/api/v1/tickets?count", b"", 400, "bad query field"),
    ("GET", "/api/v2/me", b"", 404, DOCUMENT),
    ("GET", "/api/v1/me/", b"", 404, DOCUMENT),
    ("GET", "/api/v1/tickets/%61bc", b"", 404, DOCUMENT),
    ("GET", "/api/v1/tickets/" + "a" * 65, b"", 404, DOCUMENT),
    ("GET", "/api/v1/tickets/..", b"", 404, DOCUMENT),
    ("GET", "/api/v1/tickets/abc", b"", 404, "there is no ticket `abc`"),
    ("POST", "/api/v1/tickets/abc/open", b"", 404, "there is no ticket `abc`"),
    ("GET", PREPARE, b"", 405, "POST"),
    ("HEAD", "/api/v1/me", b"", 405, ""),
    ("OPTIONS", PREPARE, b"", 405, "POST"),
    ("PUT", "/api/v1/me", b"{}", 405, "GET"),
    ("GET", "/api/v1/tickets?start=" + "0" * 5_000, b"", 414, "4096 bytes"),
    ("POST", PREPARE, b"{" + b" " * MAX_BODY, 413, "65536 bytes"),
    ("POST", PREPARE, b"", 415, "application/json"),
    ("POST", PREPARE, b"{", 400, "truncated"),
    ("POST", PREPARE, b"[]", 400, "Expected `object`"),
    ("POST", PREPARE, b"\xff", 400, "malformed"),
    ("POST", PREPARE, b'{"decision":"perhaps"}', 400, "perhaps"),
    ("POST", PREPARE, b'{"decision":"deny","decision":"approve"}', 400, "twice"),
    ("POST", PREPARE, b'{"decision":"deny","reason":"\\ud800"}', 400, "truncated"),
    ("POST", PREPARE, b'{"decision":' + b"[" * 60_000, 400, "Expected `str`"),
    ("POST", PREPARE, b'{"decision":"deny","yes":1}', 400, "unknown field `yes`"),
    ("POST", PREPARE, b'{"decision":"deny","hold_ms":"1"}', 400, "Expected `int`"),
    ("POST", PREPARE, b'{"decision":"deny","hold_ms":86400001}', 400, "<= 86400000"),
    ("POST", PREPARE, b'{"decision":"deny","reason":"' + b"x" * 1001 + b'"}', 400, "<= 1000"),
    ("POST", PREPARE, b'{"decision":"deny","acknowledged":["anything"]}', 400, "anything"),
    ("POST", PREPARE, b'{"decision":"deny","\xe2\x80\xae":1}', 400, "unknown field ``"),
    ("POST", "/api/v1/tickets/abc/vote", b'{"statement":"{}"}', 400, "`proof`"),
    ("POST", "/api/v1/keys", b"{}", 400, "`person`"),
    ("POST", "/api/v1/keys", LOAN % b"{}", 400, "`id`"),
    ("POST", "/api/v1/keys", LOAN % b'{"method":"webauthn"}', 400, "unknown field `method`"),
    ("GET", "/api/v1/keys", b"", 405, "POST"),
    ("POST", "/api/v1/tickets/abc/vote", b'{"statement":"{}","proof":{"method":"unsigned"}}', 400, "unsigned"),
    ("POST", "/api/v1/tickets/abc/vote", b'{"statement":"{}","proof":{"method":"ed25519","signature":"="}}', 400, "re"),
]


@pytest.mark.parametrize(("method", "target", "body", "status", "why"), REFUSED)
async def test_what_is_not_asked_as_the_table_says_is_told_why(
    here: Api, method: str, target: str, body: bytes, status: int, why: str
) -> None:
    anna = here.of("anna")
    told = await anna.send(method, target, body, anna.headers(method, target, body))
    assert told.status_code == status, told.text
    if method != "HEAD":
        assert why in told.json()["detail"], told.text


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/json; a=b", ""])
async def test_a_form_of_another_site_cannot_write_what_is_taken(here: Api, media: str) -> None:
    body = b'{"decision":"deny"}'
    status, told = await asked(here, "POST", PREPARE, body, content_type=media)
    assert (status, "application/json" in told["detail"]) == (415, True)


async def test_no_other_site_is_told_anything_and_nothing_is_kept(here: Api) -> None:
    anna = here.of("anna")
    for method in ("GET", "OPTIONS"):
        headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        told = await anna.send(method, "/api/v1/me", b"", anna.headers(method, "/api/v1/me") | headers)
        assert not [name for name in told.headers if name.startswith("access-control")]
        assert "set-cookie" not in told.headers
        assert told.headers["cache-control"] == "no-store"
        assert told.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["127.0.0.1:8470", "localhost:8470", "evil.example", f"{HOST}.evil.example"])
async def test_it_is_reached_by_its_own_name_alone(here: Api, host: str) -> None:
    for target in ("/api/v1/me", DOCUMENT):
        headers = signed_headers(SIGNERS["anna"], "GET", target, now=here.here.clock.now_ms(), host=host)
        told = await here.of("anna").send("GET", target, b"", headers | {"host": host})
        assert (told.status_code, told.json()["type"]) == (421, f"{DOCUMENT}#/x-problems/misdirected")


async def test_what_nobody_foresaw_is_told_to_the_operator_and_to_nobody_else(
    here: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("the secret of the house")

    monkeypatch.setattr(here.voting, "seen", fails)
    status, told = await asked(here, "GET", "/api/v1/tickets/abc")
    assert (status, "secret" in str(told)) == (500, False)
    assert here.said == ["an operation of the approvals API failed: RuntimeError"]


async def test_the_document_is_there_for_everybody(here: Api) -> None:
    status, told = await asked(here, "GET", DOCUMENT, signed=False)
    assert (status, told) == (200, json.loads(json.dumps(openapi())))


def test_every_operation_says_whose_it_is_and_only_approvers_answer() -> None:
    answers = {one.name for one in OPERATIONS if one.needs is Right.ANSWER}
    assert answers == {"prepare", "vote"}
    assert {one.name for one in OPERATIONS if not isinstance(one.needs, Right)} == {"document", "lend"}
    assert [role for role, rights in RIGHTS.items() if Right.ANSWER in rights] == [Duty.APPROVER]
    assert len({(one.method, one.path) for one in OPERATIONS}) == len(OPERATIONS)
    assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)
