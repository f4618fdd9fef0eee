"""`/citywatch/plan`: an agent writes a plan over its own papers, before it reads anything, and is held to it."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.e2e.gateway.desk import Desk

PLAN: dict[str, Any] = {
    "plan": "mine",
    "within": "1h",
    "steps": [{"step": "pay", "tool": "desk/pay", "arguments": {"to": {"equals": "ann"}, "amount": {"at_most": 5}}}],
}


def write(desk: Desk, value: Any, token: str | None) -> tuple[int, dict[str, Any]]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    done = httpx2.post(f"http://127.0.0.1:{desk.port}/citywatch/plan", json=value, headers=headers, timeout=30)
    return done.status_code, done.json()


def test_an_agent_with_papers_writes_a_plan_and_nobody_else_does(new_desk: Desk) -> None:
    desk = new_desk
    with (desk.folder / "citywatch.yaml").open("a") as stream:
        stream.write('\nprincipals:\n  alice: {may: ["desk/*"]}\n')
    desk.start_upstream()
    desk.run("agent", "add", "clerk")
    desk.run("tools", "approve", "--yes")
    desk.up()
    token = desk.token()
    status, told = write(desk, PLAN, None)
    assert (status, told["error"]["data"]["code"]) == (401, "credential_missing")
    status, told = write(desk, PLAN, token)
    assert (status, told["error"]["data"]["code"]) == (403, "plan_refused"), "nobody gave it a task"
    desk.run("task", "start", "clerk", "--as", "alice", "Pay Ann")
    status, told = write(desk, {**PLAN, "steps": 7}, token)
    assert (status, told["error"]["data"]["code"]) == (400, "malformed")
    status, told = write(desk, PLAN, token)
    assert (status, told["kind"], told["assumes"]) == (200, "written", "honest until tainted")
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(f"http://127.0.0.1:{desk.port}/citywatch/plan", headers=headers, timeout=30).json() == told
    assert httpx2.get(f"http://127.0.0.1:{desk.port}/citywatch/plan", timeout=30).status_code == 401
    status, again = write(desk, PLAN, token)
    assert (status, again["error"]["data"]["code"]) == (403, "plan_refused"), "it does not name its parent"
    (written,) = [event for event in desk.events() if event["type"] == "plan_written"]
    assert written["plan"] == told["plan"]
