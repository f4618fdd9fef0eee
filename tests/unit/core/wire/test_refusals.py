"""How a no is worded: a tool call gets a result that its agent can go on with, everything else a JSON-RPC error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from citywatch.core.call import Call, Direction
from citywatch.core.errors import ADVICE, Code
from citywatch.core.wire import mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Notification, Request, Response, parse_message

FAULTS = [Code.MALFORMED, Code.HEADER_MISMATCH, Code.REVISION_UNSUPPORTED, Code.METHOD_UNKNOWN, Code.SESSION_LOST]
FAULTS += [Code.TASK_UNSUPPORTED, Code.ID_IN_USE, Code.INPUT_UNEXPECTED]


def call(method: str = "tools/call", revision: str = "2026-07-28", rpc_id: str | int | None = 7) -> Call:
    return Call(
        id="c-1",
        direction=Direction.TO_SERVER,
        agent="spiffe://x/agent/a",
        server="s",
        method=method,
        name="pay",
        arguments={},
        body=b"",
        revision=revision,
        rpc_id=rpc_id,
    )


def told(raw: bytes) -> dict[str, Any]:
    parse_message(raw, FROM_SERVER)
    value: dict[str, Any] = json.loads(raw)
    return value


@pytest.mark.parametrize("revision", [*mcp.LEGACY, *mcp.MODERN])
def test_a_refused_tool_call_is_a_result_of_its_revision(revision: str) -> None:
    raw = mcp.refusal(call(revision=revision), Code.NO_PERMIT)
    mcp.check_reply("tools/call", parse_message(raw, FROM_SERVER), revision)  # type: ignore[arg-type]
    result = told(raw)["result"]
    assert told(raw)["id"] == 7
    assert result["isError"] is True
    assert result["_meta"] == {"citywatch/code": "no_permit", "citywatch/decision": "c-1"}
    assert "no_permit" in result["content"][0]["text"]
    assert ADVICE[Code.NO_PERMIT] in result["content"][0]["text"]
    assert ("resultType" in result) == (revision in mcp.MODERN)


@pytest.mark.parametrize("code", [code for code in Code if code not in FAULTS])
def test_every_other_refusal_is_an_error_outside_the_reserved_ranges(code: Code) -> None:
    error = told(mcp.refusal(call("resources/read"), code))["error"]
    assert error["data"] == {"code": code.value, "advice": ADVICE[code], "decision": "c-1"} or code in FAULTS
    if mcp.status_of(code) == 200:
        assert not -32768 <= error["code"] <= -32000


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_of_the_exchange_is_an_error_even_for_a_tool_call(code: Code) -> None:
    value = told(mcp.refusal(call(), code))
    assert value["error"]["code"] == mcp.error_number(code)
    assert "result" not in value


def test_a_notification_is_never_answered() -> None:
    assert mcp.refusal(call(rpc_id=None), Code.NO_PERMIT) == b""
    assert mcp.turned_away(Notification("x"), Code.MALFORMED) == b""
    assert mcp.turned_away(Response(1, {}), Code.REPLY_UNEXPECTED) == b""


def test_bytes_that_were_no_message_have_no_id() -> None:
    value = told(mcp.turned_away(None, Code.MALFORMED, "the message is not JSON in UTF-8"))
    assert value["id"] is None
    assert value["error"]["code"] == -32700
    assert "not JSON" in value["error"]["message"]


def test_an_unknown_revision_is_told_which_there_are() -> None:
    meta = {"io.modelcontextprotocol/protocolVersion": "v9"}
    value = told(mcp.turned_away(Request("a", "server/discover", {"_meta": meta}), Code.REVISION_UNSUPPORTED))
    assert value["error"]["code"] == -32022
    assert value["error"]["data"]["supported"] == list(mcp.MODERN)
    assert value["error"]["data"]["requested"] == "v9"
    assert value["id"] == "a"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (Code.MALFORMED, 400),
        (Code.HEADER_MISMATCH, 400),
        (Code.REVISION_UNSUPPORTED, 400),
        (Code.METHOD_UNKNOWN, 404),
        (Code.SESSION_LOST, 404),
        (Code.SERVER_UNKNOWN, 404),
        (Code.AGENT_REVOKED, 403),
        (Code.CREDENTIAL_EXPIRED, 401),
        (Code.NO_PERMIT, 200),
        (Code.UPSTREAM_TIMEOUT, 200),
    ],
)
def test_the_status_is_what_clients_act_on(code: Code, status: int) -> None:
    assert mcp.status_of(code) == status


def test_older_clients_read_404_as_the_end_of_their_session() -> None:
    assert mcp.status_of(Code.METHOD_UNKNOWN, "2025-11-25") == 200
    assert mcp.status_of(Code.METHOD_UNKNOWN, "2026-07-28") == 404


def test_every_credential_code_asks_for_a_credential() -> None:
    codes = [code for code in Code if code.value.startswith("credential_")]
    assert codes
    assert {mcp.status_of(code) for code in codes} == {401}


@pytest.mark.parametrize("method", ["tools/call", "resources/read"])
def test_who_asked_reads_what_was_told(method: str) -> None:
    raw = mcp.refusal(call(method), Code.APPROVAL_REQUIRED, "`to`: nobody", policies=["p1", "p2"], ticket="t-1")
    value = told(raw)
    read = mcp.read_refusal(value["result"]) if "result" in value else mcp.read_error(value["error"]["data"])
    assert read == mcp.Told(
        code="approval_required", detail="`to`: nobody", policies=("p1", "p2"), ticket="t-1", decision="c-1"
    )


@pytest.mark.parametrize(
    "sent",
    [
        None,
        7,
        [],
        {},
        {"isError": False, "_meta": {"citywatch/code": "no_permit"}},
        {"isError": True, "_meta": 7},
        {"isError": True, "_meta": {"citywatch/code": 7}},
        {"isError": True, "_meta": {"citywatch/code": ""}},
    ],
)
def test_what_is_no_refusal_reads_as_none(sent: Any) -> None:
    assert mcp.read_refusal(sent) is None
    assert mcp.read_error(sent) is None


def test_members_of_a_wrong_type_are_left_out() -> None:
    meta = {"citywatch/code": "later", "citywatch/detail": 7, "citywatch/policies": ["a", 1], "citywatch/ticket": []}
    assert mcp.read_refusal({"isError": True, "_meta": meta}) == mcp.Told(code="later", policies=("a",))
    assert mcp.read_error({"code": "later", "policies": "a"}) == mcp.Told(code="later")


@pytest.mark.parametrize(("policies", "ticket"), [((), ""), (("one, two", "three"), "t-1")])
def test_a_refused_message_says_to_an_agent_what_a_refused_call_says(policies: tuple[str, ...], ticket: str) -> None:
    raw = mcp.refusal(
        call("SendMessage", revision="a2a/1.0"), Code.APPROVAL_REQUIRED, "why", policies=policies, ticket=ticket
    )
    data = told(raw)["error"]["data"]
    assert all(type(value) is str for value in data[0]["metadata"].values()), "google.rpc.ErrorInfo holds texts"
    wanted = mcp.Told(code="approval_required", detail="why", policies=policies, ticket=ticket, decision="c-1")
    assert mcp.read_error(data) == wanted
    assert mcp.read_error([{**data[0], "domain": "other.example"}]) is None
    assert mcp.read_error([7, {"domain": "citywatch", "metadata": 7}]) is None
