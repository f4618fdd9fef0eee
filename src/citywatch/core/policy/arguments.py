"""JSON arguments become Cedar values: total, typed, the same for both engines. `spec/policy.md` §2 is the law.

Decides how policy sees each argument: by the type that the tool's manifest declares, otherwise by the approved input
schema. What has no Cedar type (a number with fractions, a free-form object, a union, a mixed array) is seen as the text
of its canonical JSON. It never decides whether the call is wise.

INVARIANTS: the result holds every argument that the call holds, or the call is refused by the argument's name; nothing
is rounded; no key that starts with `__` passes at any depth (`{"__entity":…}` would become a real entity, a forged
admin); what comes out conforms to `cedar_type` of the same shape, so that no policy that the validator passed errs.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from citywatch.core.canonical import canonical
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.manifest import ParameterType, ToolManifest
from citywatch.core.policy.shapes import Listed, Recorded, Shape, shape_of
from citywatch.core.policy.values import MAX_LONG, MIN_LONG, CedarSet, Decimal

MAX_DEPTH = 64
"""Levels within one free-form argument."""

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?\Z")

_Reader = Callable[[Any], Any]
_Path: TypeAlias = "str | tuple[_Path, str | None]"
"""Where a value stands: a text, or the path of what it stands in and one step more (None: an item of an array). Written
out only to refuse: one long name with thousands of members below it would be copied for each of them."""
_SHOWN = 200


class ArgumentMap(msgspec.Struct, frozen=True):
    """How policy sees the arguments of one tool. `shape` types the record that `read` returns."""

    shape: Recorded
    read: Callable[[Mapping[str, Any]], dict[str, Any]]


def argument_map(manifest: ToolManifest, input_schema: Mapping[str, Any] | None) -> ArgumentMap:
    """Prepare the mapping for a tool: `read` takes the JSON object of a call and returns a Cedar record.

    `read` raises `Refused(ARGUMENT_UNSUPPORTED)`, which names the argument by its path, such as `items[].price`.
    """
    shape = shape_of(manifest, input_schema)
    return ArgumentMap(shape, _record(shape, ""))


def text_of(value: Any, path: str = "params") -> str:
    """Any JSON value as the text of its canonical JSON, or `Refused` under the rules that hold for all arguments."""
    _screen(value, path, MAX_DEPTH)
    try:
        return canonical(value).decode()
    except Malformed as error:
        raise _unsupported(path, str(error)) from None


def _unsupported(path: _Path, why: str) -> Refused:
    # The path is an agent's words: one line, no surrogates, nothing that a terminal obeys
    shown = "".join(letter if letter.isprintable() else "?" for letter in _written(path))
    return Refused(Code.ARGUMENT_UNSUPPORTED, f"`{shown}`: {why}")


def _written(path: _Path) -> str:
    steps = []
    while isinstance(path, tuple):
        path, step = path
        steps.append("[]" if step is None else f".{step[:_SHOWN]}")
    return (path[:_SHOWN] + "".join(reversed(steps)))[:_SHOWN]


def _screen(value: Any, path: _Path, depth: int) -> None:
    """Refuse what no argument may hold, wherever it stands: `__` keys, integers beyond 64 bits, endless nesting."""
    kind = type(value)
    if kind is int and not MIN_LONG <= value <= MAX_LONG:
        raise _unsupported(path, "the integer does not fit in 64 bits")
    if kind is not dict and kind is not list:
        return
    if depth == 0:
        raise _unsupported(path, f"nested deeper than {MAX_DEPTH} levels")
    if kind is list:
        for item in value:
            if type(item) is not str:
                _screen(item, (path, None), depth - 1)
        return
    for name, item in value.items():
        if name.startswith("__"):
            _allowed_key(name, (path, name))
        if type(item) is not str:
            _screen(item, (path, name), depth - 1)


def _allowed_key(name: str, path: _Path) -> None:
    # INVARIANT: `{"__entity": …}` and `{"__extn": …}` in a context become real entities and values in cedarpy
    if name.startswith("__"):
        raise _unsupported(path, "a name must not start with `__`")


def _reader(shape: Shape, path: str) -> _Reader:
    if isinstance(shape, Recorded):
        return _record(shape, path)
    if isinstance(shape, Listed):
        return _listed(shape, path)
    if shape.type is ParameterType.MONEY:
        return _money(path, shape.scale)
    return _PLAIN[shape.type](path)


def _record(shape: Recorded, path: str) -> _Reader:
    prefix = f"{path}." if path else ""
    fields = {name: _reader(field.shape, prefix + name) for name, field in shape.fields.items()}
    required = frozenset(name for name, field in shape.fields.items() if field.required)

    def read(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _unsupported(path or "arguments", "must be an object")
        record: dict[str, Any] = {}
        for name, item in value.items():
            field = fields.get(name)
            if field is None:
                field = _undeclared(name, prefix + name, shape)
            if item is not None:
                record[name] = field(item)
        if not required <= record.keys():
            raise _unsupported(prefix + min(required - record.keys()), "required, and missing or null")
        return record

    return read


def _undeclared(name: str, path: str, shape: Recorded) -> _Reader:
    _allowed_key(name, path)
    if not shape.open or not name.isprintable():
        raise _unsupported(path, "declared by neither the manifest nor the input schema")
    return _json(path)


def _listed(shape: Listed, path: str) -> _Reader:
    item_of = _reader(shape.item, path + "[]")

    def read(value: Any) -> CedarSet:
        if type(value) is not list:
            raise _unsupported(path, "must be an array")
        if None in value:
            raise _unsupported(path + "[]", "must not be null")
        return CedarSet([item_of(item) for item in value])

    return read


def _string(path: str) -> _Reader:
    def read(value: Any) -> str:
        if type(value) is not str:
            raise _unsupported(path, "must be a string")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _unsupported(path, "holds a lone surrogate") from None
        return value

    return read


def _integer(path: str) -> _Reader:
    def read(value: Any) -> int:
        if type(value) is not int:  # a bool is an int to Python; 5.0 is no integer to us
            raise _unsupported(path, "must be an integer")
        return _long(value, path)

    return read


def _boolean(path: str) -> _Reader:
    def read(value: Any) -> bool:
        if type(value) is not bool:
            raise _unsupported(path, "must be true or false")
        return value

    return read


def _money(path: str, scale: int) -> _Reader:
    def read(value: Any) -> int:
        return _scaled(value, scale, path)

    return read


def _decimal(path: str) -> _Reader:
    def read(value: Any) -> Decimal:
        return Decimal(_scaled(value, 4, path))

    return read


def _json(path: str) -> _Reader:
    def read(value: Any) -> str:
        return text_of(value, path)

    return read


_PLAIN: Mapping[ParameterType | None, Callable[[str], _Reader]] = {
    ParameterType.STRING: _string,
    ParameterType.INTEGER: _integer,
    ParameterType.BOOLEAN: _boolean,
    ParameterType.DECIMAL: _decimal,
    None: _json,
}


def _long(value: int, path: str) -> int:
    if not MIN_LONG <= value <= MAX_LONG:
        raise _unsupported(path, "the integer does not fit in 64 bits")
    return value


_LONG_DIGITS = 19
"""With fewer digits than this, every integer fits in 64 bits."""


def _scaled(value: Any, scale: int, path: str) -> int:
    """`value` times ten to the `scale`, exactly. A float is the number that its shortest text names, which is also what
    is forwarded; a string must be plain digits, so that no server reads another number out of it."""
    if type(value) is int:
        return _long(value * 10**scale, path) if MIN_LONG <= value <= MAX_LONG else _long(value, path)
    if type(value) is float:
        text = repr(value)
        whole, _, part = text.partition(".")
        short = len(part) <= scale and len(whole) + scale < _LONG_DIGITS
        if short and whole.isdecimal() and part.isdecimal():  # as amounts are written: `12.5` is 1250
            return int(whole + part.ljust(scale, "0"))
        return _shifted(decimal.Decimal(text), scale, path)
    if type(value) is str and _NUMBER.match(value):
        if len(value.partition(".")[2]) > scale:
            raise _unsupported(path, f"at most {scale} digits after the point")
        return _shifted(decimal.Decimal(value), scale, path)
    raise _unsupported(path, "must be a number, or a string of plain digits")


def _shifted(number: decimal.Decimal, scale: int, path: str) -> int:
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise _unsupported(path, "must be a finite number")
    shift = exponent + scale
    if len(digits) + shift > 20:
        raise _unsupported(path, "the number does not fit in 64 bits")
    count = int("".join(map(str, digits)))
    if shift < 0:
        count, lost = divmod(count, 10**-shift)
        if lost:
            raise _unsupported(path, f"at most {scale} digits after the point")
    else:
        count *= 10**shift
    return _long(-count if sign else count, path)


def cedar_type(shape: Shape) -> dict[str, Any]:
    """The type, in the JSON form of Cedar's schema, of what a reader of this shape returns."""
    if isinstance(shape, Recorded):
        return {
            "type": "Record",
            "attributes": {
                name: {**cedar_type(field.shape), "required": field.required} for name, field in shape.fields.items()
            },
        }
    if isinstance(shape, Listed):
        return {"type": "Set", "element": cedar_type(shape.item)}
    return dict(_CEDAR_TYPES[shape.type])


_CEDAR_TYPES: Mapping[ParameterType | None, Mapping[str, str]] = {
    ParameterType.STRING: {"type": "String"},
    ParameterType.INTEGER: {"type": "Long"},
    ParameterType.BOOLEAN: {"type": "Boolean"},
    ParameterType.MONEY: {"type": "Long"},
    ParameterType.DECIMAL: {"type": "Extension", "name": "decimal"},
    None: {"type": "String"},
}
