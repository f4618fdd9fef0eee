"""What one value may be, by itself: this value, one of these, an amount or a day between two ends.

Decides whether a value keeps a limit. Plans say it of arguments (`plan.constraint` adds where it came from),
grants of what a delegate may pass (`delegation.caveats` adds how two limits meet).

INVARIANTS
1. A choice without options admits nothing, and neither does a list without members.
2. Values are equal only as the same JSON value: `True` is not `1`, `1.0` is `1`.
3. A list keeps a limit exactly if each of its scalars does, `Equal` apart. No object keeps any other limit, and neither
   does an amount in another unit, a number or a date in a notation that tools could read in two ways.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed

Path = tuple[str | int, ...]
"""Where a value stands in a JSON value: names of members and places in lists."""

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


Limit = Equal | OneOf | Numbers | Dates


def keeps(limit: Limit, value: Any) -> bool:
    """Whether a value keeps a limit."""
    if isinstance(limit, Equal):
        return same(limit.value, value)
    if isinstance(value, str | int | float):
        return _scalar(limit, value)
    found = leaves(value, ())
    return bool(found) and all(_scalar(limit, leaf) for _, leaf in found)  # INVARIANT: 1


def _scalar(limit: OneOf | Numbers | Dates, leaf: Any) -> bool:
    """Whether one scalar keeps a limit."""
    if isinstance(limit, OneOf):
        return any(same(option, leaf) for option in limit.values)
    if isinstance(limit, Numbers):
        amount = number(leaf, limit.unit)
        return amount is not None and within(limit.low, amount, limit.high)
    written = day(leaf)
    return written is not None and within(limit.low, written, limit.high)


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


def within(low: Any, value: Any, high: Any) -> bool:
    """Whether a value lies between two ends of its type, both included; None is open."""
    return (low is None or low <= value) and (high is None or value <= high)


def leaves(value: Any, path: Path) -> list[tuple[Path, Any]]:
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
