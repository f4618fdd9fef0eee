"""What one word of a schema asks of a value: checks that say what is wrong, without a word of the value.

Decides each word by itself; `schema` puts them together. INVARIANTS
1. Work is bounded: patterns are re2's; a value that takes more than `MAX_STEPS` looks or nests deeper than `MAX_DEPTH`
   is given up (`TooMuch`).
2. What is told names places of the schema and no word of the value: a refusal is read by models and stands in logs.
3. A number that a double cannot hold exactly is none: its receiver may read another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from citywatch.core.errors import Malformed

MAX_STEPS: Final = 20_000
MAX_DEPTH: Final = 64
MAX_PATTERN: Final = 512
MAX_EXACT: Final = 2**53

Check = Callable[[Any, str, "Work"], str | None]
"""A value at a place: what is wrong with it, None if nothing is."""


class TooMuch(Exception):
    """Never leaves this module."""


class Work:
    """How much of it was done for one value, and how deep in it we are."""

    steps = depth = 0

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise TooMuch


TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: type(value) is bool,
    "integer": lambda value: type(value) is int or (type(value) is float and value.is_integer()),
    "number": lambda value: type(value) is int or type(value) is float,
    "string": lambda value: type(value) is str,
    "array": lambda value: isinstance(value, list | tuple),
    "object": lambda value: isinstance(value, Mapping),
}


def all_of(checks: Iterable[Check]) -> Check:
    every = tuple(checks)

    def check(value: Any, at: str, work: Work) -> str | None:
        work.step()
        work.depth += 1
        if work.depth > MAX_DEPTH:
            raise TooMuch
        wrong = next((found for one in every if (found := one(value, at, work)) is not None), None)
        work.depth -= 1
        return wrong

    return check


def some_of(checks: list[Check], most: int | None) -> Check:
    def check(value: Any, at: str, work: Work) -> str | None:
        fit = sum(one(value, at, work) is None for one in checks)
        if not fit:
            return f"`{at}` fits none of the schema's alternatives"
        return f"`{at}` fits more than one of the schema's alternatives" if most is not None and fit > most else None

    return check


def of_type(kinds: Any, place: str) -> Check:
    names = kinds if isinstance(kinds, list) else [kinds]
    if not names or not all(type(one) is str and one in TYPES for one in names):
        raise Malformed(f"`{place}/type`: one of {', '.join(TYPES)}")
    tests, told = [TYPES[one] for one in names], " or ".join(names)

    def check(value: Any, at: str, work: Work) -> str | None:
        if not any(test(value) for test in tests):
            return f"`{at}` is no {told}"
        if (type(value) is int or type(value) is float) and not -MAX_EXACT <= value <= MAX_EXACT:  # INVARIANT: 3
            return f"`{at}` is a number that not every reader holds exactly"
        return None

    return check


def one_of(values: Any, place: str) -> Check:
    if not isinstance(values, list) or not values:
        raise Malformed(f"`{place}`: not a list with at least one value")
    if any(isinstance(one, list | Mapping) for one in values):
        raise Malformed(f"`{place}`: a list or an object is none of the values that are compared here")
    known = frozenset(_plain(one) for one in values)

    def check(value: Any, at: str, work: Work) -> str | None:
        fits = not isinstance(value, list | tuple | Mapping) and _plain(value) in known
        return None if fits else f"`{at}` is none of the values that the schema lists"

    return check


def bounded(bound: int | float, holds: Callable[[Any, Any], bool], told: str) -> Check:
    def check(value: Any, at: str, work: Work) -> str | None:
        return f"`{at}` is {told} {bound}" if TYPES["number"](value) and not holds(value, bound) else None

    return check


def sized(bound: int, kind: str, most: bool, unit: str) -> Check:
    of_kind = TYPES[kind]

    def check(value: Any, at: str, work: Work) -> str | None:
        if not of_kind(value) or (len(value) <= bound if most else len(value) >= bound):
            return None
        return f"`{at}` has {'more' if most else 'fewer'} than {bound} {unit}"

    return check


def matching(pattern: Any, place: str) -> Check:
    if type(pattern) is not str or len(pattern) > MAX_PATTERN:
        raise Malformed(f"`{place}`: not a pattern of at most {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except (re2.error, UnicodeError):
        raise Malformed(f"`{place}`: not a pattern of re2, which takes linear time") from None

    def check(value: Any, at: str, work: Work) -> str | None:
        if type(value) is not str:
            return None
        work.step(len(value) // 64)
        try:
            fits = compiled.search(value) is not None
        except UnicodeError:  # a lone surrogate
            fits = False
        return None if fits else f"`{at}` does not match the schema's pattern"

    return check


def unique(value: Any, at: str, work: Work) -> str | None:
    if not TYPES["array"](value):
        return None
    return None if len({_frozen(one, work) for one in value}) == len(value) else f"`{at}` holds one element twice"


def elements(heads: list[Check], rest: Check | None) -> Check:
    def check(value: Any, at: str, work: Work) -> str | None:
        if not TYPES["array"](value):
            return None
        for number, one in enumerate(value):
            work.step()
            here = heads[number] if number < len(heads) else rest
            if here is None:
                return f"`{at}` has more than {len(heads)} elements"
            if (wrong := here(one, f"{at}[{number}]", work)) is not None:
                return wrong
        return None

    return check


def members(declared: Mapping[str, Check], required: tuple[str, ...], rest: Check | None) -> Check:
    def check(value: Any, at: str, work: Work) -> str | None:
        if not TYPES["object"](value):
            return None
        missing = next((name for name in required if name not in value), None)
        if missing is not None:
            return f"`{at}` lacks `{missing}`"
        for name, one in value.items():
            work.step()
            known = declared.get(name)
            here = known or rest
            if here is None:  # INVARIANT: 2
                return f"`{at}` has a member that the schema does not have"
            if (wrong := here(one, f"{at}.{name}" if known else f"{at}.*", work)) is not None:
                return wrong
        return None

    return check


def _plain(value: Any) -> tuple[bool, Any]:
    """A value that is no list and no object, so that only what JSON calls equal is: 1 and 1.0, not true and 1."""
    return type(value) is bool, value


def _frozen(value: Any, work: Work) -> Any:
    work.step()
    if isinstance(value, list | tuple):
        return "list", tuple(_frozen(one, work) for one in value)
    if isinstance(value, Mapping):
        return "object", frozenset((name, _frozen(one, work)) for name, one in value.items())
    return _plain(value)
