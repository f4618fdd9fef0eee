"""What can be said of an expression from types alone, for one act: its type, whether it can be true, what it reads.

Decides nothing of a call. INVARIANT: three-valued and one-sided: `False` and `True` only where every request of this
act gives that value or an error; everything else is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec
from cedarpy import pst

from citywatch.core.policy.constants import constant
from citywatch.core.policy.facts import ACTION, AGENT, SERVER
from citywatch.core.policy.text import expression_text
from citywatch.core.policy.values import CedarSet, Datetime, Decimal, Duration, Ip, Uid, same
from citywatch.core.policy.world import Act, World, attribute_types

Type = Mapping[str, Any]

_CONSTANTS: Mapping[type, Type] = {
    bool: {"type": "Boolean"},
    int: {"type": "Long"},
    str: {"type": "String"},
    CedarSet: {"type": "Set"},
    Decimal: {"type": "Extension", "name": "decimal"},
    Datetime: {"type": "Extension", "name": "datetime"},
    Duration: {"type": "Extension", "name": "duration"},
    Ip: {"type": "Extension", "name": "ipaddr"},
}


class Types:
    """The static view of one act."""

    def __init__(self, act: Act, entities: Mapping[str, Mapping[str, Any]]) -> None:
        near, far = act.types
        self.context: Type = act.context
        self.variables = {"principal": near, "resource": far, "action": ACTION}
        self.entities = entities

    def type_of(self, node: Any) -> Type | None:
        """The Cedar type of an expression, None if it is not known here."""
        known, value = constant(node)
        if known:
            return {"type": "Entity", "name": value.type} if type(value) is Uid else _CONSTANTS[type(value)]
        if isinstance(node, pst.Var):
            return self.context if node.name == "context" else {"type": "Entity", "name": self.variables[node.name]}
        if isinstance(node, pst.GetAttr):
            found = self._attributes(node.base)
            return None if found is None else found.get(node.attr)
        return None

    def _attributes(self, base: Any) -> Mapping[str, Any] | None:
        """The attributes that can be read from an expression, None if they are not known."""
        kind = self.type_of(base)
        if kind is None:
            return None
        if kind["type"] == "Entity":
            return self.entities.get(kind["name"], {})
        return kind["attributes"] if kind["type"] == "Record" else None

    def truth(self, node: Any) -> bool | None:
        """Whether the expression is true, or false, in every request of this act that it has a value in."""
        known, value = constant(node)
        if known:
            return value if type(value) is bool else None
        match node:
            case pst.UnaryOp("not", argument):
                inner = self.truth(argument)
                return None if inner is None else not inner
            case pst.BinaryOp("and", left, right):
                return self._joined(left, right, False)
            case pst.BinaryOp("or", left, right):
                return self._joined(left, right, True)
            case pst.BinaryOp("eq", left, right):
                return self._equal(left, right)
            case pst.BinaryOp("not_eq", left, right):
                equal = self._equal(left, right)
                return None if equal is None else not equal
            case pst.HasAttr(base, names):
                return self._has(base, names)
            case pst.Is(base, kind, _):
                found = self.type_of(base)
                return False if found is not None and found.get("name") != str(kind) else None
            case pst.IfThenElse(condition, then, otherwise):
                branches = {True: [then], False: [otherwise], None: [then, otherwise]}[self.truth(condition)]
                values = {self.truth(branch) for branch in branches}
                return values.pop() if len(values) == 1 else None
        return None

    def _joined(self, left: Any, right: Any, absorbing: bool) -> bool | None:
        values = (self.truth(left), self.truth(right))
        if absorbing in values:
            return absorbing
        return None if None in values else not absorbing

    def _equal(self, left: Any, right: Any) -> bool | None:
        (left_known, one), (right_known, other) = constant(left), constant(right)
        if left_known and right_known:
            return same(one, other)
        kinds = self.type_of(left), self.type_of(right)
        if None in kinds:
            return None
        name = [(kind["type"], kind.get("name")) for kind in kinds if kind is not None]
        return None if name[0] == name[1] else False

    def _has(self, base: Any, names: tuple[str, ...]) -> bool | None:
        found = self._attributes(base)
        if found is None:
            return None
        if names[0] not in found:
            return False
        if len(names) > 1:
            return None
        return True if found[names[0]].get("required", True) else None

    def declared(self, read: Read) -> frozenset[str] | None:
        """The attributes that are declared where this one is read, None if that is not known."""
        found = self._attributes(read.base)
        return None if found is None else frozenset(found)


class Read(msgspec.Struct, frozen=True):
    """One attribute that an expression reads or asks for, and where."""

    base: Any
    name: str
    path: str


def reads_of(node: Any) -> Iterator[Read]:
    """Every attribute that an expression reads or asks for."""
    if isinstance(node, pst.GetAttr | pst.HasAttr):
        name = node.attr if isinstance(node, pst.GetAttr) else node.attrs[0]
        yield Read(node.base, name, f"{expression_text(node.base)}.{name}")
    for inner in _inner(node):
        yield from reads_of(inner)


def entity_types(world: World) -> Mapping[str, Mapping[str, Any]]:
    """The attributes of each entity type that has some."""
    return {AGENT: attribute_types(world.agents), SERVER: {"name": {"type": "String", "required": True}}}


def _inner(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        yield from node.values()
    elif isinstance(node, tuple):
        yield from node
    elif is_dataclass(node):
        yield from (getattr(node, field.name) for field in fields(node))
