"""The rules on the reference page are rules, and match where the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from citywatch.core.plan.formula import ATTRIBUTES, Per
from citywatch.core.plan.rules import parse_rules
from citywatch.core.plan.temporal import Happening, Memory, compile_rule, judge

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "temporal-rules.md").read_text(encoding="utf-8")
HOUR = 3_600_000
WEB = {"event": "reply", "agent": "a", "origin": "outside:web/get"}
MAIL = {"event": "call", "agent": "a", "tool": "mail/send"}
PIECE = {"event": "call", "reader": "eve", "origin": "server:crm"}
LOGIN = {"event": "call", "task": "t", "tool": "desk/login"}
LOGOUT = {"event": "call", "task": "t", "tool": "desk/logout"}
WRITE = {"event": "call", "task": "t", "effect": "write"}


def matched(*events: tuple[int, dict[str, str]]) -> list[str]:
    """The rules that match at the last event."""
    (text,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    automata = [compile_rule(rule) for rule in parse_rules(text)]
    rows: dict[str, Memory] = {}
    found: list[str] = []
    for at, values in events:
        judged = judge(automata, rows, Happening(at=at, values={name: (value,) for name, value in values.items()}))
        rows |= judged.rows
        found = [match.rule for match in judged.matches]
    return found


@pytest.mark.parametrize(
    ("events", "rules"),
    [
        ([(0, MAIL)], []),
        ([(0, WEB), (HOUR, MAIL)], ["mail-after-web"]),
        ([(0, WEB), (HOUR + 1, MAIL)], []),
        ([(0, PIECE)] * 19, []),
        ([(0, PIECE)] * 20, ["pooled-customers"]),
        ([(0, WRITE)], ["write-without-login"]),
        ([(0, LOGIN), (8 * HOUR, WRITE)], []),
        ([(0, LOGIN), (8 * HOUR + 1, WRITE)], ["write-without-login"]),
        ([(0, LOGIN), (1, LOGOUT), (2, WRITE)], ["write-without-login"]),
    ],
)
def test_the_rules_on_the_page_match_where_it_says(events: list[tuple[int, dict[str, str]]], rules: list[str]) -> None:
    assert matched(*events) == rules


def test_every_attribute_and_every_kind_of_trace_is_on_the_page() -> None:
    for word in (*ATTRIBUTES, *Per):
        assert f"`{word}`" in PAGE, word
