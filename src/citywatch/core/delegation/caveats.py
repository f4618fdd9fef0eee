"""What a grant leaves its holder: typed caveats, and the one way to put two of them together.

Decides how caveats meet, and whether one is within another. Does not decide whether an act keeps them (`holds`) nor
who may write them (`chain`).

A caveat that is None says nothing. Each part is a lattice of its own and in normal form: sets of patterns hold no
pattern that another of them covers, an argument has exactly one limit. So two caveats are equal exactly if they leave
the same, and `meet(one, other) == one` says that `one` is within `other`.

INVARIANTS
1. `meet` is total, commutative, associative and idempotent, and leaves exactly what both leave.
2. What two limits of one argument have nothing in common for admits no value (`NOTHING`), never any value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from citywatch.core.limit import Dates, Equal, Limit, Numbers, OneOf, keeps

Names = frozenset[str]
Arguments = Mapping[str, Mapping[str, Limit]]

NOTHING: Final = OneOf(())
"""The limit that no value keeps."""
EVERYTHING: Final = "*"
PARTS: Final = ("audience", "tools", "skills", "calls", "readers", "origins", "not_after", "depth")
"""The caveats that are one value; `arguments` has one for each argument."""
_HEAD: Final = re.compile(r"[^/:]*[/:]")


class Caveats(msgspec.Struct, frozen=True, kw_only=True):
    """What may be done at most; None and an empty mapping say nothing.

    `audience` are the trust domains whose gateways may believe it; `tools` are patterns of `server/tool`, `skills` of
    `agent/skill` (`*`, `server/*` or a name); `arguments` maps a tool's arguments to what they may be; `calls` is how
    many calls all holders together may make; `readers` who may see what is sent; `origins` are patterns of origins that
    alone may have shaped the holder's context (`kind:*` or an origin): the taint floor. `not_after` is exclusive, in
    milliseconds; `depth` is how many more times it may be handed on.
    """

    audience: Names | None = None
    tools: Names | None = None
    skills: Names | None = None
    arguments: Arguments = {}
    calls: int | None = None
    readers: Names | None = None
    origins: Names | None = None
    not_after: int | None = None
    depth: int | None = None


ANYTHING: Final = Caveats()


def meet(one: Caveats, other: Caveats) -> Caveats:
    """The caveats that leave what both leave, and no more."""
    if one is ANYTHING:
        return other
    return Caveats(
        audience=_names(one.audience, other.audience),
        tools=_patterns(one.tools, other.tools),
        skills=_patterns(one.skills, other.skills),
        arguments=_arguments(one.arguments, other.arguments),
        calls=_least(one.calls, other.calls),
        readers=_names(one.readers, other.readers),
        origins=_patterns(one.origins, other.origins),
        not_after=_least(one.not_after, other.not_after),
        depth=_least(one.depth, other.depth),
    )


def excess(stated: Caveats, both: Caveats) -> str | None:
    """The first part in which `stated` claims more than `both`, its meet with what was left; None if there is none.

    Silence claims nothing.
    """
    for name in PARTS:
        said = getattr(stated, name)
        if said is not None and getattr(both, name) != said:
            return name
    for tool, limits in stated.arguments.items():
        for argument, limit in limits.items():
            if not _is_whole(limit, both.arguments[tool][argument]):
                return f"arguments.{tool}.{argument}"
    return None


def speaks_of(patterns: Names, name: str) -> bool:
    """Whether one of the patterns is, or stands for, this name (or pattern); of none, none does."""
    return name in patterns or _is_covered(patterns, name)


def normal(patterns: Iterable[str]) -> Names:
    """The same, without what another of them stands for."""
    several = frozenset(patterns)
    return frozenset(one for one in several if not _is_covered(several, one))


def normal_choice(values: Iterable[Any]) -> OneOf:
    """A choice whose options are sorted and different as JSON values."""
    options = {_key(value): value for value in values}
    return OneOf(tuple(options[key] for key in sorted(options)))


def meet_limits(one: Limit, other: Limit) -> Limit:
    """The limit that a value keeps exactly if it keeps both."""
    if isinstance(one, Equal):
        return one if keeps(other, one.value) else NOTHING
    if isinstance(other, Equal):
        return other if keeps(one, other.value) else NOTHING
    if isinstance(one, OneOf):
        if isinstance(other, OneOf):
            options = {_key(option) for option in other.values}
            return OneOf(tuple(option for option in one.values if _key(option) in options))
        return OneOf(tuple(option for option in one.values if keeps(other, option)))
    if isinstance(other, OneOf):
        return OneOf(tuple(option for option in other.values if keeps(one, option)))
    return _ranges(one, other)


def _ranges(one: Numbers | Dates, other: Numbers | Dates) -> Limit:
    """No text is both an amount and a day, and none is an amount in two units."""
    if type(one) is not type(other) or getattr(one, "unit", "") != getattr(other, "unit", ""):
        return NOTHING  # INVARIANT: 2
    low, high = _greatest(one.low, other.low), _least(one.high, other.high)
    if low is not None and high is not None and low > high:
        return NOTHING  # INVARIANT: 2
    return msgspec.structs.replace(one, low=low, high=high)


def _arguments(one: Arguments, other: Arguments) -> Arguments:
    if not one or not other:
        return one or other
    both = dict(one)
    for tool, limits in other.items():
        mine = both.get(tool)
        if mine is None:
            both[tool] = limits
            continue
        met = dict(mine)
        for argument, limit in limits.items():
            met[argument] = meet_limits(met[argument], limit) if argument in met else limit
        both[tool] = met
    return both


def _patterns(one: Names | None, other: Names | None) -> Names | None:
    """Two patterns have in common the one that the other stands for, or nothing."""
    if one is None or other is None:
        return other if one is None else one
    if one <= other or other <= one:  # as most are
        return min(one, other, key=len)
    return normal([name for name in one if speaks_of(other, name)] + [name for name in other if speaks_of(one, name)])


def _names(one: Names | None, other: Names | None) -> Names | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _least(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _greatest(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _is_whole(stated: Limit, both: Limit) -> bool:
    """Whether a limit lost nothing when it met another."""
    if isinstance(stated, OneOf) and isinstance(both, OneOf):
        return len(stated.values) == len(both.values)  # both are different, and `both` has none but those of `stated`
    return type(stated) is type(both) and (isinstance(stated, Equal) or stated == both)


def _key(option: Any) -> tuple[bool, bool, Any]:
    """What makes two scalars the same, and sorts them: Python says that `True == 1`, JSON does not."""
    return type(option) is bool, type(option) is str, option


def _is_covered(patterns: Names, name: str) -> bool:
    """Whether a pattern other than `name` stands for it. There are two that can: `*`, and the one of its head."""
    if EVERYTHING in patterns:
        return name != EVERYTHING
    head = _HEAD.match(name)
    return head is not None and name != (pattern := head[0] + EVERYTHING) and pattern in patterns
