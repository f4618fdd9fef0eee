"""A plan's text: all mistakes at once, nothing read that was not meant."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.errors import Malformed
from citywatch.core.limit import Numbers
from citywatch.core.plan.duration import format_duration, format_time, parse_duration, parse_time
from citywatch.core.plan.notes import BadPlan
from citywatch.core.plan.text import parse_plan
from citywatch.core.plan.wording import format_pattern, parse_pattern

STEP = {"step": "a", "tool": "s/t", "arguments": {}}
PLAN = {"plan": "p", "within": "1h", "steps": [STEP]}


def mistakes(value: Any) -> list[str]:
    with pytest.raises(BadPlan) as caught:
        parse_plan(value)
    return [f"{one.where}: {one.what}" for one in caught.value.mistakes]


def argument(value: Any) -> dict[str, Any]:
    return {**PLAN, "steps": [{**STEP, "arguments": {"x": value}}]}


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(
        {
            "plan": "no spaces",
            "budget": 3,
            "calls": 0,
            "steps": [{"step": "a", "tool": "t", "arguments": {"x": {}}}, {"step": "a", "after": []}, 7],
            "forbidden": [[], ["s/t", "every"]],
        }
    )
    assert [one.split(":")[0] for one in found] == [
        "",
        "steps[0].tool",
        "steps[0].arguments.x",
        "steps[1]",
        "steps[1]",
        "steps[1].step",
        "steps[1].after",
        "steps[2]",
        "plan",
        "calls",
        "forbidden[0]",
        "forbidden[1][1]",
        "",
    ]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("anything", "not a mapping"),
        ({}, "nothing is said"),
        ({"optional": True}, "nothing is said"),
        ({"equals": None}, "nothing is said"),
        ({"equals": float("nan")}, "no JSON value"),
        ({"equals": object()}, "no JSON value"),
        ({"one_of": []}, "admits nothing"),
        ({"one_of": [[1]]}, "write a text"),
        ({"from": []}, "admits nothing"),
        ({"from": "read"}, "not a mapping"),
        ({"from": {"step": "b"}}, "no step"),
        ({"from": {"step": "a", "field": "payee"}}, "not a field"),
        ({"at_least": 2, "at_most": 1}, "nothing lies between"),
        ({"at_least": "1 USD", "at_most": "2 EUR"}, "different units"),
        ({"at_most": "about 5"}, "not a number"),
        ({"at_most": 1e300}, "not a number"),
        ({"not_after": "2026-02-30"}, "not a day"),
        ({"not_before": "2026-02-02", "not_after": "2026-02-01"}, "nothing lies between"),
        ({"free": True, "equals": 1}, "nothing beside it"),
        ({"equals": 1, "optional": "yes"}, "true or false"),
        ({"maximum": 1}, "is no key here"),
        ({"fields": {"a": {"fields": {"b": {"fields": {"c": {"fields": {}}}}}}}}, "nested deeper"),
    ],
)
def test_a_constraint_that_says_nothing_or_two_things_is_a_mistake(value: Any, told: str) -> None:
    (found,) = mistakes(argument(value))
    assert told in found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"within": None}, "say how long"),
        ({"within": "forever"}, "not a duration"),
        ({"expires": "2026-11-25"}, "not a time"),
        ({"parent": "abc"}, "not a digest"),
        ({"steps": [{**STEP, "step": "start"}]}, "a meaning of its own"),
        ({"steps": [{**STEP, "follows": ["b"]}]}, "which is no step"),
        ({"steps": [{**STEP, "follows": ["a"]}]}, "waits for itself"),
        ({"steps": [{**STEP, "arguments": {"*": "any"}}]}, "others can only be"),
        ({"steps": [STEP] * 65}, "more than 64"),
        ({"steps": [{**STEP, "arguments": {"x": {"equals": "y" * 70_000}}}]}, "larger than"),
        ({"kind": "template"}, "is no key here"),
    ],
)
def test_a_plan_that_cannot_be_meant_is_a_mistake(changes: dict[str, Any], told: str) -> None:
    assert any(told in one for one in mistakes({**PLAN, **changes}))


def test_a_currency_is_part_of_the_amount() -> None:
    plan = parse_plan(argument({"at_most": "500.00 EUR"}))
    (constraint,) = plan.steps[0].arguments.fields["x"].constraints
    assert isinstance(constraint, Numbers)
    assert constraint.unit == "EUR"


def test_what_was_read_is_shown_short_and_harmless() -> None:
    (found,) = mistakes({**PLAN, "\x1b[2J" + "x" * 1000: 1})
    assert "\x1b" not in found
    assert len(found) < 200


@pytest.mark.parametrize("text", ["$", "$.a", "$.a[*].b-c", '$["a b"][0]', '$["$"]'])
def test_a_field_is_written_as_it_is_read(text: str) -> None:
    assert format_pattern(parse_pattern(text)) == text


@pytest.mark.parametrize(
    "text", ["", "a", ".a", "$a", "$.", "$..a", "$[", "$[01]", "$[-1]", '$["]', "$.a ", "$" + ".a" * 400]
)
def test_every_other_field_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_pattern(text)


def test_times_and_durations_are_written_as_they_are_read() -> None:
    for text in ("500ms", "90s", "5m", "36h", "2d"):
        assert format_duration(parse_duration(text)) == text
    assert parse_time("2026-11-25T13:00:00+01:00") == parse_time("2026-11-25T12:00:00Z") == 1_795_608_000_000
    assert format_time(parse_time("2026-11-25T12:00:00.250Z")) == "2026-11-25T12:00:00.250Z"
    for wrong in ("0s", "1 h", "1y", "9999999999d", "99999d"):
        with pytest.raises(Malformed):
            parse_duration(wrong)
    for wrong in ("2026-11-25T12:00:00", "2026-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "2026-11-25 12:00:00Z"):
        with pytest.raises(Malformed):
            parse_time(wrong)
