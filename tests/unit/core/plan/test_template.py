"""Templates: what can be filled in, and that nothing else can."""

from __future__ import annotations

from typing import Any

import pytest

from citywatch.core.plan.contract import plan_digest
from citywatch.core.plan.template import instantiate, parse_template
from citywatch.core.plan.text import BadPlan, parse_plan

TEMPLATE: dict[str, Any] = {
    "plan": "monthly",
    "within": "2h",
    "parameters": {
        "payee": {"one_of": ["DE89", "GB29"]},
        "limit": {"at_least": 1, "at_most": 500},
        "day": {"not_before": "2026-01-01"},
        "note": "free",
    },
    "steps": [
        {
            "step": "pay",
            "tool": "bank/pay",
            "arguments": {
                "to": {"equals": {"parameter": "payee"}},
                "amount": {"at_most": {"parameter": "limit"}},
                "date": {"not_after": {"parameter": "day"}},
                "details": {"fields": {"note": {"one_of": [{"parameter": "note"}, "thanks"]}}},
            },
        }
    ],
}
VALUES = {"payee": "DE89", "limit": "20.50", "day": "2026-11-30", "note": "rent"}


def test_a_filled_template_is_the_plan_that_one_would_have_written() -> None:
    plain = {
        "plan": "monthly",
        "within": "2h",
        "steps": [
            {
                "step": "pay",
                "tool": "bank/pay",
                "arguments": {
                    "to": {"equals": "DE89"},
                    "amount": {"at_most": 20.5},
                    "date": {"not_after": "2026-11-30"},
                    "details": {"fields": {"note": {"one_of": ["rent", "thanks"]}}},
                },
            }
        ],
    }
    assert plan_digest(instantiate(parse_template(TEMPLATE), VALUES)) == plan_digest(parse_plan(plain))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"payee": "FR76"}, "`FR76` is not what this parameter may be"),
        ({"limit": "501"}, "is not what this parameter may be"),
        ({"limit": "20 or more"}, "is not what this parameter may be"),
        ({"limit": "1e2"}, "is not what this parameter may be"),
        ({"day": "2025-12-31"}, "is not what this parameter may be"),
        ({"note": ""}, "one line of 1 to 512"),
        ({"note": "a\nb"}, "one line of 1 to 512"),
        ({"note": "x" * 513}, "one line of 1 to 512"),
        ({"other": "x"}, "other: no such parameter; there are payee, limit, day, note"),
    ],
)
def test_a_value_that_the_operator_did_not_foresee_is_refused(changes: dict[str, str], why: str) -> None:
    with pytest.raises(BadPlan, match=why):
        instantiate(parse_template(TEMPLATE), VALUES | changes)


def test_a_missing_value_is_refused() -> None:
    with pytest.raises(BadPlan, match="payee: this parameter is missing"):
        instantiate(parse_template(TEMPLATE), {name: one for name, one in VALUES.items() if name != "payee"})


@pytest.mark.parametrize("text", ["{parameter: payee}", '{"equals": "x"}', "free", "[a]", "null", "true"])
def test_a_value_is_a_text_whatever_it_looks_like(text: str) -> None:
    plan = instantiate(parse_template(TEMPLATE), VALUES | {"note": text})
    (details,) = plan.steps[0].arguments.fields["details"].constraints
    (note,) = details.fields["note"].constraints  # type: ignore[union-attr]
    assert note.values == (text, "thanks")  # type: ignore[union-attr]


def arguments(**more: Any) -> dict[str, Any]:
    (step,) = TEMPLATE["steps"]
    return {**TEMPLATE, "steps": [{**step, "arguments": {**step["arguments"], **more}}]}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (arguments(x={"parameter": "note"}), "stands in the place of a value"),
        (arguments(x={"from": {"parameter": "note"}}), "stands in the place of a value"),
        (arguments(x={"equals": {"parameter": "nobody"}}), "no parameter is called `nobody`"),
        (arguments(x={"equals": {"parameter": ["note"]}}), "no parameter is called"),
        ({**TEMPLATE, "parameters": {**TEMPLATE["parameters"], "more": "free"}}, "parameters.more: no step uses it"),
        ({**TEMPLATE, "parameters": {**TEMPLATE["parameters"], "*": "free"}}, "name each of them"),
        ({**TEMPLATE, "parameters": {**TEMPLATE["parameters"], "Note": "free"}}, "small letters"),
        ({**TEMPLATE, "parameters": {**TEMPLATE["parameters"], "note": {"from": "prompt"}}}, "one value that the task"),
        ({**TEMPLATE, "parameters": {**TEMPLATE["parameters"], "note": {"optional": True}}}, "nothing is said of it"),
        ({**TEMPLATE, "plan": {"parameter": "note"}}, "is not a name"),
        ({**TEMPLATE, "within": None}, "say how long the plan holds"),
        ([], "is not a mapping"),
    ],
)
def test_a_template_that_could_be_filled_into_something_else_is_a_mistake(template: Any, why: str) -> None:
    with pytest.raises(BadPlan, match=why):
        parse_template(template)


def test_a_template_may_have_no_parameters() -> None:
    plain = {"plan": "p", "within": "1h", "steps": []}
    assert instantiate(parse_template(plain), {}) == parse_plan(plain)
