"""A plan that an operator wrote once, for many tasks: its parameters are filled in when a task is started.

    parameters: {payee: {one_of: [...]}, limit: {at_most: 500}}
    steps: [{..., arguments: {recipient: {equals: {parameter: payee}}, amount: {at_most: {parameter: limit}}}}]

Decides what is a well-formed template, and which values fit it. Who vouches for the plan that comes out is not said in
it: the operator for its shape, the principal for the values.

INVARIANTS
1. A value is one text or one number, in the place of one value of a constraint; it cannot become a step, a tool, an
   order or a constraint.
2. Each parameter has a constraint, and is used; a value that does not keep it, a missing and an unknown one refuse.
3. What comes out is read as any plan is (`text.parse_plan`), so that nothing of its mistakes is missed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from citywatch.core.limit import Dates, Numbers, OneOf, Path
from citywatch.core.plan.constraint import Field, Free, From, Record, Source, refused
from citywatch.core.plan.contract import Plan
from citywatch.core.plan.notes import BadPlan, Notes, shown
from citywatch.core.plan.text import parse_plan
from citywatch.core.plan.wording import parse_record

PARAMETER: Final = "parameter"
PARAMETERS: Final = "parameters"
FILLED: Final = frozenset(("equals", "one_of", "at_least", "at_most", "not_before", "not_after"))
"""The keys of a constraint that can take a parameter's value."""
MAX_PARAMETERS: Final = 32
MAX_VALUE: Final = 512
MAX_DEPTH: Final = 32
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?\Z")


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """The constraints of the parameters, and the plan with places for them."""

    parameters: Record
    plan: Mapping[str, Any]


def parse_template(value: Any) -> Template:
    """Read a template; raises `BadPlan`, which holds all that can be wrong with it whatever is filled in."""
    notes = Notes()
    if type(value) is not dict:
        notes.wrong("", f"{shown(value)} is not a mapping")
        raise notes.error()
    parameters = parse_record(notes, value.get(PARAMETERS, {}), PARAMETERS)
    if parameters.open or len(parameters.fields) > MAX_PARAMETERS:
        notes.wrong(PARAMETERS, f"name each of them, at most {MAX_PARAMETERS}")
    for name, field in parameters.fields.items():
        if not _NAME.match(name):
            notes.wrong(f"{PARAMETERS}.{shown(name)[1:-1]}", "a name has small letters, digits and `_`")
        if field.optional or any(isinstance(one, From | Record) for one in field.constraints):
            notes.wrong(f"{PARAMETERS}.{name}", "a parameter is one value that the task is started with")
    if not notes.mistakes:
        template = Template(parameters=parameters, plan={key: one for key, one in value.items() if key != PARAMETERS})
        used = _Filling(notes, {name: _example(field) for name, field in parameters.fields.items()})
        filled = used.filled(template)
        for name in sorted(parameters.fields.keys() - used.used):
            notes.wrong(f"{PARAMETERS}.{name}", "no step uses it")
        if not notes.mistakes:
            parse_plan(filled)  # INVARIANT: 3
            return template
    raise notes.error()


def instantiate(template: Template, values: Mapping[str, str]) -> Plan:
    """The plan of one task; raises `BadPlan` for values that are missing, unknown or not within their constraint."""
    notes = Notes()
    for name in sorted(values.keys() - template.parameters.fields.keys()):
        known = ", ".join(template.parameters.fields) or "none"
        notes.wrong(shown(name)[1:-1], f"no such parameter; there are {known}")
    read: dict[str, str | int | float] = {}
    for name, field in template.parameters.fields.items():
        given = values.get(name)
        if given is None:
            notes.wrong(name, "this parameter is missing")
        elif not given or len(given) > MAX_VALUE or not given.isprintable():
            notes.wrong(name, f"a value is one line of 1 to {MAX_VALUE} characters")
        else:
            read[name] = _typed(field, given)
            if refused(Record({name: field}), {name: read[name]}, (), _untraced) is not None:  # INVARIANT: 2
                notes.wrong(name, f"{shown(given)} is not what this parameter may be")
    if notes.mistakes:
        raise BadPlan(tuple(notes.mistakes))
    plan = parse_plan(_Filling(notes, read).filled(template))
    if notes.mistakes:
        raise notes.error()
    return plan


class _Filling:
    """Puts values in their places."""

    def __init__(self, notes: Notes, values: Mapping[str, str | int | float]) -> None:
        self._notes, self._values = notes, values
        self.used: set[str] = set()

    def filled(self, template: Template) -> dict[str, Any]:
        plan = dict(template.plan)
        steps = plan.get("steps")
        if isinstance(steps, list):
            plan["steps"] = [
                {**step, "arguments": self._value(step.get("arguments"), "", f"steps[{place}].arguments", MAX_DEPTH)}
                if isinstance(step, dict) and "arguments" in step
                else step
                for place, step in enumerate(steps)
            ]
        return plan

    def _value(self, value: Any, key: str, where: str, depth: int) -> Any:
        if depth == 0:
            self._notes.wrong(where, "nested too deep")
            return None
        if type(value) is dict:
            if value.keys() == {PARAMETER}:
                return self._parameter(value[PARAMETER], key, where)
            return {
                name: self._value(one, name, f"{where}.{shown(name)[1:-1]}", depth - 1) for name, one in value.items()
            }
        if type(value) is list:
            return [self._value(one, key, f"{where}[{place}]", depth - 1) for place, one in enumerate(value)]
        return value

    def _parameter(self, name: Any, key: str, where: str) -> Any:
        if key not in FILLED:  # INVARIANT: 1
            self._notes.wrong(where, f"a parameter stands in the place of a value: under {', '.join(sorted(FILLED))}")
            return None
        if type(name) is not str or name not in self._values:
            self._notes.wrong(where, f"no parameter is called {shown(name)}")
            return None
        self.used.add(name)
        return self._values[name]


def _typed(field: Field, given: str) -> str | int | float:
    """A number where the parameter is one; what a text looks like never decides."""
    numeric = any(
        (isinstance(one, Numbers) and not one.unit)
        or (isinstance(one, OneOf) and not any(isinstance(option, str) for option in one.values))
        for one in field.constraints
    )
    if not numeric or not _NUMBER.match(given):
        return given
    return float(given) if "." in given else int(given)


def _example(field: Field) -> str | int | float:
    """A value that the constraint admits, to read the rest of a template with."""
    for one in field.constraints:
        match one:
            case OneOf() if one.values:
                return one.values[0]
            case Numbers():
                end = one.low if one.low is not None else one.high
                return f"{end:f} {one.unit}" if one.unit else float(end or 0)
            case Dates():
                return one.low or one.high or ""
            case Free():
                return "text"
    return getattr(field.constraints[0], "value", "text") if field.constraints else "text"


def _untraced(source: Source, path: Path) -> bool:
    return False
