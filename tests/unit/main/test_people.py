"""`citywatch people` and the queue in `citywatch tickets`: from a configuration, a store and a log."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.flow_city import MALLORY
from tests.unit.main.test_tasks import here, run, wants
from tests.unit.main.test_tickets import approve, people

__all__ = ["here"]


def test_what_the_log_says_of_approvers_is_told_per_person_and_class(here: Path) -> None:
    key, _ = people(here)
    assert run("people", "vigilance").output == "nobody has answered anything\n"
    ticket = wants(to=MALLORY, amount=5).ticket
    assert "What will happen" in run("tickets", "show", ticket, "--by", "anna").output
    assert approve(ticket, "--by", "anna", "--as", "alice", "--key", key).exit_code == 0
    told = run("people", "vigilance").output
    assert told.startswith("anna: their yes counts\n  irreversible untrusted: 1 answered; takes ")
    assert run("people", "vigilance", "--by", "ben").output == "nobody has answered anything\n"
    assert run("people", "escaped", ticket, "--reason", "a fraud").output == f"{ticket} escaped anna\n"
    assert "; 1 escaped" in run("people", "vigilance").output


def test_an_escape_is_one_of_an_approved_call(here: Path) -> None:
    ticket = wants(to=MALLORY, amount=5).ticket
    said = run("people", "escaped", ticket, "--reason", "x")
    assert (said.exit_code, "is pending: nobody approved it" in said.output) == (2, True)


def test_the_queue_says_what_reaches_whom(here: Path) -> None:
    people(here)
    first = wants(to=MALLORY, amount=5).ticket
    second = wants(to=MALLORY, amount=6).ticket
    listed = run("tickets", "list").output
    assert [line.partition("  ")[0] for line in listed.splitlines()] == [first, second]
    assert run("tickets", "list", "--by", "anna").output == listed
    assert "names nobody `eve`" in run("tickets", "list", "--by", "eve").output
    load = run("people", "load").output.splitlines()
    assert load == [f"{name}  2 to answer, at most 30 an hour" for name in ("anna", "ben", "cara")]


def test_a_flood_is_one_line(here: Path) -> None:
    people(here, "approvals: {asks_per_agent: 2}\n")
    for amount in range(4):
        wants(to=MALLORY, amount=100 + amount)
    listed = run("tickets", "list").output
    assert listed == "flood  agent clerk: 4 held back, strike 1: bank/pay\n"
    assert run("people", "load").output.endswith(listed)


def test_a_yes_to_what_was_not_opened_is_refused(here: Path) -> None:
    key, _ = people(here, "approvals: {reason_required: true}\n")
    ticket = wants(to=MALLORY, amount=5).ticket
    said = approve(ticket, "--by", "anna", "--as", "alice", "--key", key)
    assert "`anna` was not shown the ticket" in said.output
    run("tickets", "show", ticket, "--by", "anna")
    said = approve(ticket, "--by", "anna", "--as", "alice", "--key", key)
    assert "read it first: a yes" in said.output
