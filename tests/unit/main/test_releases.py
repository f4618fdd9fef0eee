"""`citywatch log releases` and `citywatch context`, over a real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.simulation.flow_city import ANN, MALLORY
from tests.unit.main.test_tasks import asked, here, run, wants

assert here is not None  # a fixture, used by name


def looks() -> None:
    """The clerk reads what a stranger wrote."""
    assert asyncio.run(asked({}, "look", {"content": [{"type": "text", "text": "good morning"}]})).allowed


@pytest.fixture
def busy(here: Path) -> Path:
    """A city in which something was read, something paid, and something approved."""
    run("task", "start", "clerk", "--as", "alice", f"pay {ANN}")
    looks()
    assert wants(to=ANN).allowed
    assert not wants(to=MALLORY).allowed
    ticket = run("tickets", "list").output.split()[0]
    assert run("tickets", "approve", ticket, "--reason", "I rang him \u202eup", "--as", "alice").exit_code == 0
    assert wants(to=MALLORY).allowed
    return here


def test_every_release_is_listed_with_its_rule_its_labels_and_its_reason(busy: Path) -> None:
    lines = run("log", "releases").output.splitlines()
    assert len(lines) == 2
    assert "clerk  call " in lines[0]
    assert "to (destination) named: principal:alice" in lines[0]
    assert "from outside:bank/look, principal:alice to principal:alice; a person who may steer this act" in lines[0]
    assert "to (destination) approved: ticket" in lines[1]
    assert "to nobody outside; I rang him \\u202eup" in lines[1]


def test_releases_are_narrowed_to_a_call_a_rule_and_a_number(busy: Path) -> None:
    approved = [json.loads(line) for line in run("log", "releases", "--how", "approved", "--json").output.splitlines()]
    assert [one["path"] for one in approved] == ["to"]
    assert len(run("log", "releases", "--call", approved[0]["call"]).output.splitlines()) == 1
    assert len(run("log", "releases", "--last", "1").output.splitlines()) == 1
    assert "no label was let down" in run("log", "releases", "--call", "none").output


def test_what_an_agent_writes_is_not_taken_for_a_release(here: Path) -> None:
    run("task", "start", "clerk", "--as", "alice", "hello")
    looks()
    wants(to='"type":"label_released"')
    assert "no label was let down" in run("log", "releases").output


def test_a_context_is_shown_and_released(busy: Path) -> None:
    shown = run("context", "show", "clerk").output
    assert "shaped by outside:bank/look, principal:alice" in shown
    assert "bank/look" in shown
    assert "principal:alice" in shown
    done = run("context", "release", "clerk", "--reason", "started anew")
    assert done.exit_code == 0
    assert done.output.startswith("released the context of clerk, key ")
    after = run("context", "show", "clerk", "--last", "0").output
    assert "items  shaped by nobody outside; for everybody" in after
    assert "was let down from shaped by outside:bank/look, principal:alice" in after
    assert "its context cleared: " in run("log", "releases", "--last", "1").output
    assert "started anew" in run("log", "releases", "--last", "1").output
    again = run("context", "release", "clerk", "--reason", "again")
    assert again.exit_code != 0
    assert "no context of `clerk` has a label" in again.output


@pytest.mark.parametrize("command", [("show",), ("release", "--reason", "x")])
def test_an_unknown_agent_has_no_context(here: Path, command: tuple[str, ...]) -> None:
    told = run("context", *command, "nobody")
    assert told.exit_code != 0
    assert "no agent `nobody` is registered" in told.output


def test_a_release_needs_a_reason(busy: Path) -> None:
    assert run("context", "release", "clerk").exit_code != 0
    assert "has a reason" in run("context", "release", "clerk", "--reason", " ").output
