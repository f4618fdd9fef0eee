"""Cedar's extension types: text to decimal, datetime, duration, ipaddr, and what can be asked of them.

Decides which texts are values and how values compare; cedarpy decides the same, and a differential test holds the two
together. INVARIANT: each function gives Cedar's answer or raises `EvaluationError`; more than 64 bits is an error.
SPEC: https://docs.cedarpolicy.com/policies/syntax-operators.html (functions), RFC 80 of Cedar (datetime).
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

from citywatch.core.policy.values import MAX_LONG, MIN_LONG, Datetime, Decimal, Duration, EvaluationError, Ip

DAY_MS = 86_400_000
_DECIMAL = re.compile(r"(-?)([0-9]+)\.([0-9]+)\Z")
_DURATION = re.compile(r"(-?)(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?(?:([0-9]+)ms)?\Z")
_DATETIME = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{3}))?(?:Z|([+-])([0-9]{2})([0-9]{2})))?\Z"
)
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}\Z")
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_UNIT_MS = (DAY_MS, 3_600_000, 60_000, 1000, 1)
_LONGEST_IP = 43  # two full IPv6 notations never fit; Cedar refuses longer texts before it parses


def long(value: int) -> int:
    """The value, if 64 bits hold it."""
    if MIN_LONG <= value <= MAX_LONG:
        return value
    raise EvaluationError("integer overflow")


def parse_decimal(text: str) -> Decimal:
    """`-12.3400` → a decimal: a point is required, at most four digits after it."""
    match = _DECIMAL.match(text)
    if match is None or len(match[3]) > 4:
        raise EvaluationError(f"`{text[:40]}` is not a decimal: write digits, a point, one to four digits")
    units = _number(match[2]) * 10_000 + int(match[3].ljust(4, "0"))
    return Decimal(long(-units if match[1] else units))


def format_decimal(value: Decimal) -> str:
    """The inverse of `parse_decimal`, with four digits after the point."""
    whole, rest = divmod(abs(value.units), 10_000)
    return f"{'-' if value.units < 0 else ''}{whole}.{rest:04}"


def parse_duration(text: str) -> Duration:
    """`-1d2h3m4s5ms` → a duration: some of the units, in this order."""
    match = _DURATION.match(text)
    if match is None or text in ("", "-"):
        raise EvaluationError(f"`{text[:40]}` is not a duration: write such as 1d2h3m4s5ms")
    total = sum(_number(digits or "0") * unit for digits, unit in zip(match.groups()[1:], _UNIT_MS, strict=True))
    return Duration(long(-total if match[1] else total))


def _number(digits: str) -> int:
    # A number of a thousand digits is an overflow, not a reason for Python to refuse the conversion
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) <= 20 else MAX_LONG + 1


def parse_datetime(text: str) -> Datetime:
    """`2026-11-22`, or with `T10:00:00Z`, `.000` and `+0100`, → a datetime in UTC."""
    match = _DATETIME.match(text)
    if match is None:
        raise EvaluationError(f"`{text[:40]}` is not a datetime: write 2026-11-22 or 2026-11-22T10:00:00Z")
    year, month, day = int(match[1]), int(match[2]), int(match[3])
    hour, minute, second, milli = (int(part or 0) for part in match.group(4, 5, 6, 7))
    off_hour, off_minute = int(match[9] or 0), int(match[10] or 0)
    if not 1 <= month <= 12 or not 1 <= day <= _days_in(year, month):
        raise EvaluationError(f"`{text[:40]}` is not a day of the calendar")
    if hour > 23 or minute > 59 or second > 59 or off_hour > 23 or off_minute > 59:
        raise EvaluationError(f"`{text[:40]}` is not a time of the day")
    offset = (off_hour * 3600 + off_minute * 60) * (-1 if match[8] == "-" else 1)
    seconds = _days_since_epoch(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset
    return Datetime(seconds * 1000 + milli)


def _leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in(year: int, month: int) -> int:
    return 29 if month == 2 and _leap(year) else _MONTH_DAYS[month - 1]


def _days_since_epoch(year: int, month: int, day: int) -> int:
    # The calendar of the standard library has no year 0, and Cedar has one
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400
    days += sum(_MONTH_DAYS[: month - 1]) + (1 if month > 2 and _leap(year) else 0) + day
    return days - 719_163


def to_date(value: Datetime) -> Datetime:
    """The midnight before, in UTC."""
    return Datetime(long(value.ms - value.ms % DAY_MS))


def to_time(value: Datetime) -> Duration:
    """How long after that midnight."""
    return Duration(value.ms % DAY_MS)


def whole(ms: int, unit: int) -> int:
    """How many whole units, towards zero (Python's `//` would go down)."""
    return ms // unit if ms >= 0 else -(-ms // unit)


def parse_ip(text: str) -> Ip:
    """`10.0.0.1`, `10.0.0.0/8`, `::1`, `fe80::/10` → an address or a range; no IPv4 inside IPv6, no zone."""
    address, slash, prefix = text.partition("/")
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST_IP or (text.count(":") >= 2 and text.count(".") >= 2):
        raise EvaluationError(f"`{text[:50]}` is not an IP address")
    try:
        if ":" in address:
            if "%" in address or not address.isascii():
                raise EvaluationError(f"`{text[:50]}` is not an IP address")
            return Ip(6, int(IPv6Address(address)), _prefix(prefix, 128) if slash else 128)
    except AddressValueError:
        raise EvaluationError(f"`{text[:50]}` is not an IP address") from None
    octets = _IPV4.match(address)
    if octets is None:
        raise EvaluationError(f"`{text[:50]}` is not an IP address")
    high, second, third, low = map(int, octets.groups())
    return Ip(4, high << 24 | second << 16 | third << 8 | low, _prefix(prefix, 32) if slash else 32)


def _prefix(text: str, longest: int) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", text) or len(text) > len(str(longest)) or int(text) > longest:
        raise EvaluationError(f"`/{text[:10]}` is not the length of a prefix")
    return int(text)


def _bits(value: Ip) -> int:
    return 32 if value.version == 4 else 128


def ip_in_range(inner: Ip, outer: Ip) -> bool:
    """Whether each address of `inner` is one of `outer`; an IPv4 is never in an IPv6 range."""
    if inner.version != outer.version or inner.prefix < outer.prefix:
        return False
    shift = _bits(outer) - outer.prefix
    return inner.address >> shift == outer.address >> shift


def ip_is_loopback(value: Ip) -> bool:
    """Whether all of it is 127.0.0.0/8 or ::1."""
    if value.version == 4:
        return value.address >> 24 == 127 and value.prefix >= 8
    return value.address == 1 and value.prefix == 128


def ip_is_multicast(value: Ip) -> bool:
    """Whether all of it is 224.0.0.0/4 or ff00::/8."""
    if value.version == 4:
        return value.address >> 28 == 14 and value.prefix >= 4
    return value.address >> 120 == 255 and value.prefix >= 8
