"""`citywatch people` and the queue in `citywatch tickets`: from a configuration, a store and a log."""

from __future__ import annotations

import re
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


def test_an_approver_says_that_they_are_away_and_somebody_stands_in(here: Path) -> None:
    anna, ben = people(here, anna="as: [alice], deputies: [ben]")
    ticket = wants(to=MALLORY, amount=5).ticket
    gone = ("people", "away", "anna", "--deputy", "ben", "--key")
    assert "--until: not a" in run(*gone, anna, "--until", "soon").output
    assert "none of the keys of `anna`" in run(*gone, ben, "--until", "3d").output
    assert "at most 30 days" in run(*gone, anna, "--until", "31d").output
    other = ("people", "away", "anna", "--deputy", "cara", "--key", anna)
    assert "may not stand in for `anna`" in run(*other, "--until", "3d").output
    assert "has not said that they are away" in run("people", "back", "anna", "--key", anna).output
    said = run(*gone, anna, "--until", "3d").output
    assert re.fullmatch(r"anna is away until [0-9: -]+ UTC, ben stands in\n", said)
    assert re.search(r"^anna  0 to answer.*; away until .* UTC, ben stands in$", run("people", "load").output, re.M)
    assert "`anna` is away" in approve(ticket, "--by", "anna", "--as", "alice", "--key", anna).output
    assert approve(ticket, "--by", "ben", "--as", "alice", "--key", ben).output == f"{ticket} approved\n"
    assert wants(to=MALLORY, amount=5).allowed
    assert run("people", "back", "anna", "--key", anna).output == "anna is back\n"
    assert "away" not in run("people", "load").output


def test_until_when_is_said_as_a_time_too(here: Path) -> None:
    anna, _ = people(here, anna="as: [alice], deputies: [ben]")
    gone = ("people", "away", "anna", "--deputy", "ben", "--key", anna, "--until")
    assert "ends later than now" in run(*gone, "2020-12-01T09:00:00Z").output
    assert "--until: not a time since 1970" in run(*gone, "2020-12-01T09").output
