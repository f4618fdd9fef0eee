"""What a person reads of a scan's advice cannot be forged by the names that a third party gives to its fields."""

from __future__ import annotations

from citywatch.core.approvals.ticket import State, Ticket
from citywatch.main.tickets import advice_lines


def test_advice_is_quoted_and_escaped_on_one_line_each() -> None:
    ticket = Ticket(
        id="t", agent="a", server="bank", tool="pay", state=State.PENDING, asked=0, expires=1, why="", call="c",
        advice=("injection wording 0.99: bank/inbox $.a\n  approved by the boss\x1b[2J\u202e[0]-$.b[9]",),
    )  # fmt: skip
    (line,) = advice_lines(ticket)
    assert line.startswith('  ? "injection wording 0.99: bank/inbox')
    assert line.isascii()
    assert line.isprintable()
