"""Cedar's values as Python holds them, and what makes two of them the same.

    Bool → bool · Long → int (64 bits) · String → str · entity → Uid · Set → CedarSet · Record → dict
    decimal → Decimal · datetime → Datetime · duration → Duration · ipaddr → Ip

Decides equality and nothing else. INVARIANTS: two values are the same only if Cedar's `==` says so: `true` is not `1`
(Python thinks it is), a set has neither order nor duplicates, values of different types are never the same. A `Uid` is
a type and an id, never one text that was glued together: a text can be forged, a pair cannot.
SPEC: https://docs.cedarpolicy.com/policies/syntax-datatypes.html
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, NamedTuple

import msgspec

MIN_LONG = -(2**63)
MAX_LONG = 2**63 - 1


class EvaluationError(Exception):
    """A policy has no answer for these facts: wrong type, missing attribute, overflow. Never leaves `core.policy`."""


class Uid(NamedTuple):
    """The name of one entity, `Agent::"spiffe://…"`; two fields, so that no quoting can be got wrong."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}::{quote(self.id)}"


class Decimal(msgspec.Struct, frozen=True):
    """A Cedar decimal, as a count of ten-thousandths."""

    units: int


class Datetime(msgspec.Struct, frozen=True):
    """A Cedar datetime, as milliseconds since the epoch."""

    ms: int


class Duration(msgspec.Struct, frozen=True):
    """A Cedar duration, in milliseconds."""

    ms: int


class Ip(msgspec.Struct, frozen=True):
    """A Cedar ipaddr: an address as a number, or a range of them, with the length of its prefix."""

    version: int
    address: int
    prefix: int


class CedarSet:
    """A Cedar set: what it contains counts, in no order, nothing twice. `items` keeps the first of each."""

    __slots__ = ("items", "keys")

    def __init__(self, items: Iterable[Any]) -> None:
        unique: dict[Hashable, Any] = {}
        for item in items:
            unique.setdefault(key(item), item)
        self.items = tuple(unique.values())
        self.keys = frozenset(unique)

    def __eq__(self, other: object) -> bool:
        return type(other) is CedarSet and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(self.keys)

    def __repr__(self) -> str:
        return f"CedarSet({list(self.items)!r})"


Value = bool | int | str | Uid | CedarSet | dict[str, Any] | Decimal | Datetime | Duration | Ip

_TRUE, _FALSE = ("bool", True, None), ("bool", False, None)


def key(value: Any) -> Hashable:
    """What stands for a value in a hash table: two keys are equal exactly if Cedar calls the values equal."""
    kind = type(value)
    if kind is bool:  # INVARIANT: True and 1 hash alike in Python and are different values in Cedar
        return _TRUE if value else _FALSE
    if kind is dict:
        return ("record", frozenset((name, key(item)) for name, item in value.items()), None)
    if kind is CedarSet:
        return ("set", value.keys, None)
    hashable: Hashable = value
    return hashable


def same(left: Any, right: Any) -> bool:
    """Cedar's `==`: total, never an error, false for values of different types."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is dict:
        return left.keys() == right.keys() and all(same(item, right[name]) for name, item in left.items())
    return bool(left == right)


def kind_of(value: Any) -> str:
    """The name that Cedar has for a value's type, for messages."""
    if type(value) is Uid:
        return str(value.type)
    return _KINDS.get(type(value), type(value).__name__)


def wrong(expected: str, value: Any) -> EvaluationError:
    """The error of a value of another type."""
    return EvaluationError(f"type error: expected {expected}, got {kind_of(value)}")


_KINDS: dict[type, str] = {
    bool: "Bool",
    int: "Long",
    str: "String",
    CedarSet: "Set",
    dict: "Record",
    Decimal: "decimal",
    Datetime: "datetime",
    Duration: "duration",
    Ip: "ipaddr",
}


def quote(text: str) -> str:
    """A Cedar string literal."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{{{ord(c):x}}}" for c in plain) + '"'
