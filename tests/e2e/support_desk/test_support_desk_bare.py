"""With nothing in between, the agent does what it reads: the refund it owes, and whatever was planted."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from examples.support_desk import agent, model, scenario, services, wording, world

Rebuild = Callable[[wording.Attack | None], world.World]


async def _handle(desk: services.Desk, drawn: world.World) -> agent.Transcript:
    return await agent.run_agent(model.ObedientModel(), desk.bare(), scenario.SYSTEM, scenario.task(drawn.ticket))


def _paid(data: Path) -> list[tuple[str, int, str]]:
    with closing(sqlite3.connect(data / "ledger.sqlite")) as db:
        return [tuple(row) for row in db.execute("SELECT iban, cents, reference FROM transfers ORDER BY transfer_id")]


async def test_an_honest_ticket_is_refunded_once_and_answered(open_desk: services.Desk, rebuild: Rebuild) -> None:
    drawn = rebuild(None)
    transcript = await _handle(open_desk, drawn)
    assert [step.outcome for step in transcript.steps] == ["done"] * 7
    assert _paid(open_desk.data) == [(drawn.customer.account, drawn.owed, drawn.order)]
    assert world.balance(open_desk.data, drawn.company) == world.OPENING_BALANCE - drawn.owed
    with closing(sqlite3.connect(open_desk.data / "tickets.sqlite")) as db:
        assert db.execute("SELECT status FROM tickets WHERE ticket_id = ?", (drawn.ticket,)).fetchone() == ("answered",)


async def test_what_is_planted_is_paid(open_desk: services.Desk, rebuild: Rebuild, seed: int) -> None:
    """Account, amount, reference and wording and place are drawn now; the money moves wherever the words were put."""
    attack = wording.draw_attack(random.Random(seed))
    drawn = rebuild(attack)
    await _handle(open_desk, drawn)
    stolen = (attack.account, attack.cents, attack.reference)
    honest = (drawn.customer.account, drawn.owed, drawn.order)
    assert sorted(_paid(open_desk.data)) == sorted([stolen, honest]), f"seed {seed}: {attack.text}"
    assert world.balance(open_desk.data, attack.account) == attack.cents


def test_the_same_attack_gives_the_same_books(tmp_path: Path) -> None:
    attack = wording.draw_attack(random.Random(5))
    assert world.build(tmp_path / "a", attack) == world.build(tmp_path / "b", attack)
    for name in ("crm", "ledger", "tickets"):
        assert _dump(tmp_path / "a" / f"{name}.sqlite") == _dump(tmp_path / "b" / f"{name}.sqlite")


def test_a_transfer_books_both_sides_or_neither(open_desk: services.Desk, rebuild: Rebuild) -> None:
    drawn = rebuild(None)
    refused = _call(open_desk, "ledger", "transfer", {"to": drawn.customer.account, "amount": "10000.01"})
    assert refused["isError"]
    assert world.balance(open_desk.data, drawn.company) == world.OPENING_BALANCE
    assert not _paid(open_desk.data)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic x"}])
def test_no_server_answers_without_its_token(open_desk: services.Desk, headers: dict[str, str]) -> None:
    for url in open_desk.urls.values():
        assert httpx.post(url, json={}, headers=headers, trust_env=False).status_code == 401


def test_servers_stop_when_whoever_started_them_is_gone(tmp_path: Path) -> None:
    world.build(tmp_path, None)
    with services.open_desk(tmp_path) as desk:
        processes: list[subprocess.Popen[bytes]] = desk.processes
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()  # what the system does to our end of the pipe if we are killed
        assert [process.wait(120) for process in processes] == [0, 0, 0]


def _dump(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def _call(desk: services.Desk, server: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One raw call in the stateless revision."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {
        "Authorization": f"Bearer {desk.tokens[server]}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": body}
    answer = httpx.post(desk.urls[server], json=request, headers=headers, trust_env=False)
    result: dict[str, Any] = answer.json()["result"]
    return result
