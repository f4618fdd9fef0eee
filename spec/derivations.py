"""The law of derivations, slow and obvious: what one step makes of numbers and of days, and whose that is.

Written from the prose alone, sharing no line with `src/`: numbers are fractions, a day is moved one day at a time by
the calendar, a month later is looked for day by day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from fractions import Fraction

Sides = tuple[frozenset[str] | None, frozenset[str] | None]
"""The origins and the readers of a label; None is anybody, and everybody."""


def number(step: str, values: Sequence[Fraction], by: Fraction | None = None) -> Fraction:
    """The exact number that follows."""
    if step == "sum":
        return sum(values, Fraction(0))
    if step == "difference":
        return values[0] - values[1]
    if step == "product":
        assert by is not None
        return values[0] * by
    ordered = sorted(values)
    return ordered[0] if step == "smallest" else ordered[-1]


def rounded(exact: Fraction, digits: int) -> Fraction:
    """To so many digits; what is half way goes away from zero, as on a bill."""
    scaled = abs(exact) * 10**digits
    whole = scaled.numerator // scaled.denominator
    if scaled - whole >= Fraction(1, 2):
        whole += 1
    return Fraction(whole, 10**digits) * (1 if exact >= 0 else -1)


def day(start: date, by: int, unit: str) -> date:
    """The day that follows; `by` may be below zero."""
    if unit != "months":
        steps = by * (7 if unit == "weeks" else 1)
        for _ in range(abs(steps)):
            start += timedelta(1 if steps > 0 else -1)
        return start
    wanted = start.day
    for _ in range(abs(by)):
        start = _first_of_next(start) if by > 0 else (start.replace(day=1) - timedelta(1)).replace(day=1)
    first = start.replace(day=1)
    days = [first + timedelta(n) for n in range(31) if (first + timedelta(n)).month == first.month]
    return days[min(wanted, len(days)) - 1]


def label(inputs: Sequence[Sides], written: bool, ambient: Sides) -> Sides:
    """Whose a result is: that of all handles it follows from and, if the agent wrote a value itself, the context's."""
    origins: frozenset[str] | None = frozenset()
    readers: frozenset[str] | None = None
    for one in (*inputs, ambient) if written else inputs:
        origins = None if origins is None or one[0] is None else origins.union(one[0])
        if one[1] is not None:
            readers = one[1] if readers is None else readers.intersection(one[1])
    return origins, readers


def _first_of_next(start: date) -> date:
    month = start.month
    start = start.replace(day=1)
    while start.month == month:
        start += timedelta(1)
    return start
