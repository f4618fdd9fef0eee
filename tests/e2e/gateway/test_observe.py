"""A gateway that only observes says so to everybody who looks: the terminal, the health route, the log, the check."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.e2e.gateway.desk import Desk

CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "pay",
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        },
    },
}
HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2026-07-28",
    "mcp-method": "tools/call",
    "mcp-name": "pay",
}


@pytest.fixture
def observer(new_desk: Desk) -> Desk:
    file = new_desk.folder / "citywatch.yaml"
    file.write_text(file.read_text() + "unsafe_observe: true\n")
    new_desk.start_upstream()
    new_desk.run("agent", "add", "clerk")
    new_desk.run("tools", "approve", "--yes")
    new_desk.up()
    return new_desk


def post(desk: Desk, headers: dict[str, str], amount: int = 101) -> int:
    params: dict[str, Any] = CALL["params"]  # type: ignore[assignment]
    call = {**CALL, "params": {**params, "arguments": {"amount": amount, "to": "x"}}}
    request = urllib.request.Request(desk.url, json.dumps(call).encode(), HEADERS | headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            response.read()
            return int(response.status)
    except urllib.error.HTTPError as failure:
        return failure.code


def health(desk: Desk) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{desk.port}/citywatch/health", timeout=30) as response:
        told: dict[str, Any] = json.loads(response.read())
        return told


def test_it_is_said_wherever_somebody_looks_and_papers_count_all_the_same(observer: Desk) -> None:
    assert post(observer, {}) == 401
    assert post(observer, {"authorization": f"Bearer {observer.token()}"}) == 200
    assert observer.ledger() != []
    said = (observer.folder / "up.log").read_text()
    assert "UNSAFE       unsafe_observe" in said
    assert "NOTHING IS ENFORCED" in said
    assert health(observer)["enforcing"] is False
    assert health(observer)["status"].startswith("UNSAFE")
    events = observer.events()
    assert [one["unsafe"] for one in events if one["type"] == "started"] == [["unsafe_observe"]]
    assert [(one["decision"], one["code"]) for one in events if one["type"] == "decided"] == [
        ("would_deny", "no_permit")
    ]
    assert (
        "`unsafe_observe` is on: nothing is enforced" in observer.run("check", "--closed", "desk", check=False).stdout
    )


def test_a_gateway_that_enforces_says_that_it_does(desk: Desk) -> None:
    told = health(desk)
    assert told == {"status": "ok", "published": told["published"], "enforcing": True}
    assert post(desk, {"authorization": f"Bearer {desk.token()}"}) == 200
    assert desk.ledger() == []
