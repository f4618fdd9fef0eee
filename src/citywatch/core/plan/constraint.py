"""What one argument of a call may be: a bound value, a choice, a range, from a named source, free content, a record.

Decides whether a value keeps a constraint; what a value may be by itself is `core.limit`'s. Where a value came from is
told (`Traced`), by whoever traced it; whether an origin may steer the act is for others. `narrow` compares constraints
with each other.

INVARIANTS
1. An empty "all of" or "any of" admits nothing: no constraint, no option, no source, a list without members.
2. What a record does not name is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from citywatch.core.limit import Dates, Equal, Numbers, OneOf, Path, keeps, leaves

Pattern = tuple[str | int | None, ...]
"""A path in which None stands for any one member. It speaks of what it reaches and of everything beneath."""


class Source(msgspec.Struct, frozen=True):
    """Where a value may come from: a step's replies, at `field` and beneath; without a step, the task's prompt."""

    step: str | None
    field: Pattern = ()


class From(msgspec.Struct, frozen=True, tag="from"):
    """Every leaf of the argument stands whole in one of these sources."""

    sources: tuple[Source, ...]


class Free(msgspec.Struct, frozen=True, tag="free"):
    """Anything: the plan does not bind it."""


class Record(msgspec.Struct, frozen=True, tag="fields"):
    """An object, member by member. A member that is not listed is refused, unless the record is `open`."""

    fields: Mapping[str, Field]
    open: bool = False


Constraint = Equal | OneOf | Numbers | Dates | From | Free | Record


class Field(msgspec.Struct, frozen=True):
    """One member: *all* constraints hold. `optional`: it may be absent or null."""

    constraints: tuple[Constraint, ...]
    optional: bool = False


class How(StrEnum):
    """How tightly a plan holds an argument, the tightest first."""

    VALUE = "value"
    CHOICE = "choice"
    SOURCE = "source"
    RANGE = "range"


_HOW = {Equal: How.VALUE, OneOf: How.CHOICE, From: How.SOURCE, Numbers: How.RANGE, Dates: How.RANGE}
_TIGHTEST = tuple(How)


class Bound(msgspec.Struct, frozen=True):
    """One argument (or member of one) that the plan holds, and how."""

    path: Path
    how: How


Traced = Callable[[Source, Path], bool]
"""Whether the leaf at this path of the arguments stands whole in that source."""


def covers(pattern: Pattern, path: Pattern) -> bool:
    """Whether all that `path` reaches lies at or beneath `pattern`."""
    if None not in pattern:
        return path[: len(pattern)] == pattern
    return len(pattern) <= len(path) and all(one is None or one == two for one, two in zip(pattern, path, strict=False))


def admits(constraint: Constraint, value: Any, path: Path, traced: Traced) -> bool:
    """Whether the value at `path` of the arguments keeps the constraint."""
    if isinstance(constraint, Free):
        return True
    if isinstance(constraint, Record):
        return refused(constraint, value, path, traced) is None
    if not isinstance(constraint, From):
        return keeps(constraint, value)
    found = [path] if isinstance(value, str | int | float) else [place for place, _ in leaves(value, path)]
    # INVARIANT: 1
    return bool(found) and all(any(traced(source, place) for source in constraint.sources) for place in found)


def refused(record: Record, value: Any, path: Path, traced: Traced) -> Path | None:
    """The first member that does not keep the record, or None if all do; `path` itself if it is no object."""
    if type(value) is not dict:
        return path
    for name in value:
        if name not in record.fields and not record.open:  # INVARIANT: 2
            return (*path, name)
    for name, field in record.fields.items():
        place = (*path, name)
        item = value.get(name)
        if item is None:
            if not field.optional:
                return place
            continue
        if not field.constraints:  # INVARIANT: 1
            return place
        for constraint in field.constraints:
            if type(constraint) is Free:
                continue
            if isinstance(constraint, Record):
                inner = refused(constraint, item, place, traced)
                if inner is not None:
                    return inner
            elif not admits(constraint, item, place, traced):
                return place
    return None


def bindings(record: Record, value: Any, path: Path = ()) -> list[Bound]:
    """Which members of a value that keeps the record are held by it, and how; free ones are left out."""
    found: list[Bound] = []
    for name, field in record.fields.items():
        item = value.get(name)
        if item is None:
            continue
        held: How | None = None
        records: list[Record] = []
        for constraint in field.constraints:
            how = _HOW.get(type(constraint))
            if how is not None and (held is None or _TIGHTEST.index(how) < _TIGHTEST.index(held)):
                held = how
            elif isinstance(constraint, Record):
                records.append(constraint)
        if held is not None:
            found.append(Bound((*path, name), held))
            continue
        for inner in records:
            found += bindings(inner, item, (*path, name))
    return found
