"""Which dates and times a text can be read as, in ISO and in the ways that people write them.

Decides the readings of one stretch of text; `tokens` finds the stretches. INVARIANTS: only dates and times that exist
have a reading; an order that two countries read differently (`05/06/2024`) has both readings; a date without a year is
never given one: its normal form is `--05-26` and says so.

English month names alone are known, and no relative dates (`tomorrow`), weekdays, or bare months.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_MONTHS = "january february march april may june july august september october november december".split()
MONTHS = {name[:length]: n for n, name in enumerate(_MONTHS, 1) for length in (3, len(name))} | {"sept": 9}
MONTH_STARTS = frozenset(name[:3] for name in _MONTHS)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTH = "(?P<month>" + "|".join(sorted(MONTHS, key=len, reverse=True)) + ")"
_YEAR = r"(?:19|20|21)[0-9]{2}"
_EDGE = r"(?![\w@/\\+=&#%$~*:]|[-.',:][\w])"  # a date that goes on is another thing

DAY_MONTH = re.compile(
    rf"(?P<day>[0-9]{{1,2}})(?P<nth>st|nd|rd|th)?(?P<of> of)?[ -]{_MONTH}\b\.?(?:(?:,? |-)(?P<year>{_YEAR}))?{_EDGE}",
    re.IGNORECASE,
)
MONTH_DAY = re.compile(
    rf"{_MONTH}\b\.?[ -](?P<day>[0-9]{{1,2}})(?P<nth>st|nd|rd|th)?(?:,? (?P<year>{_YEAR}))?{_EDGE}", re.IGNORECASE
)
ISO = re.compile(
    rf"(?P<year>{_YEAR})(?P<mark>[-/.]?)(?P<month>[0-9]{{2}})(?P=mark)(?P<day>[0-9]{{2}})(?:[Tt_](?P<time>[0-9].*))?"
)
_SLASHED = re.compile(rf"([0-9]{{1,2}})([/.-])([0-9]{{1,2}})(?:\2({_YEAR}|[0-9]{{2}}))?")
CLOCK = re.compile(
    r"(?P<hour>[0-9]{1,2})(?::?(?P<minute>[0-9]{2})(?::?(?P<second>[0-9]{2})(?:[.,](?P<part>[0-9]{1,9}))?)?)?"
    r" ?(?P<half>[ap]\.?m\b\.?)?(?P<zone>z|[-+][0-9]{2}:?(?:[0-9]{2})?)?",
    re.IGNORECASE,
)


def date(year: int | None, month: int, day: int) -> str | None:
    """A normal form, or None for a day that does not exist."""
    if not (1 <= month <= 12 and 1 <= day <= _DAYS[month - 1]):
        return None
    if year is None:
        return f"--{month:02}-{day:02}"
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return None if month == 2 and day == 29 and not leap else f"{year:04}-{month:02}-{day:02}"


def of_iso(found: re.Match[str]) -> str | None:
    """The day of a match of `ISO`."""
    return date(int(found["year"]), int(found["month"]), int(found["day"]))


def named(found: re.Match[str]) -> str | None:
    """The reading of a match of `DAY_MONTH` or `MONTH_DAY`."""
    name = found["month"]
    year = found["year"]
    if name in ("may", "march", "sec") and not (found["nth"] or year):
        return None  # "you may 5 times": a small letter makes it a verb
    return date(int(year) if year else None, MONTHS[name.lower()], int(found["day"]))


def slashed(text: str) -> Iterator[str]:
    """The readings of `26/05/2024`, `26.05.24`, `5/26`: day first and month first, as far as they exist."""
    if not (found := _SLASHED.fullmatch(text)):
        return
    one, mark, two, year = found.groups()
    if year is None and mark != "/":
        return
    full = None if year is None else int(year) if len(year) == 4 else 2000 + int(year)
    for day, month in dict.fromkeys([(int(one), int(two)), (int(two), int(one))]):
        if read := date(full, month, day):
            yield read


def clock(text: str, compact: bool = False) -> str | None:
    """The normal form of a time of day; None if it is none. A bare hour needs `am` or `pm`; `compact` reads `1700`."""
    if not (found := CLOCK.fullmatch(text)):
        return None
    hour, minute, second, part, half, zone = found.groups()
    hours, minutes, seconds = int(hour), int(minute or 0), int(second or 0)
    if half:
        if not 1 <= hours <= 12:
            return None
        hours = hours % 12 + (12 if half[0] in "pP" else 0)
    elif minute is None or (":" not in text[:3] and not compact):
        return None
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    rest = (part or "").rstrip("0")
    written = f"{hours:02}:{minutes:02}"
    if seconds or rest:
        written += f":{seconds:02}" + (f".{rest}" if rest else "")
    return written + _zone(zone)


def _zone(zone: str | None) -> str:
    if not zone:
        return ""
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return "Z" if zone in "zZ" or digits == "0000" else f"{zone[0]}{digits[:2]}:{digits[2:]}"


def without_zone(time: str) -> str:
    """The time on the wall: `17:00+02:00` says `17:00`."""
    return re.split("[Z+-]", time, maxsplit=1)[0]
