"""How each form of question is asked: once for a request, whatever the number of policies that want to know.

Decides which policies go on, and which err, exactly as their conditions would one by one. INVARIANTS: a subject that
errs, or whose type the form is not for, is an error of each policy that asked, and of no other; a policy goes on once,
however many of its answers are true.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from cedarpy import pst

from citywatch.core.policy.attributes import record_of
from citywatch.core.policy.compile import Compiler
from citywatch.core.policy.constants import constant
from citywatch.core.policy.facts import Facts
from citywatch.core.policy.operators import BINARY
from citywatch.core.policy.patterns import matcher
from citywatch.core.policy.questions import ORDERED
from citywatch.core.policy.values import CedarSet, EvaluationError, Uid, key, wrong


class Found:
    """What one decision has found: ids of satisfied permits and forbids, and groups of ids that erred, with why."""

    __slots__ = ("errors", "forbids", "permits")

    def __init__(self) -> None:
        self.permits: list[str] = []
        self.forbids: list[str] = []
        self.errors: list[tuple[tuple[str, ...], str]] = []


Step = Callable[[Facts, Found], None]


class Asked(msgspec.Struct, frozen=True):
    """One question of some policies: the steps for each answer, and the ids of all policies that ask."""

    compiler: Compiler
    subject: Any
    steps: Mapping[Any, Sequence[Step]]
    ids: tuple[str, ...]


def all_of(steps: Sequence[Step]) -> Step:
    """One step that takes each of some."""
    if len(steps) == 1:
        return steps[0]
    fixed = tuple(steps)

    def each(facts: Facts, found: Found) -> None:
        for step in fixed:
            step(facts, found)

    return each


def _test(asked: Asked) -> Step:
    evaluate, ids = asked.compiler.expression(asked.subject), asked.ids
    if_true, if_false = (all_of(asked.steps[answer]) if answer in asked.steps else None for answer in (True, False))

    def test(facts: Facts, found: Found) -> None:
        try:
            value = evaluate(facts)
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        if value is True:
            if if_true is not None:
                if_true(facts, found)
        elif value is False:
            if if_false is not None:
                if_false(facts, found)
        else:
            found.errors.append((ids, str(wrong("bool", value))))

    return test


def _eq(asked: Asked) -> Step:
    evaluate, ids = asked.compiler.expression(asked.subject), asked.ids
    step_for = {answer: all_of(steps) for answer, steps in asked.steps.items()}.get

    def look_up(facts: Facts, found: Found) -> None:
        try:
            value = evaluate(facts)
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        kind = type(value)
        step = step_for(value if kind is str or kind is Uid else key(value))
        if step is not None:
            step(facts, found)

    return look_up


def _in(asked: Asked) -> Step:
    line_of, table, ids = _line(asked.compiler, asked.subject), asked.steps, asked.ids

    def look_up_line(facts: Facts, found: Found) -> None:
        try:
            line = line_of(facts)
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        hits: Sequence[Step] = ()
        for member in line:
            if member in table:
                hits = table[member] if not hits else tuple(dict.fromkeys((*hits, *table[member])))
        for step in hits:
            step(facts, found)

    return look_up_line


def _line(compiler: Compiler, subject: Any) -> Callable[[Facts], frozenset[Uid]]:
    if type(subject) is pst.Var and subject.name in _LINES:
        return _LINES[subject.name]
    evaluate = compiler.expression(subject)

    def line(facts: Facts) -> frozenset[Uid]:
        uid = evaluate(facts)
        if type(uid) is not Uid:
            raise wrong("entity", uid)
        entity = compiler.entity(facts, uid)
        return frozenset((uid,)) if entity is None else entity.line

    return line


_LINES: Mapping[str, Callable[[Facts], frozenset[Uid]]] = {
    "principal": lambda facts: facts.principal.line,
    "action": lambda facts: facts.action.line,
    "resource": lambda facts: facts.resource.line,
}


def _has(asked: Asked) -> Step:
    record, ids = record_of(asked.compiler, asked.subject), asked.ids
    steps = tuple((name, all_of(found)) for name, found in asked.steps.items())

    def has(facts: Facts, found: Found) -> None:
        try:
            attributes = record(facts)
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        for name, step in steps:
            if name in attributes:
                step(facts, found)

    return has


def _order(kind: type, number: Callable[[Any], int] | None) -> Callable[[Asked], Step]:
    def ask(asked: Asked) -> Step:
        evaluate, ids = asked.compiler.expression(asked.subject), asked.ids
        lows, above = _thresholds(asked.steps, {"greater": 1, "greater_eq": 0})  # true where value >= low
        highs, under = _thresholds(asked.steps, {"less": -1, "less_eq": 0})  # true where value <= high

        def compare(facts: Facts, found: Found) -> None:
            try:
                value = evaluate(facts)
                if type(value) is not kind:
                    raise wrong(kind.__name__.lower(), value)
            except EvaluationError as error:
                found.errors.append((ids, str(error)))
                return
            amount: Any = value if number is None else number(value)
            if above and amount >= lows[0]:
                for step in above[: bisect_right(lows, amount)]:
                    step(facts, found)
            if under and amount <= highs[-1]:
                for step in under[bisect_left(highs, amount) :]:
                    step(facts, found)

        return compare

    return ask


def _thresholds(table: Mapping[Any, Sequence[Step]], shifts: Mapping[str, int]) -> tuple[list[int], list[Step]]:
    pairs = [(bound + shifts[op], all_of(steps)) for (op, bound), steps in table.items() if op in shifts]
    pairs.sort(key=lambda pair: pair[0])
    return [bound for bound, _ in pairs], [step for _, step in pairs]


def _starts(asked: Asked) -> Step:
    evaluate, ids = asked.compiler.expression(asked.subject), asked.ids
    by_length: dict[int, dict[str, Step]] = {}
    for text, steps in asked.steps.items():
        by_length.setdefault(len(text), {})[text] = all_of(steps)
    tables = tuple(by_length.items())

    def starts(facts: Facts, found: Found) -> None:
        try:
            value = evaluate(facts)
            if type(value) is not str:
                raise wrong("string", value)
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        for length, table in tables:
            step = table.get(value[:length])
            if step is not None:
                step(facts, found)

    return starts


def _holds(asked: Asked) -> Step:
    evaluate, ids = asked.compiler.expression(asked.subject), asked.ids
    table: dict[Any, list[tuple[frozenset[Any], Sequence[Step]]]] = {}
    for members, steps in asked.steps.items():
        table.setdefault(min(members, key=repr), []).append((members, steps))  # any one member stands for all

    def holds(facts: Facts, found: Found) -> None:
        try:
            value = evaluate(facts)
            if type(value) is not CedarSet:
                raise wrong("set", value)
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        keys = value.keys
        hits: dict[Step, None] = {}
        for member in keys:
            for members, steps in table.get(member, ()):
                if members <= keys:
                    hits.update(dict.fromkeys(steps))
        for step in hits:
            step(facts, found)

    return holds


def _with(asked: Asked) -> Step:
    evaluate, ids = asked.compiler.expression(asked.subject), asked.ids
    tests = tuple((_applied(*answer), all_of(steps)) for answer, steps in asked.steps.items())

    def ask_each(facts: Facts, found: Found) -> None:
        try:
            value = evaluate(facts)
            answers = [step for applied, step in tests if applied(value)]
        except EvaluationError as error:
            found.errors.append((ids, str(error)))
            return
        for step in answers:
            step(facts, found)

    return ask_each


def _applied(op: str, other: Any) -> Callable[[Any], bool]:
    # Whether these err depends on the subject's type alone, so what errs for one policy errs for all that ask
    if op == "like":
        matches = matcher(other)

        def like(value: Any) -> bool:
            if type(value) is not str:
                raise wrong("string", value)
            return matches(value)

        return like
    operator, fixed = BINARY[op], constant(other)[1]
    return lambda value: bool(operator(value, fixed))


ASK: Mapping[str, Callable[[Asked], Step]] = {
    "test": _test,
    "eq": _eq,
    "in": _in,
    "has": _has,
    "starts": _starts,
    "holds": _holds,
    "with": _with,
    **{form: _order(kind, None if kind is int else number) for kind, (form, number) in ORDERED.items()},
}
"""The step of each form of question."""
