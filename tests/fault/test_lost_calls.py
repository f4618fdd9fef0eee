"""A payment is cut off by a SIGKILL; the operator looks, says what became of it, and the running gateway goes by it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway.desk import Desk
from tests.fault.test_killed_gateway import ask

PAYMENT = {"to": "ann\x1b[2J", "amount": 1}


def code_of(answer: dict[str, Any] | None) -> str | None:
    assert answer is not None
    code: str | None = answer["result"].get("_meta", {}).get("citywatch/code")
    return code


@pytest.fixture
def bereft(ready_desk: Desk) -> tuple[Desk, str, str]:
    """A desk whose gateway died after a payment had left, started again; a token, and the payment's id."""
    desk = ready_desk
    token = desk.token()
    process = desk.up([sys.executable, str(Path(__file__).parent / "doomed.py"), "after forwarding"])
    assert "no call has an unknown outcome" in desk.run("calls", "lost").stdout
    (desk.folder / "armed").touch()
    assert ask(desk, token, "pay", PAYMENT) is None
    assert process.wait(30) == -9
    (desk.folder / "armed").unlink()
    desk.up()
    assert code_of(ask(desk, token, "pay", PAYMENT)) == "outcome_unknown"
    (lost,) = (event["call"] for event in desk.events() if event["type"] == "lost")
    return desk, token, lost


def test_the_operator_sees_what_was_lost_and_lets_it_be_made_again(bereft: tuple[Desk, str, str]) -> None:
    desk, token, lost = bereft
    (line,) = desk.run("calls", "lost").stdout.splitlines()
    assert line.startswith(lost)
    assert "clerk  desk/pay" in line
    assert '"amount": 1' in line
    assert "\x1b" not in line

    wrong = desk.run("calls", "resolve", "nobody's", "--outcome", "happened", "--reason", "r", check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
    desk.run("calls", "resolve", lost, "--outcome", "did-not-happen", "--reason", "the bank has no such payment")
    resolved = next(event for event in desk.events() if event["type"] == "resolved")
    assert (resolved["call"], resolved["outcome"]) == (lost, "did_not_happen")
    assert resolved["reason"] == "the bank has no such payment"
    assert resolved["by"].startswith("operator")
    assert "no call has an unknown outcome" in desk.run("calls", "lost").stdout
    before = len(desk.ledger())
    assert code_of(ask(desk, token, "pay", PAYMENT)) is None
    assert len(desk.ledger()) == before + 1
    assert "resolved" in desk.run("log", "show", "--call", lost).stdout
    desk.run("log", "verify")


def test_what_happened_is_not_done_again(bereft: tuple[Desk, str, str]) -> None:
    desk, token, lost = bereft
    desk.run("calls", "resolve", lost, "--outcome", "happened", "--reason", "the bank's list of today")
    before = desk.ledger()
    for _ in range(2):
        assert code_of(ask(desk, token, "pay", PAYMENT)) == "already_happened"
    assert desk.ledger() == before
    assert code_of(ask(desk, token, "pay", PAYMENT | {"amount": 2})) is None
