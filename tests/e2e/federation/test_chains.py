"""A task that a partner's gateway rooted reaches ours: two real gateways, each with its own authority and log."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.federation.test_federation import OURS, PARTNER, Land
from tests.fault.test_killed_gateway import MODERN

AGENTS = """
  partner_router:
    spiffe_id: spiffe://partner.example/agent/router
    roles: [payer]
"""
PRINCIPALS = 'principals: {anna: {may: ["*"]}}\n'
FEDERATION = """
federation:
  partner.example:
    bundle: partner.example.json
    speaks_for: [anna]
"""
CHAINS = "    chains: {tools: [desk/look], calls: 3, longest: 1h}\n"


class Pair:
    """The partner's gateway, which need not run, and ours, which does."""

    def __init__(self, root: Path, stack: ExitStack, chains: str = CHAINS) -> None:
        self.partner = Land(root / "partner", stack, PARTNER)
        self.home = Land(root / "home", stack, OURS)
        self.partner.file.write_text(self.partner.file.read_text() + PRINCIPALS)
        self.partner.add("router")
        (self.home.desk.folder / f"{PARTNER}.json").write_bytes(self.partner.bundle())
        text = self.home.file.read_text().replace("servers:\n", AGENTS.lstrip("\n") + "servers:\n", 1)
        self.home.file.write_text(text + PRINCIPALS + FEDERATION + chains)
        self.home.desk.start_upstream()
        self.home.add("clerk")
        self.home.desk.run("tools", "approve", "--yes")
        self.home.desk.up()

    def rooted(self, *more: str) -> tuple[str, list[str]]:
        """What the partner's own command signs for its router: the task and the chain."""
        left = self.partner.desk.folder / "left.json"
        left.write_text(json.dumps({"tools": ["desk/*"]}))
        said = self.partner.desk.run(
            "task", "start", "router", "--as", "anna", "--grant", "r.json", "--caveats", "left.json",
            *(more or ("--audience", OURS)), "--for", "30m", "Look at the desk of t.example",
        ).stdout  # fmt: skip
        found = re.search(r"task (\S+)", said)
        assert found is not None
        return found[1], json.loads((self.partner.desk.folder / "r.json").read_text())

    async def calls(self, land: Land, name: str, task: str, chain: list[str], tool: str = "look") -> str:
        context = ssl.create_default_context(cafile=str(self.home.city.papers("clerk") / "bundle.pem"))
        context.load_cert_chain(land.city.papers(name) / "svid.pem", land.city.papers(name) / "key.pem")
        meta: dict[str, Any] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "citywatch/task": task,
            "citywatch/chain": chain,
        }
        params = {"name": tool, "arguments": {"to": "ann", "amount": 5} if tool == "pay" else {}, "_meta": meta}
        headers = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": "tools/call",
            "Mcp-Name": tool,
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        async with httpx2.AsyncClient(verify=context, timeout=30) as http:
            text = (await http.post(self.home.city.url, json=message, headers=headers)).text
        answer = json.loads(text if text.startswith("{") else text.partition("data: ")[2])
        if "error" in answer:
            return str(answer["error"]["data"]["code"])
        return str(answer["result"].get("_meta", {}).get("citywatch/code", "done"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path_factory.mktemp("chains"), stack)


async def test_without_a_ceiling_a_chain_that_begins_over_there_is_refused(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, stack, chains="")
        task, chain = pair.rooted()
        assert await pair.calls(pair.partner, "router", task, chain) == "task_not_held"


async def test_with_one_the_partners_agent_acts_within_it(pair: Pair) -> None:
    task, chain = pair.rooted()
    assert await pair.calls(pair.partner, "router", task, chain) == "done"
    assert await pair.calls(pair.partner, "router", task, chain, "pay") == "beyond_grant"
    entry = [event for event in pair.home.desk.events() if event["type"] == "decided"][-1]
    assert entry["rooted"] == PARTNER
    assert entry["via"] == ["principal:anna", "spiffe://partner.example/agent/router"]
    assert entry["agent"] == "spiffe://partner.example/agent/partner_router"


async def test_an_agent_of_ours_acts_under_what_the_partners_agent_handed_on(pair: Pair) -> None:
    task, _ = pair.rooted()
    home = pair.home.desk
    thumb = re.search(r"clerk.*?([A-Za-z0-9_-]{43})", home.run("agent", "list").stdout, re.DOTALL)
    assert thumb is not None
    pair.partner.desk.run(
        "grant", "hand-on", "r.json", "--to", f"spiffe://{OURS}/agent/clerk", "--thumb", thumb[1],
        "--folder", "agents/router", "--out", "c.json",
    )  # fmt: skip
    chain = json.loads((pair.partner.desk.folder / "c.json").read_text())
    assert await pair.calls(pair.home, "clerk", task, chain[:1]) == "chain_not_held"
    for _ in range(3):
        assert await pair.calls(pair.home, "clerk", task, chain) == "done"
    assert await pair.calls(pair.home, "clerk", task, chain) == "budget_spent"  # three calls for each task of theirs


async def test_a_chain_that_does_not_name_us_is_of_no_use_here(pair: Pair) -> None:
    for more in (("--depth", "1"), ("--audience", "third.example")):
        task, chain = pair.rooted(*more)
        assert await pair.calls(pair.partner, "router", task, chain) == "chain_wrong_audience"


async def test_an_entry_under_their_chain_is_explained_and_comes_out_the_same(pair: Pair) -> None:
    task, chain = pair.rooted()
    assert await pair.calls(pair.partner, "router", task, chain) == "done"
    entry = next(one for one in pair.home.desk.events() if one["type"] == "decided" and one.get("rooted"))
    said = pair.home.desk.run("why", entry["call"]).stdout
    assert "the same decision, in the same words" in said
    assert f"rooted in {PARTNER}" in said


async def test_the_operator_withdraws_all_that_the_domain_roots(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pair = Pair(tmp_path, stack)
        task, chain = pair.rooted()
        assert await pair.calls(pair.partner, "router", task, chain) == "done"
        pair.home.desk.run("grant", "withdraw", f"domain:{PARTNER}", "--reason", "they were broken into")
        assert await pair.calls(pair.partner, "router", task, chain) == "chain_revoked"
