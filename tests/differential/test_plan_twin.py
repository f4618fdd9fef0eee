"""The plan's gates against the definition: random plans and tasks, the same step (or none) for every call."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.plan.contract import CallFacts, Held, InPlan, Kind, Plan, begin, step
from citywatch.core.plan.notes import BadPlan
from citywatch.core.plan.text import format_plan, parse_plan
from spec import plan as law
from tests.property.plan_author import Author


def drawn(author: Author) -> Plan | None:
    """A plan that somebody could mean; the author writes others, too."""
    for _ in range(20):
        try:
            return parse_plan(format_plan(author.plan()))
        except BadPlan:
            continue
    return None


def plain(facts: CallFacts) -> dict[str, Any]:
    traces = [
        {"leaf": [*leaf], "call": trace.call, "path": [*trace.path]}
        for leaf, found in facts.traces.items()
        for trace in found
    ]
    return {"id": facts.id, "at": facts.at, "tool": facts.tool, "arguments": facts.arguments, "traces": traces}


def compared(chance: Random) -> list[str | None]:
    """One task: what both say of its calls, which is the same."""
    author = Author(chance)
    plan = drawn(author)
    if plan is None:
        return []
    held = Held(plan=plan, kind=Kind.SIGNED, digest="")
    progress, calls, ours = begin(0), [], []
    for number in range(8):
        facts = author.call(plan, progress, number)
        verdict = step(held, progress, facts)
        progress = verdict.progress if isinstance(verdict, InPlan) else progress
        calls.append(plain(facts))
        ours.append(verdict.step if isinstance(verdict, InPlan) else None)
    assert ours == law.taken(format_plan(plan), 0, calls), (plan, calls)
    return ours


@settings(max_examples=200)  # drawn so that it can be made small; many more are below
@given(st.randoms(use_true_random=False))
def test_gates_and_definition_give_each_call_to_the_same_step(chance: Random) -> None:
    compared(chance)


def test_and_it_was_not_for_want_of_plans_and_calls() -> None:
    found = [one for seed in range(4_000) for one in compared(Random(seed))]
    assert sum(one is None for one in found) > 1_500
    assert sum(one is not None for one in found) > 1_500
