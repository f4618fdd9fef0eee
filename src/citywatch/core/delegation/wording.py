"""How caveats are written in a grant, and read again: `tools`, `skills`, `arguments`, `calls`, `readers`, `origins`, ….

Decides what is a well-formed caveat. A limit is written as plans write constraints, one kind for each argument:
`{equals: …}`, `{one_of: […]}`, `{at_least: …, at_most: …}`, `{not_before: …, not_after: …}`.

INVARIANTS: an unknown caveat or limit is refused, never ignored; nothing is left or taken by silence: an empty set
leaves nothing and is written as such, an empty mapping of arguments is refused; what is read is in normal form.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from citywatch.core.delegation.caveats import Caveats, Names, normal, normal_choice
from citywatch.core.errors import Malformed
from citywatch.core.label import Shaper
from citywatch.core.limit import Dates, Equal, Limit, Numbers, OneOf, day, number
from citywatch.core.names import parse_domain

MAX_NAMES: Final = 128
MAX_OPTIONS: Final = 128
MAX_CALLS: Final = 1_000_000
_PATTERN: Final = re.compile(r"(?:\*|[A-Za-z0-9._-]{1,128}/(?:\*|[A-Za-z0-9._/-]{1,128}))\Z")
_TOOL: Final = re.compile(r"[A-Za-z0-9._-]{1,128}/[A-Za-z0-9._/-]{1,128}\Z")
_ORIGIN: Final = re.compile(rf"(?:{'|'.join(Shaper)}):(?:\*|[!-)+-~]{{1,512}})\Z")
_READER: Final = re.compile(r"[!-~]{1,512}\Z")
_EQUAL, _CHOICE = frozenset(("equals",)), frozenset(("one_of",))
_AMOUNTS, _DAYS = frozenset(("at_least", "at_most")), frozenset(("not_before", "not_after"))
_UNIT: Final = re.compile(r"-?[0-9.]+ ([A-Z]{3})\Z")


def parse_caveats(value: dict[str, Any], *, not_after: int, depth: int) -> Caveats:
    """Read a grant's caveats; the two that are members of the grant itself are added to them."""
    for name in value:
        if name not in _READERS:
            raise Malformed(f"a grant has a caveat that this version does not know: {_shown(name)}")
    return Caveats(
        **{name: _READERS[name](name, item) for name, item in value.items()}, not_after=not_after, depth=depth
    )


def format_caveats(caveats: Caveats) -> dict[str, Any]:
    """The inverse of `parse_caveats`, without the grant's own members."""
    text: dict[str, Any] = {}
    for name in ("audience", "tools", "skills", "readers", "origins"):
        names = getattr(caveats, name)
        if names is not None:
            text[name] = sorted(names)
    if caveats.arguments:
        text["arguments"] = {
            tool: {argument: format_limit(limit) for argument, limit in limits.items()}
            for tool, limits in caveats.arguments.items()
        }
    if caveats.calls is not None:
        text["calls"] = caveats.calls
    return text


def format_limit(limit: Limit) -> dict[str, Any]:
    """The inverse of reading one limit."""
    if isinstance(limit, Equal):
        return {"equals": limit.value}
    if isinstance(limit, OneOf):
        return {"one_of": list(limit.values)}
    if isinstance(limit, Numbers):
        unit = f" {limit.unit}" if limit.unit else ""
        ends = (("at_least", limit.low), ("at_most", limit.high))
        return {key: f"{amount:f}{unit}" for key, amount in ends if amount is not None}
    days = (("not_before", limit.low), ("not_after", limit.high))
    return {key: written for key, written in days if written is not None}


def parse_limit(value: Any) -> Limit:
    """Read one limit; exactly one kind, none that holds nothing but an empty choice."""
    keys = value.keys() if type(value) is dict else frozenset()
    if keys == _EQUAL and value["equals"] is not None:
        return Equal(value["equals"])
    if keys == _CHOICE:
        return _choice(value["one_of"])
    if keys and keys <= _AMOUNTS:
        return _numbers(value)
    if keys and keys <= _DAYS:
        return _dates(value)
    raise Malformed("is no limit: write one of equals, one_of, at_least and at_most, not_before and not_after")


def _choice(value: Any) -> OneOf:
    if type(value) is not list or len(value) > MAX_OPTIONS:
        raise Malformed(f"is no choice of at most {MAX_OPTIONS} options")
    for option in value:
        if type(option) not in (str, int, float, bool):
            raise Malformed("holds an option that is no text, number, true or false")
    return normal_choice(value)


def _numbers(value: dict[str, Any]) -> Numbers:
    units = {_unit(end) for end in value.values()}
    unit = units.pop()
    ends = {key: number(end, unit) for key, end in value.items()}
    low, high = ends.get("at_least"), ends.get("at_most")
    if units or None in ends.values() or (low is not None and high is not None and low > high):
        raise Malformed("is no range of amounts: write 500, or `500.00 EUR`, the lower one first")
    return Numbers(low, high, unit)


def _dates(value: dict[str, Any]) -> Dates:
    if any(end is None or day(end) != end for end in value.values()):
        raise Malformed("is no range of days: write 2026-11-25")
    low, high = value.get("not_before"), value.get("not_after")
    if low is not None and high is not None and low > high:
        raise Malformed("is no range of days: the first is later than the last")
    return Dates(low, high)


def _unit(end: Any) -> str:
    match = _UNIT.match(end) if type(end) is str and len(end) <= 64 else None
    return match[1] if match is not None else ""


def _arguments(where: str, value: Any) -> dict[str, dict[str, Limit]]:
    if type(value) is not dict or not 0 < len(value) <= MAX_NAMES:
        raise Malformed(f"the caveat `{where}` maps one to {MAX_NAMES} tools to their arguments")
    return {tool: _limits(tool, limits) for tool, limits in value.items()}


def _limits(tool: str, value: Any) -> dict[str, Limit]:
    if not _TOOL.match(tool):
        raise Malformed(f"`arguments` names {_shown(tool)}, which is no tool: write `server/tool`")
    if type(value) is not dict or not 0 < len(value) <= MAX_NAMES:
        raise Malformed(f"`arguments.{tool}` maps one to {MAX_NAMES} arguments to limits")
    found: dict[str, Limit] = {}
    for argument, limit in value.items():
        try:
            found[argument] = parse_limit(limit)
        except Malformed as error:
            raise Malformed(f"`arguments.{tool}`, {_shown(argument)}: it {error}") from None
    return found


def _listed(pattern: re.Pattern[str]) -> Callable[[str, Any], list[str]]:
    def read(where: str, value: Any) -> list[str]:
        if type(value) is not list or len(value) > MAX_NAMES:
            raise Malformed(f"the caveat `{where}` is no list of at most {MAX_NAMES} names")
        for name in value:
            if type(name) is not str or not pattern.match(name):
                raise Malformed(f"the caveat `{where}` holds what is no name there")
        return value

    return read


def _patterns(pattern: re.Pattern[str]) -> Callable[[str, Any], Names]:
    read = _listed(pattern)
    return lambda where, value: normal(read(where, value))


def _names(pattern: re.Pattern[str]) -> Callable[[str, Any], Names]:
    read = _listed(pattern)
    return lambda where, value: frozenset(read(where, value))


def _domains(where: str, value: Any) -> Names:
    return frozenset(parse_domain(name) for name in _listed(_READER)(where, value))


def _calls(where: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_CALLS:
        raise Malformed(f"the caveat `{where}` is a number of calls, at most {MAX_CALLS}")
    return value


_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "audience": _domains,
    "tools": _patterns(_PATTERN),
    "skills": _patterns(_PATTERN),
    "arguments": _arguments,
    "calls": _calls,
    "readers": _names(_READER),
    "origins": _patterns(_ORIGIN),
}


def _shown(name: str) -> str:
    return f"`{name[:60]}`" if name.isprintable() and "`" not in name else "one that cannot be shown"
