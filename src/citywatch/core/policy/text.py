"""A Cedar expression as the text a person would write: `context.args.amount <= 10000`.

Decides nothing; for messages and explanations. INVARIANT: what is written parses to an expression that means the same
(a test reads it back), so that an explanation can be pasted into a policy.
SPEC: https://docs.cedarpolicy.com/policies/syntax-grammar.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cedarpy import pst

from citywatch.core.policy.constants import uid_of
from citywatch.core.policy.extensions import format_decimal
from citywatch.core.policy.values import CedarSet, Datetime, Decimal, Duration, Ip, quote

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_RESERVED = frozenset("true false if then else in is like has __cedar permit forbid when unless".split())

_INFIX: Mapping[str, tuple[str, int]] = {
    "or": ("||", 1),
    "and": ("&&", 2),
    "eq": ("==", 3),
    "not_eq": ("!=", 3),
    "less": ("<", 3),
    "less_eq": ("<=", 3),
    "greater": (">", 3),
    "greater_eq": (">=", 3),
    "in": ("in", 3),
    "add": ("+", 4),
    "sub": ("-", 4),
    "mul": ("*", 5),
}
_METHODS: Mapping[str, str] = {
    "decimal_less_than": "lessThan",
    "decimal_less_eq": "lessThanOrEqual",
    "decimal_greater": "greaterThan",
    "decimal_greater_eq": "greaterThanOrEqual",
}
_FUNCTIONS = frozenset({"ip", "decimal", "datetime", "duration"})
_RELATION, _UNARY, _MEMBER = 3, 6, 7


def expression_text(node: Any) -> str:
    """An expression of the typed tree, with no more brackets than it needs."""
    return _write(node, 0)


def _write(node: Any, outer: int) -> str:
    """`outer` is how strongly the place binds; what binds less is put in brackets."""
    text, strength = _parts(node)
    return f"({text})" if strength < outer else text


def _parts(node: Any) -> tuple[str, int]:
    match node:
        case pst.Var(name):
            return name, _MEMBER
        case pst.BoolLit(value):
            return str(value).lower(), _MEMBER
        case pst.LongLit(value):
            return str(value), _MEMBER if value >= 0 else _UNARY
        case pst.StringLit(value):
            return quote(value), _MEMBER
        case pst.EntityLit(value):
            return str(uid_of(value)), _MEMBER
        case pst.Set(elements):
            return f"[{', '.join(_write(element, 0) for element in elements)}]", _MEMBER
        case pst.Record(fields):
            pairs = ", ".join(f"{_name(name)}: {_write(field, 0)}" for name, field in fields.items())
            return f"{{{pairs}}}", _MEMBER
        case pst.IfThenElse(condition, then, otherwise):
            return f"if {_write(condition, 0)} then {_write(then, 0)} else {_write(otherwise, 0)}", 0
        case pst.GetAttr(base, name):
            step = f".{name}" if _plain(name) else f"[{quote(name)}]"
            return _write(base, _MEMBER) + step, _MEMBER
        case pst.HasAttr(base, names):
            path = ".".join(names) if all(map(_plain, names)) else quote(names[0])
            return f"{_write(base, _RELATION + 1)} has {path}", _RELATION
        case pst.Like(base, pattern):
            return f"{_write(base, _RELATION + 1)} like {_pattern(pattern)}", _RELATION
        case pst.Is(base, kind, target):
            inside = "" if target is None else f" in {_write(target, _RELATION + 1)}"
            return f"{_write(base, _RELATION + 1)} is {kind}{inside}", _RELATION
        case pst.UnaryOp(op, argument):
            return _unary(op, argument)
        case pst.BinaryOp(op, left, right):
            return _binary(op, left, right)
    return f"<{type(node).__name__}>", _MEMBER


def _unary(op: str, argument: Any) -> tuple[str, int]:
    if op == "not":
        return "!" + _write(argument, _MEMBER), _UNARY
    if op == "neg":
        # `-5` is a literal and `-(5)` is not: only brackets keep the two apart
        return f"-({_write(argument, 0)})", _UNARY
    if op in _FUNCTIONS:
        return f"{op}({_write(argument, 0)})", _MEMBER
    return f"{_write(argument, _MEMBER)}.{_camel(op)}()", _MEMBER


def _binary(op: str, left: Any, right: Any) -> tuple[str, int]:
    if op not in _INFIX:
        return f"{_write(left, _MEMBER)}.{_METHODS.get(op) or _camel(op)}({_write(right, 0)})", _MEMBER
    sign, strength = _INFIX[op]
    tight = strength + (strength == _RELATION)  # relations do not chain
    return f"{_write(left, tight)} {sign} {_write(right, strength + 1)}", strength


def _camel(op: str) -> str:
    first, *others = op.split("_")
    return first + "".join(other.capitalize() for other in others)


def _plain(name: str) -> bool:
    return bool(_WORD.match(name)) and name not in _RESERVED


def _name(name: str) -> str:
    return name if _plain(name) else quote(name)


def _pattern(pattern: tuple[pst.PatternElem, ...]) -> str:
    return '"' + "".join(map(_element, pattern)) + '"'


def _element(element: pst.PatternElem) -> str:
    if isinstance(element, pst.Wildcard):
        return "*"
    return "\\*" if element.value == "*" else quote(element.value)[1:-1]


def value_text(value: Any) -> str:
    """A value as Cedar would write it, shortened, for explanations."""
    kind = type(value)
    if kind is bool:
        return str(value).lower()
    if kind is str:
        return quote(value if len(value) <= 80 else value[:77] + "...")
    if kind is CedarSet:
        shown = ", ".join(value_text(item) for item in value.items[:8])
        return f"[{shown}{', ...' if len(value.items) > 8 else ''}]"
    if kind is dict:
        return "{" + ", ".join(f"{_name(name)}: {value_text(item)}" for name, item in list(value.items())[:8]) + "}"
    if kind is Decimal:
        return f'decimal("{format_decimal(value)}")'
    if kind is Duration:
        return f'duration("{value.ms}ms")'
    if kind is Datetime:
        return _moment(value.ms)
    if kind is Ip:
        return f"<ipaddr of IPv{value.version}>"
    return str(value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(ms: int) -> str:
    try:
        text = (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")
    except OverflowError:
        return f'datetime("1970-01-01").offset(duration("{ms}ms"))'
    return f'datetime("{text.removesuffix("+00:00")}Z")'
