"""`citywatch why` over a real store: what it prints, for whom, and what it says when the payload is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.flow_city import MALLORY
from tests.unit.main.test_tasks import here, run, wants

__all__ = ["here"]


def decisions() -> list[tuple[int, dict[str, Any]]]:
    leaves = run("log", "show", "--last", "1000", "--json").output.splitlines()
    entries = [(index, json.loads(line)) for index, line in enumerate(leaves)]
    return [(index, entry) for index, entry in entries if entry["type"] == "decided"]


def test_a_call_that_passed_says_so_and_offers_nothing(here: Path) -> None:
    run("task", "start", "clerk", "--as", "alice", "Pay bob 5")
    assert wants(to="bob", amount=5).allowed
    said = run("why", decisions()[-1][1]["call"])
    assert said.exit_code == 0, said.output
    assert "clerk wanted bank/pay (irreversible): let through" in said.output
    assert "What would let it pass" not in said.output
    assert "the same decision, in the same words" in said.output


def test_a_call_that_was_asked_about_shows_its_arguments_and_what_would_help(here: Path) -> None:
    assert not wants(to=MALLORY, amount=5).allowed
    index, entry = decisions()[-1]
    by_call, by_ticket, by_index = (run("why", name) for name in (entry["call"], entry["call"][:12], str(index)))
    assert by_call.output == by_ticket.output == by_index.output
    lines = by_call.output.splitlines()
    assert any(line.split() == ["!!", "to", MALLORY] for line in lines)
    assert any("stands nowhere in what the agent received: it was made up" in line for line in lines)
    assert any("`citywatch task start clerk --as alice ...`" in line for line in lines)
    assert any(f"`citywatch tickets show {entry['call'][:12]}" in line for line in lines)
    assert max(map(len, lines)) < 180


def test_for_a_program_it_is_one_object(here: Path) -> None:
    assert not wants(to=MALLORY, amount=5).allowed
    told = json.loads(run("why", decisions()[-1][1]["call"], "--json").output)
    assert told["again"] == "same"
    assert [one["path"] for one in told["explanation"]["arguments"] if one["how"] is None] == ["to", "amount"]
    assert {one["kind"] for one in told["remedies"]} == {"named", "approved"}


def test_what_an_agent_wrote_does_not_draw_on_the_terminal(here: Path) -> None:
    assert not wants(to="\x1b[2J\u202eeve", amount=5).allowed
    said = run("why", decisions()[-1][1]["call"]).output
    assert said.isascii()
    assert "\x1b" not in said


def test_an_erased_payload_is_unverifiable_and_what_was_recorded_is_still_told(here: Path) -> None:
    assert not wants(to=MALLORY, amount=5).allowed
    index, entry = decisions()[-1]
    run("log", "erase", str(index), "--reason", "they asked for it")
    said = run("why", entry["call"]).output
    assert "unverifiable" in said
    assert "the same decision" not in said
    assert "to (destination) unentitled" in said
    assert json.loads(run("why", entry["call"], "--json").output)["again"] == "unverifiable"


@pytest.mark.parametrize(
    ("name", "words"), [("99999", "entry 99999 is no decision"), ("f" * 32, "no decision"), ("0", "is no decision")]
)
def test_what_is_no_decision_is_said_in_one_line(here: Path, name: str, words: str) -> None:
    said = run("why", name)
    assert said.exit_code == 2
    assert words in said.output
    assert len(said.output.splitlines()) == 1


def test_a_policy_that_permits_nothing_is_named_with_what_came_closest(here: Path) -> None:
    policy = '@id("small") permit(principal, action, resource is Server) when { context.args.to == "bob" };'
    (here / "policies" / "all.cedar").write_text(policy)
    assert not wants(to="eve", amount=5).allowed
    said = run("why", decisions()[-1][1]["call"]).output
    assert "refused (no_permit)" in said
    assert "the permits that came closest" in said
    assert "a policy that permits it" in said
