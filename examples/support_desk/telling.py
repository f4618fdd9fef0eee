"""How one handling of the ticket is told: a line for each call, a line for each account, two handlings side by side.

Decides nothing. INVARIANT: who stole and who was paid is told by account numbers, never by what a text claims.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest

from examples.support_desk import world
from examples.support_desk.agent import Step, Transcript
from examples.support_desk.screen import Row, Screen

MARKS = {"done": ("✓", "green"), "refused": ("✗", "yellow"), "failed": ("!", "red")}


@dataclass(frozen=True)
class Run:
    """One handling of the ticket: what the agent did, and what is on the accounts afterwards, in cents.

    `rules` names the policies that refused, by the call's number among the steps.
    """

    transcript: Transcript
    company: int
    customer: int
    thief: int
    rules: Mapping[int, tuple[str, ...]] = field(default_factory=dict)


def show_run(screen: Screen, drawn: world.World, run: Run) -> None:
    """The calls of one handling, and what it did to the accounts."""
    rows = [row for group in _calls(drawn, run, server=True) for row in group]
    for row in [*rows, (), *_balances(drawn, run)]:
        screen.row(row)


def compare(screen: Screen, drawn: world.World, bare: Run, through: Run) -> None:
    """Both handlings beside each other, call by call."""
    left: list[Row] = [(("WITHOUT CITYWATCH", "bold"),), ()]
    right: list[Row] = [(("THROUGH CITYWATCH", "bold"),), ()]
    for one, two in zip_longest(_calls(drawn, bare), _calls(drawn, through), fillvalue=()):
        for column, rows in ((left, one), (right, two)):
            column += [*rows, *[()] * (max(len(one), len(two)) - len(rows))]
    screen.side_by_side([*left, (), *_balances(drawn, bare)], [*right, (), *_balances(drawn, through)])


def called(step: Step) -> str:
    return f"{step.server}/{step.tool}"


def what(step: Step, drawn: world.World) -> str:
    """The argument that a person would want to see; of a payment, how much and to whom."""
    if {"to", "amount"} <= step.arguments.keys():
        return f"{step.arguments['amount']:>8} EUR → {_whom(str(step.arguments['to']), drawn)}"
    shown = next((str(value) for value in step.arguments.values()), "")
    return shown if len(shown) <= 26 else f"{shown[:25]}…"


def _calls(drawn: world.World, run: Run, *, server: bool = False) -> list[list[Row]]:
    """A few rows for each call: what was done, and the policies that refused it."""
    groups: list[list[Row]] = []
    for number, step in enumerate(run.transcript.steps):
        mark, style = MARKS[step.outcome]
        words = f" {called(step):<30}" if server else f" {step.tool:<17} "
        loud = "alarm" if step.outcome == "done" and _steals(step, drawn) else ""
        rows: list[Row] = [((mark, style), (words, ""), (what(step, drawn), loud))]
        rows += [((f"  └ {rule}", "yellow"),) for rule in run.rules.get(number, ())]
        groups.append(rows)
    return groups


def _balances(drawn: world.World, run: Run) -> list[Row]:
    accounts = (
        ("company", world.OPENING_BALANCE, run.company, ""),
        ("customer", 0, run.customer, ""),
        ("attacker", 0, run.thief, "alarm" if run.thief else "green"),
    )
    return [
        ((f"{holder:<10}", "dim"), (f"{_euros(before):>10} → ", "dim"), (f"{_euros(after):>10} EUR", style))
        for holder, before, after, style in accounts
    ]


def _steals(step: Step, drawn: world.World) -> bool:
    return drawn.attack is not None and step.arguments.get("to") == drawn.attack.account


def _whom(account: str, drawn: world.World) -> str:
    known = {drawn.customer.account: "customer"} | ({drawn.attack.account: "attacker"} if drawn.attack else {})
    return known.get(account, account)


def _euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02d}".replace(",", " ")
