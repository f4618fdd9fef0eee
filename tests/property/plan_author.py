"""Draws plans, children of plans and calls from a universe so small that they meet."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import msgspec

from citywatch.core.limit import Dates, Equal, Numbers, OneOf
from citywatch.core.plan.constraint import Constraint, Field, Free, From, Pattern, Record, Source
from citywatch.core.plan.contract import CallFacts, Plan, Progress, Step, Trace

TOOLS = ("s/a", "s/b", "m/c")
NAMES = ("one", "two", "three", "four")
ARGUMENTS = ("x", "y")
DAYS = ("2026-11-24", "2026-11-25", "2026-11-26")
SCALARS: tuple[Any, ...] = (1, 2, 1.0, 2.5, True, "p", "1", "2 EUR", *DAYS)
PATTERNS: tuple[Pattern, ...] = ((), ("a",), ("a", None), ("a", 0), (None,), (None, 0))
PATHS: tuple[tuple[str | int, ...], ...] = ((), ("a",), ("a", 0), ("b", 0), (0,))
SEQUENCES = (("s/a", "m/c"), ("s/*", "m/c"), ("*", "s/b"), ("s/b",), ("s/a", "s/b", "m/c"), ("s/*", "s/b", "m/*"), ())


class Author:
    """Every draw from one source of chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.often = chance.random() < 0.5

    def maybe(self, part: float = 0.5) -> bool:
        return self.chance.random() < part

    def plan(self) -> Plan:
        names = self.chance.sample(NAMES, self.chance.choice((0, 1, 2, 2, 3, 3, 4)))
        return Plan(
            name="p",
            steps=tuple(self.step(name) for name in names),
            calls=self.chance.randint(1, 6),
            expires=self.chance.choice((None, None, 100)),
            within=self.chance.choice((None, None, 100)),
            forbidden=tuple(self.chance.sample(SEQUENCES, 1 if self.maybe(0.3) else 0)),
        )

    def step(self, name: str) -> Step:
        return Step(
            name=name,
            tool=self.chance.choice(TOOLS[:2] if self.often else TOOLS),
            arguments=self.record(),
            after=self.some(NAMES) if self.maybe(0.2) else None,
            follows=self.some((*NAMES, "start")) if self.maybe(0.2) else None,
            calls=self.chance.randint(1, 3),
        )

    def some(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self.chance.sample(names, self.chance.choice((0, 1, 2, 2, 3))))

    def record(self, depth: int = 1) -> Record:
        listed = [name for name in ARGUMENTS if self.maybe(0.6)]
        return Record({name: self.field(depth) for name in listed}, open=self.maybe(0.3))

    def field(self, depth: int = 1) -> Field:
        count = 0 if self.maybe(0.04) else self.chance.choice((1, 1, 1, 1, 2))
        return Field(tuple(self.constraint(depth) for _ in range(count)), optional=self.maybe(0.3))

    def constraint(self, depth: int = 1) -> Constraint:
        match self.chance.randint(0, 9 if depth else 8):
            case 0 | 1:
                return Free()
            case 2 | 3:
                return Equal(self.value())
            case 4 | 5:
                return OneOf(tuple(self.chance.sample(SCALARS, self.chance.randint(0, 4))))
            case 6:
                low, high = self.chance.choice((None, Decimal(1))), self.chance.choice((None, Decimal(1), Decimal(2)))
                return Numbers(low, high, "EUR" if self.maybe(0.2) else "")
            case 7:
                return Dates(self.chance.choice((None, *DAYS[:2])), self.chance.choice((None, *DAYS[1:])))
            case 8:
                return From(tuple(self.source() for _ in range(self.chance.randint(0, 2))))
        return self.record(depth - 1)

    def source(self) -> Source:
        return Source(None) if self.maybe(0.3) else Source(self.chance.choice(NAMES[:2]), self.chance.choice(PATTERNS))

    def value(self, depth: int = 1) -> Any:
        if depth and self.maybe(0.2):
            return [self.value(0) for _ in range(self.chance.randint(0, 2))]
        if depth and self.maybe(0.2):
            return {name: self.value(0) for name in ARGUMENTS if self.maybe()}
        return self.chance.choice(SCALARS)

    def child(self, parent: Plan) -> Plan:
        """A plan near its parent: mostly tighter, sometimes wider."""
        steps = [self.near(step) for step in parent.steps if self.maybe(0.85)]
        if self.maybe(0.1):
            self.chance.shuffle(steps)
        forbidden = (*parent.forbidden, *self.chance.sample(SEQUENCES, 1 if self.maybe(0.2) else 0))
        return Plan(
            name="child",
            steps=tuple(steps),
            calls=parent.calls - self.chance.choice((0, 0, 1, -1 if self.maybe(0.1) else 0)),
            expires=parent.expires if self.maybe(0.8) else self.chance.choice((None, 50, 100)),
            within=parent.within if self.maybe(0.8) else self.chance.choice((None, 50, 100)),
            forbidden=forbidden if self.maybe(0.9) else tuple(self.chance.sample(SEQUENCES, 1)),
        )

    def near(self, step: Step) -> Step:
        changes: dict[str, Any] = {}
        if self.maybe(0.5):
            changes["arguments"] = self.tighter(step.arguments)
        if self.maybe(0.1):
            changes["calls"] = self.chance.randint(1, 3)
        if self.maybe(0.1):
            changes["after"] = (*(step.after or ()), self.chance.choice(NAMES))
        if self.maybe(0.1):
            changes["follows"] = self.some((*NAMES, "start"))
        if self.maybe(0.03):
            changes["tool"] = self.chance.choice(TOOLS)
        return msgspec.structs.replace(step, **changes)

    def tighter(self, record: Record) -> Record:
        fields = dict(record.fields)
        for name in ARGUMENTS:
            if name in fields and self.maybe(0.4):
                field = fields[name]
                more = (*field.constraints, self.constraint()) if self.maybe() else (self.constraint(),)
                fields[name] = Field(more, optional=field.optional and self.maybe())
            elif name in fields and self.maybe(0.1):
                del fields[name]
            elif record.open and self.maybe(0.3):
                fields[name] = self.field()
        return Record(fields, open=record.open and self.maybe(0.7))

    def call(self, plan: Plan, progress: Progress, number: int) -> CallFacts:
        """A call that some step might take: its arguments are drawn from what the step says."""
        steps = [one for one in plan.steps if one.calls > 0]
        if not steps or self.maybe(0.1):
            return CallFacts(id=f"c{number}", at=progress.at, tool=self.chance.choice(TOOLS), arguments={})
        step = self.chance.choice(steps)
        arguments = self.fill(step.arguments)
        traces = {
            (*path,): tuple(
                Trace(self.chance.choice((None, *progress.calls)), self.chance.choice(PATHS)) for _ in range(2)
            )
            for path in _leaves(arguments)
            if self.maybe(0.8)
        }
        at = max(0, progress.at + self.chance.choice((-30, 0, 1, 5, 20, 60)))
        return CallFacts(id=f"c{number}", at=at, tool=step.tool, arguments=arguments, traces=traces)

    def fill(self, record: Record) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name in ARGUMENTS:
            field = record.fields.get(name)
            if field is None and not (record.open and self.maybe(0.4)):
                continue
            if field is not None and field.optional and self.maybe(0.3):
                if self.maybe(0.2):
                    made[name] = None
                continue
            made[name] = self.suited(field)
        return made

    def suited(self, field: Field | None) -> Any:
        one = self.chance.choice(field.constraints) if field is not None and field.constraints else None
        if self.maybe(0.05):
            return self.value()
        match one:
            case Equal():
                return one.value
            case OneOf() if one.values:
                options = [self.chance.choice(one.values) for _ in range(2)]
                return options if self.maybe(0.2) else options[0]
            case Numbers():
                return "2 EUR" if one.unit else self.chance.choice((1, 2, 1.5, "1"))
            case Dates():
                return self.chance.choice(DAYS)
            case Record():
                return self.fill(one)
        return self.value()


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for name, item in value.items() for leaf in _leaves(item, (*path, name))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [path]
