"""`citywatch reach` over a real store: the list, the number that gates, the premises, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.main.test_tasks import here, run, wants

__all__ = ["here"]
PLAN = "plan: pay\nwithin: 1h\nsteps:\n  - {step: pay, tool: bank/pay, arguments: {to: {equals: bob}, amount: free}}\n"


def told(*arguments: str) -> dict[str, Any]:
    said = run("reach", "clerk", "--json", *arguments)
    assert said.exit_code == 0, said.output
    found: dict[str, Any] = json.loads(said.output)
    assert found["count"] == len(found["rows"])
    return found


def aims(found: dict[str, Any], act: str) -> set[tuple[str, str]]:
    return {(row["argument"], row["way"]) for row in found["rows"] if row["act"] == act}


def test_a_hijacked_clerk_pays_nobody_until_somebody_spoke(here: Path) -> None:
    assert aims(told(), "bank/pay") == set()
    assert ("to", "entitled") in aims(told("--as", "alice", "--task", "Pay bob"), "bank/pay")
    said = run("reach", "clerk").output
    assert said.startswith("clerk, hijacked, reaches ")
    assert "from a fresh context that has read one stranger's text; nobody named anything" in said
    assert any(line.split()[:3] == ["bank/look", "names", "nobody"] for line in said.splitlines())
    assert said.isascii()


def test_the_number_gates(here: Path) -> None:
    count = told()["count"]
    assert count > 0
    assert run("reach", "clerk", "--max", str(count)).exit_code == 0
    over = run("reach", "clerk", "--max", str(count - 1))
    assert over.exit_code == 1
    assert f"{count} can be reached, more than {count - 1}" in over.output
    (here / "policies" / "all.cedar").write_text(
        '@id("none") permit(principal, action == Action::"bank/look", resource);'
    )
    assert run("reach", "clerk", "--max", "1").exit_code == 0


def test_where_nothing_is_enforced_no_number_is_small_enough(here: Path) -> None:
    assert run("reach", "clerk", "--max", "9999").exit_code == 0
    file = here / "citywatch.yaml"
    file.write_text(file.read_text() + "unsafe_observe: true\n")
    said = run("reach", "clerk", "--max", "9999")
    assert said.exit_code == 1
    assert "`unsafe_observe` is on" in said.output


def test_the_context_as_it_is_holds_what_people_said_and_the_plan_that_they_gave(here: Path) -> None:
    run("task", "start", "clerk", "--as", "alice", "Pay bob 5")
    assert wants(to="bob", amount=5).allowed
    assert ("to", "anything") in aims(told("--context"), "bank/pay"), "it has read no stranger's text yet"
    (here / "plan.yaml").write_text(PLAN)
    fresh = told("--as", "alice", "--task", "Pay bob", "--plan", "plan.yaml")
    assert "the plan `pay`" in fresh["premise"]
    assert aims(fresh, "bank/pay")
    (here / "plan.yaml").write_text(PLAN.replace("bank/pay", "bank/look"))
    assert aims(told("--as", "alice", "--task", "Pay bob", "--plan", "plan.yaml"), "bank/pay") == set()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "no agent `nobody` is registered"),
        (["clerk", "--as", "eve", "--task", "x"], "no principal `eve` is configured"),
        (["clerk", "--task", "x"], "--task and --as go together"),
        (["clerk", "--context", "--as", "alice", "--task", "x"], "not both"),
    ],
)
def test_what_cannot_be_asked_is_told_in_words(here: Path, arguments: list[str], words: str) -> None:
    said = run("reach", *arguments)
    assert said.exit_code == 2
    assert words in said.output
