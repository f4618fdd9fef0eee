"""The law of notations, slow and obvious: which numbers, days and times of day a text can mean.

Written from the prose alone, sharing no line with `src/`: every convention is tried by spelling it out, numbers are
exact decimals, days are asked of the calendar.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal

CONVENTIONS = ((".", ","), (",", "."), (".", "'"), (",", "'"), (".", "_"), (",", "_"), (".", " "), (",", " "))
"""The mark before the fraction, and the mark between groups of three."""


def numbers(text: str) -> set[Decimal]:
    """All that unsigned digits with separators can mean, under any convention."""
    return {value for point, group in CONVENTIONS for value in _number(text, point, group)}


def _number(text: str, point: str, group: str) -> Iterator[Decimal]:
    if text.count(point) > 1:
        return
    whole, _, part = text.partition(point)
    if point in text and not _digits(part):
        return
    if whole == "" and point == "." and part:
        yield Decimal("0." + part)
    elif point == "," and part == "000" and len(whole) <= 3 and _digits(whole) and whole[0] != "0":
        return  # `1,000` is a thousand: a fraction that says nothing is none
    elif _digits(whole):
        yield Decimal(whole + "." + part) if part else Decimal(whole)
    elif group in whole:
        groups = whole.split(group)
        if not all(map(_digits, groups)):
            return
        # Nobody writes a zero before the first group: `0.123` is a fraction and nothing else.
        if groups[0][0] == "0":
            return
        threes = len(groups[0]) <= 3 and all(len(one) == 3 for one in groups[1:])
        lakhs = (group, point) == (",", ".") and len(groups) > 2 and len(groups[0]) <= 2
        lakhs = lakhs and len(groups[-1]) == 3 and all(len(one) == 2 for one in groups[1:-1])
        if threes or lakhs:
            digits = "".join(groups)
            yield Decimal(digits + "." + part) if part else Decimal(digits)


def _digits(text: str) -> bool:
    return text != "" and all(char in "0123456789" for char in text)


def days(text: str) -> set[date]:
    """All that `1/2/2024` can mean: the day first, or the month first."""
    found = set()
    for order in ("%d/%m/%Y", "%m/%d/%Y"):
        try:
            found.add(datetime.strptime(text, order).date())  # noqa: DTZ007
        except ValueError:
            continue
    return found


def time_of_day(hour: int, minute: int, half: str) -> time:
    """`12:30 am` is half an hour after midnight, `12:30 pm` after noon."""
    return time(hour % 12 + (12 if half == "pm" else 0), minute)
