"""Which rules could decide anything: calls are judged, replies are only remembered."""

from __future__ import annotations

import pytest

from citywatch.core.plan.notes import BadRules
from citywatch.core.plan.rules import needs_contexts, parse_rules


@pytest.mark.parametrize(
    "formula",
    [
        'event is "reply"',
        'event is "reply" and once within 1h tool is "mail/send"',
        'not event is "call"',
        '(event is "reply" or event is "r*") and tool is "mail/send"',
    ],
)
def test_a_rule_that_can_match_at_no_call_is_a_mistake(formula: str) -> None:
    with pytest.raises(BadRules, match="line 2, column 1: `late` can match at no call"):
        parse_rules(f'forbid early per agent when tool is "a/b";\nforbid late per agent when {formula};')


@pytest.mark.parametrize(
    "formula",
    [
        'event is "call"',
        'event is "*" and tool is "a/b"',
        'once within 1h event is "reply"',
        'event is "reply" or tool is "a/b"',
        'not event is "reply"',
        'tool is "a/b" since event is "reply"',
        'count event is "reply" >= 2',
    ],
)
def test_a_rule_that_could_match_at_a_call_is_taken(formula: str) -> None:
    assert parse_rules(f"forbid late per agent when {formula};")


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        ('forbid r per agent when tool is "a/b";', False),
        ('ask r per agent when tool is "a/b";', True),
        ('forbid r per task when tool is "a/b";', True),
        ('forbid r per reader when once (tool is "a/b" and not origin is "server:crm");', True),
        ('forbid r per agent when (tool is "a/b" since principal is "alice");', True),
        ('forbid r per agent when (task is "t" since tool is "a/b") or tool is "a/c";', True),
    ],
)
def test_what_only_a_context_tells_is_seen_anywhere_in_a_rule(rule: str, needs: bool) -> None:
    (found,) = parse_rules(rule)
    assert needs_contexts(found) is needs
