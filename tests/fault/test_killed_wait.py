"""A real gateway killed by SIGKILL while a call waits for a person: no ticket is lost, and none is executed twice."""

from __future__ import annotations

import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway.desk import Desk
from tests.fault.doomed import STEPS
from tests.fault.test_killed_gateway import MODERN

ASKING = '\nprincipals:\n  alice: {may: ["desk/*"]}\nconsole: {address: "https://city.t.example"}\n'
LEGACY = "2025-11-25"
COMPLETE = "notifications/elicitation/complete"
CLIENT = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"citywatch/waits": {}}},
}
UNDECIDED = ("before load", "after load", "before the decision commits")
"""Steps at which nothing was decided yet: the yes is still there for the call."""


@pytest.fixture
def asking(ready_desk: Desk) -> Iterator[Desk]:
    """The desk where a person is asked about each payment."""
    file = ready_desk.folder / "citywatch.yaml"
    plain = file.read_text()
    file.write_text(plain + ASKING)
    yield ready_desk
    ready_desk.down()
    file.write_text(plain)


def pay(desk: Desk, token: str, state: str | None = None) -> dict[str, Any] | None:
    """Pay eve, or come back with a state; None if the gateway died under it."""
    params: dict[str, Any] = {"name": "pay", "arguments": {"to": "eve", "amount": 5}, "_meta": CLIENT}
    if state is not None:
        params["requestState"] = state
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "tools/call", "Mcp-Name": "pay"}
    try:
        return said(sent(desk, token, headers, {"id": 1, "method": "tools/call", "params": params}))
    except (urllib.error.URLError, HTTPException, OSError):
        return None


def sent(desk: Desk, token: str, headers: dict[str, str], message: dict[str, Any] | None) -> HTTPResponse:
    """Post a message, or listen."""
    body = None if message is None else json.dumps({"jsonrpc": "2.0", **message}).encode()
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream", **headers}
    answer: HTTPResponse = urllib.request.urlopen(urllib.request.Request(desk.url, body, headers), timeout=60)
    return answer


def said(response: HTTPResponse) -> dict[str, Any]:
    """The one message of an answer, or the last of a short stream."""
    with response:
        text = response.read().decode()
    found: dict[str, Any] = json.loads(text if text.startswith("{") else text.rpartition("data: ")[2])
    return found


def begin(desk: Desk, token: str) -> tuple[str, str]:
    """Make the call that a person is asked about; the state and the ticket."""
    told = pay(desk, token)
    assert told is not None
    assert told["result"]["resultType"] == "input_required"
    return told["result"]["requestState"], told["result"]["_meta"]["citywatch/ticket"]


def approve(desk: Desk, ticket: str) -> None:
    desk.run("tickets", "approve", ticket, "--as", "alice", "--reason", "known")


def went_through(told: dict[str, Any] | None) -> bool:
    return told is not None and not told.get("result", {"isError": True}).get("isError", False)


@pytest.mark.parametrize("approved_first", [True, False])
def test_a_ticket_that_waits_outlives_the_gateway_and_is_executed_once(asking: Desk, approved_first: bool) -> None:
    desk = asking
    token, process = desk.token(), desk.up()
    state, ticket = begin(desk, token)
    before = len(desk.ledger())
    process.kill()
    process.wait()
    if approved_first:
        approve(desk, ticket)
    desk.up()
    if not approved_first:
        approve(desk, ticket)
    assert went_through(pay(desk, token, state))
    again = pay(desk, token, state)
    assert again is not None
    assert again["error"]["data"]["code"] == "input_unexpected"
    assert desk.ledger()[before:] == ["eve 5"]
    desk.run("log", "verify")


def test_a_session_that_was_led_to_a_ticket_is_told_of_it_by_the_next_process(asking: Desk) -> None:
    """MCP 2025-11-25: what the session was led to outlives the gateway, and so does its server's side of it."""
    desk = asking
    token, process = desk.token(), desk.up()
    hello = {"protocolVersion": LEGACY, "capabilities": {"elicitation": {"url": {}}}}
    params = {**hello, "clientInfo": {"name": "c", "version": "1"}}
    with sent(desk, token, {}, {"id": 1, "method": "initialize", "params": params}) as greeted:
        session = {"MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": str(greeted.headers["mcp-session-id"])}
    sent(desk, token, session, {"method": "notifications/initialized"}).close()
    paying = {"id": 2, "method": "tools/call", "params": {"name": "pay", "arguments": {"to": "eve", "amount": 6}}}
    error = said(sent(desk, token, session, paying))["error"]
    (asked,) = error["data"]["elicitations"]
    assert (error["code"], asked["url"]) == (-32042, f"https://city.t.example/tickets/{asked['elicitationId']}")
    before = len(desk.ledger())
    process.kill()
    process.wait()
    approve(desk, asked["elicitationId"])
    desk.up()
    with sent(desk, token, session, None) as stream:
        line = next(line for line in stream if line.startswith(b"data: {"))
    told = json.loads(line[6:])
    assert (told["method"], told["params"]["elicitationId"]) == (COMPLETE, asked["elicitationId"])
    assert "result" in said(sent(desk, token, session, paying))
    assert said(sent(desk, token, session, paying))["error"]["code"] == -32042, "one yes is for one call"
    assert desk.ledger()[before:] == ["eve 6"]


@pytest.mark.parametrize("step", STEPS)
def test_a_yes_is_executed_at_most_once_wherever_the_gateway_dies(asking: Desk, step: str) -> None:
    desk = asking
    token = desk.token()
    desk.up()
    state, ticket = begin(desk, token)
    approve(desk, ticket)
    desk.down()
    before = len(desk.ledger())
    process = desk.up([sys.executable, str(Path(__file__).parent / "doomed.py"), step])
    (desk.folder / "armed").touch()
    pay(desk, token, state)
    assert process.wait(30) == -signal.SIGKILL
    (desk.folder / "armed").unlink()
    moved = len(desk.ledger()) - before
    assert moved <= (step not in UNDECIDED)

    desk.up()
    later = [pay(desk, token, state) for _ in range(3)]
    assert [went_through(one) for one in later] == [step in UNDECIDED, False, False]
    assert len(desk.ledger()) - before == (1 if step in UNDECIDED else moved)
    if step not in UNDECIDED:
        unclear = pay(desk, token)
        assert unclear is not None
        assert not went_through(unclear) or unclear["result"]["resultType"] == "input_required"
    desk.run("log", "verify")
