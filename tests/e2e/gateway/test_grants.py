"""A task that is handed on, as operators, agents and a real gateway do it: the command line, files, `_meta`."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import httpx2

from tests import forked
from tests.e2e.gateway.desk import DEADLINE_S, Desk, listens, wait_for
from tests.fault.test_killed_gateway import MODERN
from tests.ports import free_port

HELPER = "spiffe://t.example/agent/helper"


def look(desk: Desk, token: str | None, what: str, meta: dict[str, Any], url: str | None = None) -> str:
    """The code that a call gets, or what the server said."""
    own = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params = {"name": "look", "arguments": {"what": what}, "_meta": own | meta}
    headers = {
        **({} if token is None else {"Authorization": f"Bearer {token}"}),
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "look",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    text = httpx2.post(url or desk.url, json=message, headers=headers, timeout=30).text
    answer = json.loads(text if text.startswith("{") else text.partition("data: ")[2])
    if "error" in answer:
        return str(answer["error"]["data"]["code"])
    said = answer["result"]
    return str(said.get("_meta", {}).get("citywatch/code") or said["content"][0]["text"])


def look_through(desk: Desk, name: str, chain: str) -> str:
    """What a client of `citywatch connect` gets, which knows neither papers nor chains."""
    port = free_port()
    command = [sys.executable, "-m", "citywatch", "connect", name, "--gateway", f"http://127.0.0.1:{desk.port}"]
    with forked.start([*command, "--listen", f"127.0.0.1:{port}", "--chain", chain], cwd=desk.folder) as bridge:
        try:
            wait_for(lambda: listens(port), "the bridge")
            return look(desk, None, "orders", {}, f"http://127.0.0.1:{port}/mcp/desk")
        finally:
            bridge.terminate()
            bridge.wait(DEADLINE_S)


def test_a_task_is_handed_on_within_bounds_and_taken_back(new_desk: Desk) -> None:
    desk = new_desk
    file = desk.folder / "citywatch.yaml"
    told = file.read_text().replace("agents:\n", "agents:\n  helper: {delegated_only: true}\n")
    file.write_text(told + '\nprincipals:\n  alice: {may: ["desk/*"]}\n')
    desk.start_upstream()
    desk.run("agent", "add", "clerk")
    added = desk.run("agent", "add", "helper").stdout
    thumb = re.search(r"\(key (\S+)\)", added)
    assert thumb is not None
    desk.run("tools", "approve", "--yes")
    desk.up()
    (desk.folder / "left.json").write_text('{"arguments": {"desk/look": {"what": {"one_of": ["orders", "parcels"]}}}}')
    (desk.folder / "less.json").write_text('{"calls": 2}')
    started = desk.run("task", "start", "clerk", "--as", "alice", "--grant", "c.json", "--caveats", "left.json", "Sort")
    task = started.stdout.split()[1]
    to = ("--to", HELPER, "--thumb", thumb[1], "--folder", "agents/clerk", "--out", "h.json")
    desk.run("grant", "hand-on", "c.json", *to, "--caveats", "less.json", "--for", "10m", "--depth", "0")
    chain = json.loads((desk.folder / "h.json").read_text())
    shown = {"citywatch/task": task, "citywatch/chain": chain}
    clerk, helper = desk.token(), desk.run("agent", "token", "helper").stdout.strip()

    assert look(desk, helper, "orders", {}) == "chain_missing"
    assert look_through(desk, "helper", "h.json") == "looked at orders"
    assert look(desk, helper, "salaries", shown) == "beyond_grant"
    assert look(desk, helper, "orders", shown) == "budget_spent"
    assert look(desk, clerk, "orders", shown) == "chain_not_held"
    assert look(desk, clerk, "orders", {**shown, "citywatch/chain": chain[:1]}) == "looked at orders"
    assert look(desk, clerk, "orders", {**shown, "citywatch/chain": ["a.b.c"]}) == "chain_malformed"
    assert look(desk, clerk, "orders", {**shown, "citywatch/chain": 7}) == "malformed"

    name = re.search(r"grant:[0-9a-f]{64}", desk.run("grant", "show", "c.json").stdout)
    assert name is not None
    desk.run("grant", "withdraw", name[0], "--reason", "sorted")
    assert look(desk, clerk, "orders", {**shown, "citywatch/chain": chain[:1]}) == "chain_revoked"
    decided = [one for one in desk.events() if one["type"] == "decided" and one["via"]]
    assert decided[0]["via"] == ["principal:alice", "spiffe://t.example/agent/clerk", HELPER]
    why = desk.run("why", decided[0]["call"]).stdout
    assert f"for principal:alice -> spiffe://t.example/agent/clerk -> {HELPER}" in why
    assert [one["type"] for one in desk.events() if one["type"].startswith("grant_")] == [
        "grant_rooted",
        "grant_withdrawn",
    ]
