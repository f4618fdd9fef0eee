"""How constraints are written: `{equals: …}`, `{one_of: […]}`, `{at_most: …}`, `{from: …}`, `{fields: …}`, `free`.

Decides what is a well-formed constraint of an argument, and notes what is not. Several keys in one mapping all hold.
INVARIANT: nothing is bound or freed by silence: an argument without a constraint, an empty choice, a range that holds
nothing and a bound null are mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from citywatch.core.canonical import canonical
from citywatch.core.errors import Malformed
from citywatch.core.limit import Dates, Equal, Numbers, OneOf, day, number
from citywatch.core.plan.constraint import Constraint, Field, Free, From, Pattern, Record, Source
from citywatch.core.plan.notes import Notes, shown

PROMPT = "prompt"
OTHERS = "*"
FREE = "free"
MAX_FIELDS = 64
MAX_OPTIONS = 256
MAX_SOURCES = 16
MAX_DEPTH = 4

_KEYS = ("equals", "one_of", "at_least", "at_most", "not_before", "not_after", "from", "fields", FREE, "optional")
_SEGMENT = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]{0,63})|\[(?:(\*)|(0|[1-9][0-9]{0,5})|\"([^\"\\]{1,64})\")\]")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")


def parse_record(notes: Notes, value: Any, where: str, depth: int = MAX_DEPTH) -> Record:
    """The members of an object, each with its constraints; `"*": free` lets others pass unbound."""
    if type(value) is not dict:
        notes.wrong(where, f"{shown(value)} is not a mapping from names to constraints")
        return Record({})
    if depth == 0 or len(value) > MAX_FIELDS:
        notes.wrong(where, f"nested deeper than {MAX_DEPTH}" if depth == 0 else f"more than {MAX_FIELDS} members")
        return Record({})
    fields: dict[str, Field] = {}
    for name, item in value.items():
        if name == OTHERS:
            if item != FREE:
                notes.wrong(f"{where}.{OTHERS}", f"others can only be `{FREE}`")
        elif type(name) is not str or not 0 < len(name) <= 128:
            notes.wrong(where, f"{shown(name)} is no name")
        else:
            fields[name] = _field(notes, item, f"{where}.{shown(name)[1:-1]}", depth)
    return Record(fields, open=OTHERS in value)


def format_record(record: Record) -> dict[str, Any]:
    """The inverse of `parse_record`."""
    text: dict[str, Any] = {name: _format_field(field) for name, field in record.fields.items()}
    return {**text, OTHERS: FREE} if record.open else text


def parse_pattern(text: str) -> Pattern:
    """Read `$`, `.name`, `["name"]`, `[0]`, `[*]`; raises `Malformed` for every other text."""
    found: list[str | int | None] = []
    place = 1 if text[:1] == "$" and len(text) <= 512 else len(text) + 1
    while place < len(text):
        match = _SEGMENT.match(text, place)
        if match is None:
            break
        name, every, index, quoted = match.groups()
        found.append(None if every else int(index) if index else name or quoted)
        place = match.end()
    if place != len(text):
        raise Malformed('not a field: write `$`, then `.name`, `["name"]`, `[0]` or `[*]`')
    return tuple(found)


def format_pattern(pattern: Pattern) -> str:
    """The inverse of `parse_pattern`."""
    return "$" + "".join(
        "[*]"
        if one is None
        else f"[{one}]"
        if type(one) is int
        else f".{one}"
        if _PLAIN.match(str(one))
        else f'["{one}"]'
        for one in pattern
    )


def _field(notes: Notes, value: Any, where: str, depth: int) -> Field:
    if value == FREE:
        return Field((Free(),))
    before = len(notes.mistakes)
    members = notes.members(value, where, _KEYS)
    if members is None:
        return Field(())
    optional = members.pop("optional", False)
    if type(optional) is not bool:
        notes.wrong(f"{where}.optional", "write true or false")
    constraints = tuple(_constraints(notes, members, where, depth))
    if not constraints and len(notes.mistakes) == before:
        notes.wrong(where, f"nothing is said of it: write a constraint, or `{FREE}`")
    return Field(constraints, optional=optional is True)


def _constraints(notes: Notes, members: dict[str, Any], where: str, depth: int) -> Iterator[Constraint]:
    if FREE in members:
        if members[FREE] is not True or len(members) > 1:
            notes.wrong(f"{where}.{FREE}", "write true, and nothing beside it but `optional`")
        yield Free()
    if "equals" in members:
        yield from _equal(notes, members["equals"], f"{where}.equals")
    if "one_of" in members:
        yield from _one_of(notes, members["one_of"], f"{where}.one_of")
    if "from" in members:
        yield from _from(notes, members["from"], f"{where}.from")
    yield from _numbers(notes, members, where)
    yield from _dates(notes, members, where)
    if "fields" in members:
        yield parse_record(notes, members["fields"], f"{where}.fields", depth - 1)


def _equal(notes: Notes, value: Any, where: str) -> Iterator[Constraint]:
    try:
        canonical(value)
        yield Equal(value)
    except (Malformed, TypeError) as error:
        notes.wrong(where, f"no JSON value: {error}")


def _one_of(notes: Notes, value: Any, where: str) -> Iterator[Constraint]:
    options = []
    for place, item in notes.items(value, where, MAX_OPTIONS, empty="admits nothing"):
        if type(item) in (str, int, float, bool):
            options += [one.value for one in _equal(notes, item, place) if isinstance(one, Equal)]
        else:
            notes.wrong(place, "write a text, a number, true or false")
    yield OneOf(tuple(options))


def _from(notes: Notes, value: Any, where: str) -> Iterator[Constraint]:
    several = value if type(value) is list else [value]
    sources = [
        _source(notes, one, place) for place, one in notes.items(several, where, MAX_SOURCES, empty="admits nothing")
    ]
    yield From(tuple(source for source in sources if source is not None))


def _source(notes: Notes, value: Any, where: str) -> Source | None:
    if value == PROMPT:
        return Source(None)
    members = notes.members(value, where, ("step", "field"))
    if members is None:
        return None
    step, field = members.get("step"), members.get("field", "$")
    if type(step) is not str or step == PROMPT:
        notes.wrong(where, f"write `{PROMPT}`, or `step:` and `field:`")
        return None
    try:
        return Source(step, parse_pattern(field if type(field) is str else ""))
    except Malformed as error:
        notes.wrong(f"{where}.field", str(error))
        return None


def _numbers(notes: Notes, members: dict[str, Any], where: str) -> Iterator[Constraint]:
    ends: list[Decimal | None] = []
    units: set[str] = set()
    for key in ("at_least", "at_most"):
        value = members.get(key)
        unit = value[-3:] if type(value) is str and re.search(r" [A-Z]{3}\Z", value[-4:]) else ""
        amount = None if value is None else number(value, unit)
        if value is not None and amount is None:
            notes.wrong(f"{where}.{key}", "not a number: write 500, or an amount and its currency as `500.00 EUR`")
        if amount is not None:
            units.add(unit)
        ends.append(amount)
    low, high = ends
    if len(units) > 1:
        notes.wrong(where, "`at_least` and `at_most` are in different units")
    elif low is not None and high is not None and low > high:
        notes.wrong(where, "`at_least` is more than `at_most`: nothing lies between")
    elif units:
        yield Numbers(low, high, units.pop())


def _dates(notes: Notes, members: dict[str, Any], where: str) -> Iterator[Constraint]:
    ends: list[str | None] = []
    for key in ("not_before", "not_after"):
        value = members.get(key)
        written = day(value)
        if value is not None and written != value:
            notes.wrong(f"{where}.{key}", "not a day: write it as 2026-11-25, in quotes")
        ends.append(written)
    low, high = ends
    if low is not None and high is not None and low > high:
        notes.wrong(where, "`not_before` is later than `not_after`: nothing lies between")
    elif low is not None or high is not None:
        yield Dates(low, high)


def _format_field(field: Field) -> Any:
    text: dict[str, Any] = {}
    for one in field.constraints:
        text |= _format(one)
    if field.optional:
        text["optional"] = True
    return FREE if text == {FREE: True} else text


def _format(constraint: Constraint) -> dict[str, Any]:
    match constraint:
        case Free():
            return {FREE: True}
        case Equal():
            return {"equals": constraint.value}
        case OneOf():
            return {"one_of": list(constraint.values)}
        case From():
            return {"from": [_format_source(source) for source in constraint.sources]}
        case Record():
            return {"fields": format_record(constraint)}
        case Numbers():
            unit = f" {constraint.unit}" if constraint.unit else ""
            ends = (("at_least", constraint.low), ("at_most", constraint.high))
            return {key: f"{amount:f}{unit}" for key, amount in ends if amount is not None}
        case Dates():
            days = (("not_before", constraint.low), ("not_after", constraint.high))
            return {key: written for key, written in days if written is not None}


def _format_source(source: Source) -> Any:
    if source.step is None:
        return PROMPT
    return {"step": source.step, "field": format_pattern(source.field)}
