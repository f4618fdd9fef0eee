"""Two gateway processes on one state folder: one revocation, one budget, one log."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests import forked
from tests.e2e.gateway.desk import Desk, answers, wait_for
from tests.fault.test_killed_gateway import MODERN
from tests.ports import free_port

VERIFIER = Path(__file__).parents[2] / "spec" / "verify_log.py"
BUDGET = 7
CALLERS = 24


class Replica:
    """One of the two: a configuration file of its own, the same state."""

    def __init__(self, desk: Desk, name: str) -> None:
        self.desk = desk
        self.port = free_port()
        self.file = f"{name}.yaml"
        plain = (desk.folder / "citywatch.yaml").read_text()
        told = plain.replace(f"127.0.0.1:{desk.port}", f"127.0.0.1:{self.port}")
        told = told.replace("roles: [payer]", f"roles: [payer]\n    budgets: {{desk/pay: {{calls: {BUDGET}}}}}")
        (desk.folder / self.file).write_text(told)
        self.process: forked.Running | None = None

    def up(self) -> None:
        self.process = self.desk._spawn([sys.executable, "-m", "citywatch", "-c", self.file, "up"])
        wait_for(lambda: answers(f"http://127.0.0.1:{self.port}/citywatch/health"), "a gateway")

    def down(self) -> None:
        if self.process is not None:
            self.process.terminate()
            assert self.process.wait(30) == 0

    async def ask(self, http: httpx2.AsyncClient, tool: str, arguments: dict[str, Any], **more: Any) -> str:
        """Call a tool; return the code under which it was refused, or `done`. `more` stands in its `_meta`."""
        meta = {
            **more,
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": tool, "arguments": arguments, "_meta": meta}
        response = await http.post(
            f"http://127.0.0.1:{self.port}/mcp/desk",
            json={"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
            headers={
                "Accept": "application/json, text/event-stream",
                "MCP-Protocol-Version": MODERN,
                "Mcp-Method": "tools/call",
                "Mcp-Name": tool,
            },
        )
        text = response.text if response.text.startswith("{") else response.text.rpartition("data: ")[2]
        answer = json.loads(text)
        if "error" in answer:
            return str(answer["error"]["data"]["code"])
        return str(answer["result"].get("_meta", {}).get("citywatch/code", "done"))


@pytest.fixture
def replicas(ready_desk: Desk) -> Iterator[tuple[Desk, Replica, Replica]]:
    one, other = Replica(ready_desk, "one"), Replica(ready_desk, "other")
    try:
        one.up()
        other.up()
        yield ready_desk, one, other
    finally:
        for replica in (one, other):
            if replica.process is not None and replica.process.poll() is None:
                replica.process.kill()
                replica.process.wait()


def caller(desk: Desk) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {desk.token()}"}, timeout=60)


async def test_a_revocation_by_a_third_process_holds_at_both_from_the_next_request(
    replicas: tuple[Desk, Replica, Replica],
) -> None:
    desk, one, other = replicas
    async with caller(desk) as http:
        for replica in (one, other):
            assert await replica.ask(http, "pay", {"to": "ann", "amount": 1}) == "done"
        await asyncio.to_thread(desk.run, "agent", "revoke", "clerk", "--reason", "turned")
        codes = await asyncio.gather(
            *(replica.ask(http, "pay", {"to": "eve", "amount": n}) for replica in (one, other) for n in range(1, 6))
        )
    assert set(codes) == {"agent_revoked"}
    assert desk.ledger() == ["ann 1", "ann 1"]


async def test_a_budget_raced_through_both_is_spent_exactly_once_and_the_log_has_no_gap(
    replicas: tuple[Desk, Replica, Replica],
) -> None:
    desk, one, other = replicas
    async with caller(desk) as http:
        codes = await asyncio.gather(
            *(
                replica.ask(http, "pay", {"to": "ann", "amount": amount})
                for amount in range(1, CALLERS + 1)
                for replica in (one, other)
            )
        )
        assert Counter(codes) == {"done": BUDGET, "budget_spent": 2 * CALLERS - BUDGET}
        assert len(desk.ledger()) == BUDGET
        for replica in (one, other):  # whoever did not spend the last unit knows as well that it is gone
            assert await replica.ask(http, "pay", {"to": "ann", "amount": 100}) == "budget_spent"
            assert await replica.ask(http, "look", {}) == "done"
    assert len(desk.ledger()) == BUDGET

    one.down()  # and what is left of it is not forgotten with a process
    one.up()
    async with caller(desk) as http:
        assert await one.ask(http, "pay", {"to": "ann", "amount": 99}) == "budget_spent"
    one.down()
    other.down()

    events = desk.events()
    decided = [event for event in events if event["type"] == "decided" and event["name"] == "pay"]
    assert sum(event["decision"] == "allow" for event in decided) == BUDGET
    assert len({event["call"] for event in decided}) == len(decided) == 2 * CALLERS + 3
    per_replica = Counter(event["replica"] for event in decided)
    assert min(per_replica.values()) >= CALLERS, "both replicas wrote in the one log"
    assert {event["replica"] for event in events if event["type"] == "stopped"} == set(per_replica)
    desk.run("log", "export", str(desk.folder / "export"))  # publishes what a publisher that was stopped left over
    assert f"verified: {len(events)} entries" in desk.run("log", "verify").stdout
    key = desk.run("log", "key").stdout.strip()
    command = [sys.executable, "-I", str(VERIFIER), "export", str(desk.folder / ".citywatch" / "log"), "--key", key]
    checked = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout
    assert f"{len(events)} entries give the signed root" in checked.stdout
