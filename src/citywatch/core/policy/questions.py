"""A condition as a question that many policies can ask at once.

    test     is `subject` true?                     a policy goes on if it is, or (under `!`) if it is not
    eq       what is `subject`?                     `subject == constant`, `[constants].contains(subject)`
    in       what is `subject` in?                  `subject in entity`, `subject in [entities]`
    has      what has `subject`?                    `subject has name`
    order    how much is `subject`?                 `<`, `<=`, `>`, `>=` against a number, decimal, datetime, duration
    starts   how does `subject` begin?              `subject like "text*"`
    holds    what is in the set `subject`?          `subject.contains(constant)`, `containsAny`, `containsAll`
    with     what does an operator say of it?       any other `like`, `isInRange` of a constant range

Decides nothing of a call. INVARIANT: a condition is true of a request exactly if the answer to its question is one of
its `answers`, and it errs exactly if the question cannot be answered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import msgspec
from cedarpy import pst

from citywatch.core.policy.constants import constant, uid_of
from citywatch.core.policy.patterns import pieces
from citywatch.core.policy.values import CedarSet, Datetime, Decimal, Duration, key


class Question(msgspec.Struct, frozen=True):
    """One condition as a question, and the answers for which its policy goes on. Equal form and subject are shared."""

    form: str
    subject: Any
    answers: tuple[Hashable, ...]


def _integer(value: Any) -> int:
    return int(value)


def _milliseconds(value: Any) -> int:
    return int(value.ms)


def _units(value: Any) -> int:
    return int(value.units)


ORDERED: Mapping[type, tuple[str, Callable[[Any], int]]] = {
    int: ("order", _integer),
    Datetime: ("order datetime", _milliseconds),
    Duration: ("order duration", _milliseconds),
    Decimal: ("order decimal", _units),
}
"""For each type with an order: the form of its question, and the number that stands for a value."""

_TURNED = {"less": "greater", "less_eq": "greater_eq", "greater": "less", "greater_eq": "less_eq"}
_DECIMAL_ORDER = {
    "decimal_less_than": "less",
    "decimal_less_eq": "less_eq",
    "decimal_greater": "greater",
    "decimal_greater_eq": "greater_eq",
}


def question_of(node: Any) -> Question:
    """The question that a condition asks."""
    kind = type(node)
    if kind is pst.UnaryOp and node.op == "not":
        return Question("test", node.arg, (False,))
    if kind is pst.HasAttr and len(node.attrs) == 1:
        return Question("has", node.base, node.attrs)
    if kind is pst.Like:
        return _likeness(node)
    found = _binary(node) if kind is pst.BinaryOp else None
    return found or Question("test", node, (True,))


def _likeness(node: pst.Like) -> Question:
    parts = pieces(node.pattern)
    if len(parts) == 2 and not parts[1]:
        return Question("starts", node.base, (parts[0],))
    return Question("with", node.base, (("like", node.pattern),))


def _binary(node: pst.BinaryOp) -> Question | None:
    right, left = constant(node.right), constant(node.left)
    if node.op == "in":
        return _membership(node)
    if node.op == "contains" and left[0] and type(left[1]) is CedarSet and left[1].keys:
        return Question("eq", node.right, tuple(left[1].keys))
    if node.op == "eq" and right[0]:
        return Question("eq", node.left, (key(right[1]),))
    if node.op == "eq" and left[0]:
        return Question("eq", node.right, (key(left[1]),))
    if node.op == "is_in_range" and right[0]:
        return Question("with", node.left, ((node.op, node.right),))
    return (
        _ordering(node.left, node.op, right)
        or _ordering(node.right, _TURNED.get(node.op, ""), left)
        or (_holding(node, right[1]) if right[0] else None)
    )


def _ordering(subject: Any, op: str, bound: tuple[bool, Any]) -> Question | None:
    known, value = bound
    relation = _DECIMAL_ORDER.get(op, op)
    if not known or relation not in _TURNED or type(value) not in ORDERED:
        return None
    if (type(value) is Decimal) is not (op in _DECIMAL_ORDER):
        return None  # decimals have methods of their own: `<` on them is an error, as is `lessThan` on numbers
    form, number = ORDERED[type(value)]
    return Question(form, subject, ((relation, number(value)),))


def _holding(node: pst.BinaryOp, value: Any) -> Question | None:
    # An answer is a set of members, all of which the subject must hold
    if node.op == "contains":
        return Question("holds", node.left, (frozenset((key(value),)),))
    if type(value) is not CedarSet or not value.keys:
        return None
    if node.op == "contains_all":
        return Question("holds", node.left, (value.keys,))
    if node.op == "contains_any":
        return Question("holds", node.left, tuple(frozenset((member,)) for member in value.keys))
    return None


def _membership(node: pst.BinaryOp) -> Question | None:
    targets = node.right.elements if type(node.right) is pst.Set else (node.right,)
    uids = tuple(uid_of(target.value) for target in targets if type(target) is pst.EntityLit)
    return Question("in", node.left, uids) if uids and len(uids) == len(targets) else None
