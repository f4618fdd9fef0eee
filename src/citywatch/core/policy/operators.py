"""What Cedar's operators and extension functions do with values, strictly typed.

Decides the value of one operator on values already known. INVARIANTS: a `bool` is never taken for a number (Python
would); each function gives Cedar's value or raises `EvaluationError`; the two tables name every operator of
`cedarpy.pst` that needs nothing but its operands' values (`&&`, `||`, `in`, `==`, tags and the like are in `compile`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from citywatch.core.policy import extensions as ext
from citywatch.core.policy.values import CedarSet, Datetime, Decimal, Duration, EvaluationError, Ip, kind_of

_long = ext.long


def _typed(value: Any, kind: type, name: str) -> Any:
    if type(value) is not kind:
        raise EvaluationError(f"type error: expected {name}, got {kind_of(value)}")
    return value


def _longs(left: Any, right: Any) -> None:
    _typed(left, int, "long")
    _typed(right, int, "long")


def _not(value: Any) -> bool:
    return not _typed(value, bool, "bool")


def _negated(value: Any) -> int:
    return _long(-_typed(value, int, "long"))


def _is_empty(value: Any) -> bool:
    return not _typed(value, CedarSet, "set").keys


def _added(left: Any, right: Any) -> int:
    _longs(left, right)
    return _long(left + right)


def _subtracted(left: Any, right: Any) -> int:
    _longs(left, right)
    return _long(left - right)


def _multiplied(left: Any, right: Any) -> int:
    _longs(left, right)
    return _long(left * right)


def _order(left: Any, right: Any) -> tuple[int, int]:
    """The numbers that `<` compares: two longs, two datetimes or two durations, never a mixture."""
    kind = type(left)
    if kind is int and type(right) is int:
        return left, right
    if (kind is Datetime or kind is Duration) and type(right) is kind:
        return left.ms, right.ms
    raise EvaluationError(f"type error: {kind_of(left)} and {kind_of(right)} have no common order")


def _less(left: Any, right: Any) -> bool:
    low, high = _order(left, right)
    return low < high


def _less_eq(left: Any, right: Any) -> bool:
    low, high = _order(left, right)
    return low <= high


def _contains_all(left: Any, right: Any) -> bool:
    keys: frozenset[Any] = _typed(left, CedarSet, "set").keys
    return keys.issuperset(_typed(right, CedarSet, "set").keys)


def _contains_any(left: Any, right: Any) -> bool:
    keys: frozenset[Any] = _typed(left, CedarSet, "set").keys
    return not keys.isdisjoint(_typed(right, CedarSet, "set").keys)


def _units(value: Any) -> int:
    units: int = _typed(value, Decimal, "decimal").units
    return units


def _from_text(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    return lambda value: parse(_typed(value, str, "string"))


def _of_ip(test: Callable[[Ip], bool]) -> Callable[[Any], bool]:
    return lambda value: test(_typed(value, Ip, "ipaddr"))


def _of_duration(unit: int) -> Callable[[Any], int]:
    return lambda value: ext.whole(_typed(value, Duration, "duration").ms, unit)


def _offset(moment: Any, by: Any) -> Datetime:
    start, length = _typed(moment, Datetime, "datetime"), _typed(by, Duration, "duration")
    return Datetime(_long(start.ms + length.ms))


def _duration_since(moment: Any, start: Any) -> Duration:
    later, earlier = _typed(moment, Datetime, "datetime"), _typed(start, Datetime, "datetime")
    return Duration(_long(later.ms - earlier.ms))


def _is_in_range(inner: Any, outer: Any) -> bool:
    return ext.ip_in_range(_typed(inner, Ip, "ipaddr"), _typed(outer, Ip, "ipaddr"))


UNARY: Mapping[str, Callable[[Any], Any]] = {
    "not": _not,
    "neg": _negated,
    "is_empty": _is_empty,
    "datetime": _from_text(ext.parse_datetime),
    "decimal": _from_text(ext.parse_decimal),
    "duration": _from_text(ext.parse_duration),
    "ip": _from_text(ext.parse_ip),
    "is_ipv4": _of_ip(lambda value: value.version == 4),
    "is_ipv6": _of_ip(lambda value: value.version == 6),
    "is_loopback": _of_ip(ext.ip_is_loopback),
    "is_multicast": _of_ip(ext.ip_is_multicast),
    "to_date": lambda value: ext.to_date(_typed(value, Datetime, "datetime")),
    "to_time": lambda value: ext.to_time(_typed(value, Datetime, "datetime")),
    "to_milliseconds": _of_duration(1),
    "to_seconds": _of_duration(1000),
    "to_minutes": _of_duration(60_000),
    "to_hours": _of_duration(3_600_000),
    "to_days": _of_duration(ext.DAY_MS),
}

BINARY: Mapping[str, Callable[[Any, Any], Any]] = {
    "less": _less,
    "less_eq": _less_eq,
    "greater": lambda left, right: _less(right, left),
    "greater_eq": lambda left, right: _less_eq(right, left),
    "add": _added,
    "sub": _subtracted,
    "mul": _multiplied,
    "contains_all": _contains_all,
    "contains_any": _contains_any,
    "is_in_range": _is_in_range,
    "offset": _offset,
    "duration_since": _duration_since,
    "decimal_less_than": lambda left, right: _units(left) < _units(right),
    "decimal_less_eq": lambda left, right: _units(left) <= _units(right),
    "decimal_greater": lambda left, right: _units(left) > _units(right),
    "decimal_greater_eq": lambda left, right: _units(left) >= _units(right),
}
