"""A real gateway killed by SIGKILL between any two steps, where words flow: what was not labelled was not released.

And nothing that decides where values come from lives in a process: contexts, items, known parties, plans and tickets
are what they were, whoever is killed.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway.desk import Desk
from tests.fault.doomed import STEPS
from tests.fault.test_killed_gateway import ask

FLOWING = """
principals:
  alice: {may: ["desk/*"]}
"""
KINDS = ("context", "item", "party", "ticket", "plan", "progress", "written")
PLAN = """
plan: look-and-pay
within: 2h
steps:
  - step: look
    tool: desk/look
    arguments: {what: free}
  - step: pay
    tool: desk/pay
    after: [look]
    arguments:
      to: free
      amount: {at_most: 100}
"""


@pytest.fixture
def flowing(ready_desk: Desk) -> Iterator[Desk]:
    """The desk with a principal, and a reply whose values are known parties from then on."""
    file = ready_desk.folder / "citywatch.yaml"
    plain = file.read_text()
    looks = 'look: {effect: read, output: {"$": {label: untrusted, party: places}}}'
    file.write_text(plain.replace("look: {effect: read}", looks) + FLOWING)
    yield ready_desk
    ready_desk.down()
    file.write_text(plain)


def rows(desk: Desk) -> dict[tuple[str, str], bytes]:
    """What is kept of where values come from, read by nothing of ours."""
    with closing(sqlite3.connect(desk.folder / ".citywatch" / "citywatch.db")) as database:
        found = database.execute("SELECT kind, id, value FROM row").fetchall()
    return {(kind, row): value for kind, row, value in found if kind in KINDS}


def items(found: dict[tuple[str, str], bytes]) -> int:
    (context,) = [json.loads(value) for (kind, _), value in found.items() if kind == "context"]
    assert context["items"] == len([one for one in found if one[0] == "item"])
    return int(context["items"])


def code_of(reply: dict[str, Any] | None) -> str | None:
    assert reply is not None
    code: str | None = reply["result"].get("_meta", {}).get("citywatch/code")
    return code


@pytest.mark.parametrize("step", STEPS)
def test_a_reply_is_released_with_its_label_or_not_at_all(flowing: Desk, step: str) -> None:
    desk = flowing
    desk.run("task", "start", "clerk", "--as", "alice", "Look around, then pay whom you know")
    token = desk.token()
    process = desk.up([sys.executable, str(Path(__file__).parent / "doomed.py"), step])
    before = len(desk.events())
    (desk.folder / "armed").touch()
    reply = ask(desk, token, "look", {})
    assert process.wait(30) == -signal.SIGKILL
    (desk.folder / "armed").unlink()
    settled = [one for one in desk.events()[before:] if one["type"] == "settled" and one["outcome"] == "released"]
    kept = rows(desk)
    assert items(kept) == 1 + len(settled)
    assert bool([one for one in kept if one[0] == "party"]) == bool(settled)
    assert reply is None or settled

    desk.up()
    assert {one: value for one, value in rows(desk).items() if one[0] != "ticket"} == kept
    # It has read what a stranger may have written, or it has not: that is what the next call is judged by.
    assert code_of(ask(desk, token, "pay", {"to": "eve", "amount": 1})) == ("approval_required" if settled else None)
    desk.run("log", "verify")


def test_a_restart_keeps_contexts_plans_tickets_and_known_parties(flowing: Desk) -> None:
    desk = flowing
    plan = desk.folder / "plan.yaml"
    plan.write_text(PLAN)
    desk.run("task", "start", "clerk", "--as", "alice", "--plan", str(plan), "Look around, then pay")
    token = desk.token()
    process = desk.up()
    assert code_of(ask(desk, token, "look", {})) is None
    assert code_of(ask(desk, token, "pay", {"to": "eve", "amount": 5})) == "approval_required"
    kept = rows(desk)
    assert {kind for kind, _ in kept} >= {"context", "item", "party", "ticket", "plan"}
    process.kill()
    process.wait()

    desk.up()
    assert rows(desk) == kept
    assert code_of(ask(desk, token, "pay", {"to": "mallory", "amount": 5})) == "approval_required"
    (ticket, _) = (line.split()[0] for line in desk.run("tickets", "list").stdout.splitlines())
    desk.run("tickets", "approve", ticket, "--as", "alice", "--reason", "known")
    assert code_of(ask(desk, token, "pay", {"to": "eve", "amount": 5})) is None
    assert desk.ledger() == ["eve 5"]
    assert code_of(ask(desk, token, "pay", {"to": "eve", "amount": 5})) == "approval_required"
