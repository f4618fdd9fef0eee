"""Automata against the definition: random rules over random traces, the same verdict at every event."""

from __future__ import annotations

from itertools import accumulate
from random import Random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.core.plan.formula import And, Count, Formula, Is, Not, Once, Or, Per, Previously, Rule, Since, Then
from citywatch.core.plan.notes import BadRules
from citywatch.core.plan.rules import format_rules, parse_rules
from citywatch.core.plan.temporal import Happening, Memory, advance, compile_rule, is_over, start
from spec import temporal as law

VALUES = st.sampled_from(["a/x", "a/y", "b/x"])
WINDOWS = st.none() | st.sampled_from([1, 10, 20, 21])
ATOMS = st.builds(
    Is,
    st.sampled_from(["tool", "reader"]),
    st.lists(st.sampled_from(["a/x", "a/y", "b/x", "a/*", "*"]), min_size=1, max_size=2).map(tuple),
)


def larger(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return (
        st.builds(Not, inner)
        | st.builds(And, several)
        | st.builds(Or, several)
        | st.builds(Previously, inner)
        | st.builds(Once, inner, WINDOWS)
        | st.builds(Since, inner, inner, WINDOWS)
        | st.builds(Count, inner, st.integers(1, 4), WINDOWS)
    )


FORMULAS: st.SearchStrategy[Formula] = st.recursive(ATOMS, larger, max_leaves=6)
HAPPENINGS = st.builds(
    Happening,
    at=st.sampled_from([0, 1, 9, 10, 11, 20, 21, 22, 30, 40, 41, 60, -5]),
    values=st.fixed_dictionaries(
        {}, optional={name: st.lists(VALUES, max_size=2).map(tuple) for name in ("tool", "reader")}
    ),
    anything=st.sampled_from([(), (), (), ("tool",), ("reader",)]),
)
TRACES = st.lists(HAPPENINGS, max_size=14)


def ours(rule: Rule, trace: list[Happening]) -> list[bool]:
    """Each memory goes through the store between two events."""
    automaton = compile_rule(rule)
    memory, found = start(automaton), []
    for happening in trace:
        verdict, memory = advance(automaton, memory, happening)
        memory = msgspec.json.decode(msgspec.json.encode(memory), type=Memory)
        found.append(verdict)
    return found


def forgetting(rule: Rule, trace: list[Happening]) -> list[bool]:
    """The same, where a memory that is over before an event is forgotten."""
    automaton = compile_rule(rule)
    memory, found = start(automaton), []
    for happening in trace:
        if is_over(automaton, memory, happening.at):
            memory = start(automaton)
        verdict, memory = advance(automaton, memory, happening)
        found.append(verdict)
    return found


def theirs(rule: Rule, trace: list[Happening]) -> list[bool]:
    plain: list[dict[str, Any]] = [msgspec.to_builtins(happening) for happening in trace]
    return law.verdicts(msgspec.to_builtins(rule.when), plain)


def rule_of(formula: Formula) -> Rule:
    return Rule(name="r", then=Then.FORBID, per=Per.AGENT, when=formula)


@settings(max_examples=1_500)
@given(FORMULAS, TRACES)
def test_automaton_and_definition_agree_at_every_event(formula: Formula, trace: list[Happening]) -> None:
    rule = rule_of(formula)
    assert ours(rule, trace) == theirs(rule, trace)


@settings(max_examples=600)
@given(FORMULAS, TRACES)
def test_what_is_over_decides_nothing_any_more(formula: Formula, trace: list[Happening]) -> None:
    trace.sort(key=lambda happening: happening.at)  # how far a clock may be put back is `past`'s to say
    rule = rule_of(formula)
    assert forgetting(rule, trace) == theirs(rule, trace)


@given(st.lists(st.integers(0, 12), max_size=12), st.integers(1, 4))
def test_a_count_loses_no_time_that_is_still_in_its_window(waits: list[int], times: int) -> None:
    trace = [Happening(at=at, values={"tool": ("a/x",)}) for at in accumulate(waits)]
    rule = rule_of(Count(Is("tool", ("a/x",)), times, 10))
    assert forgetting(rule, trace) == theirs(rule, trace)


@settings(max_examples=300)
@given(FORMULAS, TRACES)
def test_a_window_ends_exactly_where_the_definition_says(formula: Formula, trace: list[Happening]) -> None:
    """In order of time, so that ages are exactly 1, 10, 20 or 21 often enough to tell `<=` from `<`."""
    ordered = sorted(trace, key=lambda happening: happening.at)
    rule = rule_of(Once(formula, 10))
    assert ours(rule, ordered) == theirs(rule, ordered)


@given(FORMULAS, TRACES)
def test_memory_is_bounded_by_the_rule_alone(formula: Formula, trace: list[Happening]) -> None:
    automaton = compile_rule(rule_of(formula))
    memory = start(automaton)
    for happening in trace:
        _, memory = advance(automaton, memory, happening)
        assert len(memory.cells) == len(automaton.operators)
        assert sum(map(len, memory.cells)) <= 4 * len(automaton.operators)


@settings(max_examples=500)
@given(FORMULAS)
def test_a_rule_reads_back_as_it_was_written(formula: Formula) -> None:
    try:
        (rule,) = parse_rules(format_rules([rule_of(formula)]))
    except ValueError:
        raise AssertionError(format_rules([rule_of(formula)])) from None
    # `and` of one part is written as the part
    assert parse_rules(format_rules([rule])) == (rule,)
    trace = drawn(Random(len(format_rules([rule]))))
    assert ours(rule, trace) == ours(rule_of(formula), trace)


def drawn(chance: Random) -> list[Happening]:
    return [
        Happening(at=5 * index, values={"tool": (chance.choice(["a/x", "a/y", "b/x"]),)}, anything=())
        for index in range(20)
    ]


WORDS = st.sampled_from(
    'forbid ask r per agent reader when tool is in [ ] ( ) , ; "a/x" "b*" not once count within 1h 10s >= 3 since and '
    'or previously # \n " \\ 5'.split(" ")
)


@settings(max_examples=500)
@given(st.lists(WORDS, max_size=30).map(" ".join) | st.text(max_size=30))
def test_every_text_gives_rules_or_mistakes(text: str) -> None:
    try:
        rules = parse_rules(text)
    except BadRules as error:
        found = error.mistakes
    else:
        assert parse_rules(format_rules(rules)) == rules
        return
    assert found
