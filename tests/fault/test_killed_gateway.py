"""A real gateway killed by SIGKILL at each named step, for a read and for a payment, and started again."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from citywatch.core.wire.headers import encode_value
from tests.e2e.gateway.desk import Desk
from tests.fault.doomed import IN_STREAM, STEPS

MODERN = "2026-07-28"


def ask(desk: Desk, token: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Call a tool; return the reply, or None if the gateway died under it."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    try:
        with urllib.request.urlopen(request(desk, token, tool, arguments, meta), timeout=30) as response:
            text = response.read().decode()
    except (urllib.error.URLError, HTTPException, OSError):
        return None
    found: dict[str, Any] = json.loads(text if text.startswith("{") else text.partition("data: ")[2])
    return found


def request(
    desk: Desk, token: str, tool: str, arguments: dict[str, Any], meta: dict[str, Any]
) -> urllib.request.Request:
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    return urllib.request.Request(
        desk.url,
        body,
        {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": encode_value(tool),
        },
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("tool", "arguments"), [("look", {}), ("pay", {"to": "ann", "amount": 1})])
def test_nothing_happened_that_the_log_does_not_know(
    ready_desk: Desk, step: str, tool: str, arguments: dict[str, Any]
) -> None:
    desk = ready_desk
    token = desk.token()
    process = desk.up([sys.executable, str(Path(__file__).parent / "doomed.py"), step])
    before = len(desk.events())
    (desk.folder / "armed").touch()
    reply = ask(desk, token, tool, arguments)
    assert process.wait(30) == -9
    (desk.folder / "armed").unlink()
    written = [event for event in desk.events()[before:] if event.get("method") in (None, "tools/call")]
    decided = [event for event in written if event["type"] == "decided"]
    settled = [event for event in written if event["type"] == "settled"]

    assert (reply is not None) == (step == "after release")
    if reply is not None:
        assert [event["outcome"] for event in settled] == ["released"], "a reply that is not in the log"
    if desk.ledger():
        assert decided, "money moved for a call that is not in the log"

    desk.up()
    after = desk.events()[before:]
    lost = [event["call"] for event in after if event["type"] == "lost"]
    assert lost == [event["call"] for event in decided if not settled]

    again = ask(desk, token, tool, arguments)
    assert again is not None
    code = again["result"].get("_meta", {}).get("citywatch/code")
    if lost and tool == "pay":
        assert code == "outcome_unknown"
        assert len(desk.ledger()) <= 1
    else:
        assert code is None
    desk.run("log", "verify")


def test_what_an_agent_heard_of_a_stream_is_in_the_log(ready_desk: Desk) -> None:
    desk = ready_desk
    token = desk.token()
    process = desk.up([sys.executable, str(Path(__file__).parent / "doomed.py"), IN_STREAM])
    before = len(desk.events())
    (desk.folder / "armed").touch()
    heard = listen(desk, token)
    assert process.wait(30) == -9
    (desk.folder / "armed").unlink()
    assert heard
    assert {message["method"] for message in heard} == {"notifications/progress"}
    told = [event for event in desk.events()[before:] if event.get("direction") == "to_agent"]
    assert len(told) >= len(heard)
    assert {(event["method"], event["decision"]) for event in told} == {("notifications/progress", "allow")}
    desk.up()
    (call,) = [event["call"] for event in desk.events()[before:] if event.get("method") == "tools/call"]
    assert call in [event["call"] for event in desk.events()[before:] if event["type"] == "lost"]
    desk.run("log", "verify")


def listen(desk: Desk, token: str) -> list[dict[str, Any]]:
    """Every message that came of a counting call before its stream broke off."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "progressToken": 1,
    }
    heard: list[dict[str, Any]] = []
    with (
        suppress(urllib.error.URLError, HTTPException, OSError),
        urllib.request.urlopen(request(desk, token, "count", {"upto": 3}, meta), timeout=30) as response,
    ):
        for line in response:
            if line.startswith(b"data: {"):
                heard.append(json.loads(line[6:]))
    return heard
