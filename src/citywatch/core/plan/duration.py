"""Lengths of time and points in time as people write them. Parse and format are inverse.

Decides what is well-formed, nothing of what a time means. INVARIANTS: `parse_x(format_x(ms)) == ms`; both are whole
milliseconds below 2**53, so that JSON carries them exactly; a point in time names its offset, or is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from citywatch.core.errors import Malformed

_DURATION = re.compile(r"([1-9][0-9]{0,8})(ms|s|m|h|d)\Z")
_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
MAX_DURATION = 3_660 * _UNITS["d"]
"""Ten years, in milliseconds."""

_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,3})?(?:Z|[+-][0-9]{2}:[0-9]{2})\Z"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> int:
    """Milliseconds of `500ms`, `30s`, `5m`, `1h`, `1d`; at most ten years. Raises `Malformed` for every other text."""
    match = _DURATION.match(text)
    length = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < length <= MAX_DURATION:
        raise Malformed("not a duration: write a number and its unit, such as 30s, 5m, 1h or 1d")
    return length


def format_duration(length: int) -> str:
    """The inverse of `parse_duration`, in the largest unit that fits."""
    unit = next(unit for unit, size in _UNITS.items() if length % size == 0)
    return f"{length // _UNITS[unit]}{unit}"


def parse_time(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time with its offset; raises `Malformed` for every other text."""
    try:
        if not _TIME.match(text):
            raise ValueError
        moment = (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        moment = -1
    if moment < 0:
        raise Malformed("not a time since 1970: write it as 2026-11-25T18:00:00Z")
    return moment


def format_time(moment: int) -> str:
    """The inverse of `parse_time`, in UTC."""
    text = (_EPOCH + timedelta(milliseconds=moment)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")
