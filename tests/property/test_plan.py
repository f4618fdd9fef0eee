"""What holds of every plan, every child of it and every call."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.plan.contract import Held, InPlan, Kind, OutOfPlan, Plan, Progress, begin, plan_bytes, step
from citywatch.core.plan.narrow import Narrows, narrows
from citywatch.core.plan.notes import BadPlan, Mistake
from citywatch.core.plan.text import format_plan, parse_plan
from tests.property.plan_author import Author


def held(plan: Plan) -> Held:
    return Held(plan=plan, kind=Kind.SIGNED, digest="")


def walked(author: Author, plan: Plan, calls: int) -> Progress:
    """What some task did under a plan."""
    progress = begin(0)
    for number in range(calls):
        verdict = step(held(plan), progress, author.call(plan, progress, number))
        progress = verdict.progress if isinstance(verdict, InPlan) else progress
    return progress


def followed(chance: Random) -> tuple[bool, int]:
    """Replan somewhere in a task: whether the child narrows its parent, and how many of its calls the parent took."""
    author = Author(chance)
    parent = author.plan()
    child = author.child(parent)
    progress = walked(author, parent, chance.randint(0, 4))
    if not isinstance(narrows(parent, child), Narrows):
        return False, 0
    permitted = 0
    for number in range(10, 22):
        facts = author.call(chance.choice((parent, child)), progress, number)
        verdict = step(held(child), progress, facts)
        if isinstance(verdict, InPlan):
            above = step(held(parent), progress, facts)
            assert isinstance(above, InPlan), (parent, child, progress, facts, above)
            assert above.progress == verdict.progress
            progress = verdict.progress
            permitted += 1
    return True, permitted


@settings(max_examples=300)  # drawn so that it can be made small; many more are below
@given(st.randoms(use_true_random=False))
def test_whatever_the_child_permits_the_parent_permits(chance: Random) -> None:
    followed(chance)


def test_and_it_was_not_for_want_of_children_and_calls() -> None:
    runs = [followed(Random(seed)) for seed in range(6_000)]
    assert sum(narrow for narrow, _ in runs) > 600
    assert sum(permitted for _, permitted in runs) > 1_500


@given(st.randoms(use_true_random=False))
def test_every_plan_narrows_itself(chance: Random) -> None:
    plan = Author(chance).plan()
    assert isinstance(narrows(plan, plan), Narrows)


@given(st.randoms(use_true_random=False))
def test_a_refused_call_changes_nothing_and_an_accepted_one_only_adds(chance: Random) -> None:
    author = Author(chance)
    plan = author.plan()
    progress = walked(author, plan, 3)
    before = msgspec.json.encode(progress)
    facts = author.call(plan, progress, 9)
    verdict = step(held(plan), progress, facts)
    assert step(held(plan), progress, facts) == verdict
    assert msgspec.json.encode(progress) == before
    if isinstance(verdict, InPlan):
        assert verdict.progress.steps[:-1] == progress.steps
        assert verdict.progress.calls == (*progress.calls, facts.id)
        assert verdict.progress.at >= progress.at
    else:
        assert not hasattr(verdict, "progress")


@given(st.randoms(use_true_random=False))
def test_a_task_ends_at_its_budget_and_each_step_at_its_own(chance: Random) -> None:
    author = Author(chance)
    plan = author.plan()
    progress = walked(author, plan, 12)
    assert len(progress.steps) <= plan.calls
    for one in plan.steps:
        assert progress.steps.count(one.name) <= one.calls


@given(st.randoms(use_true_random=False))
def test_an_empty_plan_permits_nothing(chance: Random) -> None:
    author = Author(chance)
    plan = author.plan()
    empty = msgspec.structs.replace(plan, steps=())
    assert isinstance(step(held(empty), begin(0), author.call(plan, begin(0), 0)), OutOfPlan)


@given(st.randoms(use_true_random=False))
def test_a_plan_reads_back_as_it_was_written(chance: Random) -> None:
    try:
        plan = parse_plan(format_plan(Author(chance).plan()))
    except BadPlan:
        return  # the author writes what nobody could mean, too
    again = parse_plan(format_plan(plan))
    assert again == plan
    assert plan_bytes(again) == plan_bytes(plan)
    assert msgspec.convert(msgspec.to_builtins(plan), Plan) == plan


WORDS = st.sampled_from(
    "plan steps calls expires within forbidden parent step tool arguments after follows equals one_of from field "
    "fields free optional at_least at_most not_before not_after * start prompt s/t 1h 2026-11-25 5 EUR $.a p".split()
)
WILD: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | WORDS | st.just("5 EUR"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=2), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.dictionaries(st.sampled_from(["x", "*"]), WILD, max_size=2)
STEPS = st.fixed_dictionaries(
    {"step": WILD | st.just("p"), "tool": WILD | st.just("s/t"), "arguments": WILD | FIELDS},
    optional={"after": WILD, "follows": WILD, "calls": WILD},
)
NEARLY = st.fixed_dictionaries(
    {"plan": WILD | st.just("p"), "within": WILD | st.just("1h"), "steps": WILD | st.lists(STEPS, max_size=3)},
    optional={"calls": WILD, "expires": WILD, "forbidden": WILD, "parent": WILD},
)


def read(value: Any) -> Plan | tuple[Mistake, ...]:
    try:
        return parse_plan(value)
    except BadPlan as error:
        return error.mistakes


@settings(max_examples=500)
@given(WILD | NEARLY)
def test_every_plain_value_gives_a_plan_or_its_mistakes(value: Any) -> None:
    plan = read(value)
    if isinstance(plan, tuple):
        assert plan
        assert not any("\n" in one.what + one.where for one in plan)
        return
    assert parse_plan(format_plan(plan)) == plan
