"""What one argument of a call may be: a bound value, a choice, a range, from a named source, free content, a record.

Decides whether a value keeps a constraint. Where a value came from is told (`Traced`), by whoever traced it; whether
an origin may steer the act is for others. `narrow` compares constraints with each other.

INVARIANTS
1. An empty "all of" or "any of" admits nothing: no constraint, no option, no source, a list without members.
2. Values are equal only as the same JSON value: `True` is not `1`, `1.0` is `1`.
3. What a constraint does not name is refused: an unlisted field, an object where scalars are expected, an amount in
   another unit, a number or a date in a notation that tools could read in two ways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from enum import StrEnum
from math import isfinite
from typing import Any

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed

Path = tuple[str | int, ...]
"""Where a value stands in a JSON value: names of members and places in lists."""

Pattern = tuple[str | int | None, ...]
"""A path in which None stands for any one member. It speaks of what it reaches and of everything beneath."""

MAX_LEAVES = 1_000
MAX_NESTING = 16

_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,18})?\Z")
_UNIT = re.compile(r"[A-Z]{3}\Z")
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
    r"(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?)?\Z"
)


class Equal(msgspec.Struct, frozen=True, tag="equals"):
    """Bound: the whole argument is exactly this JSON value."""

    value: Any


class OneOf(msgspec.Struct, frozen=True, tag="one_of"):
    """A choice: the argument, or each member if it is a list, is one of these scalars."""

    values: tuple[str | int | float | bool, ...]


class Numbers(msgspec.Struct, frozen=True, tag="numbers"):
    """A range, both ends included; None is open. `unit` is a currency that must be written with the amount, or ""."""

    low: Decimal | None
    high: Decimal | None
    unit: str = ""


class Dates(msgspec.Struct, frozen=True, tag="dates"):
    """A range of days, both ends included; None is open. The day of a value is the one that is written in it."""

    low: str | None
    high: str | None


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
    if isinstance(constraint, Equal):
        return same(constraint.value, value)
    if isinstance(constraint, Record):
        return refused(constraint, value, path, traced) is None
    if isinstance(value, str | int | float):
        return _one(constraint, value, path, traced)
    leaves = _leaves(value, path)
    # INVARIANT: 1
    return bool(leaves) and all(_one(constraint, leaf, place, traced) for place, leaf in leaves)


def refused(record: Record, value: Any, path: Path, traced: Traced) -> Path | None:
    """The first member that does not keep the record, or None if all do; `path` itself if it is no object."""
    if type(value) is not dict:
        return path
    for name in value:
        if name not in record.fields and not record.open:  # INVARIANT: 3
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


def same(one: Any, two: Any) -> bool:
    """# INVARIANT: 2. Whether two JSON values are the same; what JSON cannot write is the same as nothing."""
    if type(one) is str or type(two) is str:
        return type(one) is type(two) and one == two
    if type(one) is float and type(two) is float:  # equal, they are written alike; what is not finite is not written
        return one == two and isfinite(one)
    try:
        return canonical(one) == canonical(two)
    except Malformed:
        return False


def number(value: Any, unit: str) -> Decimal | None:
    """The exact amount that a value states in a unit, None if it states none; no notation with two readings passes."""
    kind = type(value)
    if kind is str and len(value) <= 64:
        amount, _, currency = value.partition(" ")
        if _UNIT.match(amount):
            amount, currency = currency, amount
        return Decimal(amount) if currency == unit and _DECIMAL.match(amount) else None
    if unit:
        return None
    if kind is not int and kind is not float:
        return None
    if kind is int and value.bit_length() > 128:
        return None
    found = Decimal(repr(value))
    return found if found.is_finite() and _DECIMAL.match(f"{found:f}") else None


def day(value: Any) -> str | None:
    """The day, as `2026-11-25`, that a date or a time of day states; None for everything else."""
    match = _DATE.match(value) if type(value) is str and len(value) <= 64 else None
    if match is None:
        return None
    try:
        date.fromisoformat(match[1])
    except ValueError:
        return None
    return match[1]


def _one(constraint: OneOf | Numbers | Dates | From, leaf: Any, path: Path, traced: Traced) -> bool:
    if isinstance(constraint, From):
        return any(traced(source, path) for source in constraint.sources)
    if isinstance(constraint, OneOf):
        return any(same(option, leaf) for option in constraint.values)
    if isinstance(constraint, Numbers):
        amount = number(leaf, constraint.unit)
        return amount is not None and within(constraint.low, amount, constraint.high)
    written = day(leaf)
    return written is not None and within(constraint.low, written, constraint.high)


def within(low: Any, value: Any, high: Any) -> bool:
    """Whether a value lies between two ends of its type, both included; None is open."""
    return (low is None or low <= value) and (high is None or value <= high)


def _leaves(value: Any, path: Path) -> list[tuple[Path, Any]]:
    """The scalars of a value or of lists within each other; nothing at all if it holds an object or too much."""
    found: list[tuple[Path, Any]] = []
    todo: list[tuple[Path, Any]] = [(path, value)]
    while todo:
        place, item = todo.pop()
        if type(item) is list or type(item) is tuple:
            # An empty list within a list would otherwise hold no leaf and so be held by nothing
            if not item or len(found) + len(todo) + len(item) > MAX_LEAVES or len(place) - len(path) > MAX_NESTING:
                return []
            todo += [((*place, index), member) for index, member in enumerate(item)]
        elif item is None or type(item) is dict:
            return []
        else:
            found.append((place, item))
    return found
