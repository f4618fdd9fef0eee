"""`citywatch blast` over a real store: the tree, the numbers, and what it says of what the log does not know."""

from __future__ import annotations

import json
from pathlib import Path

from tests.unit.main.test_tasks import here, run, wants

__all__ = ["here"]


def test_an_agent_is_told_with_what_it_did_and_tried(here: Path) -> None:
    assert not wants(to="eve", amount=5).allowed
    run("task", "start", "clerk", "--as", "alice", "Pay bob 5")
    assert wants(to="bob", amount=5).allowed
    said = run("blast", "clerk")
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert lines[0] == "from all that clerk did from entry 0 on"
    assert "1 calls let through with an effect" in lines[1]
    assert any(line.startswith("context of clerk") for line in lines)
    assert any("bank/pay (irreversible) let through" in line for line in lines)
    assert any(line.strip() == "1 call asked about" for line in lines)
    assert any("wrote something of bank" in line for line in lines)
    shown = run("blast", "clerk", "--all").output
    assert "bank/pay (irreversible) asked about" in shown


def test_a_task_is_told_from_where_it_began_and_json_counts_the_same(here: Path) -> None:
    assert not wants(to="eve", amount=5).allowed
    started = run("task", "start", "clerk", "--as", "alice", "Pay bob 5").output
    assert wants(to="bob", amount=5).allowed
    told = json.loads(run("blast", started.split()[1].rstrip(":,"), "--json").output)
    assert told["counts"]["calls"] == told["counts"]["calls_let_through_with_an_effect"] == 1
    assert [one["kind"] for one in told["touched"]] == ["context", "call", "object"]
    assert [one["by"] for one in told["touched"]] == [-1, 0, 1]


def test_what_the_log_does_not_know_is_said_in_one_line(here: Path) -> None:
    said = run("blast", "nobody")
    assert said.exit_code == 2
    assert said.output.splitlines() == ["citywatch: the log knows no agent, call, task or item `nobody`"]


def test_what_an_agent_wrote_does_not_draw_on_the_terminal(here: Path) -> None:
    run("task", "start", "clerk", "--as", "alice", "Pay \x1b[2J\u202ebob 5")
    wants(to="\x1b[2J\u202ebob", amount=5)
    said = run("blast", "clerk", "--all").output
    assert said.isascii()
    assert "\x1b" not in said
