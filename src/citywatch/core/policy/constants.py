"""What in a policy has one value for every request: literals, sets of them, extension values of literal texts.

Decides nothing. INVARIANT: a node is constant only if Cedar gives it the same value whatever the request; one that errs
is not constant, so that the error comes where Cedar has it.
"""

from __future__ import annotations

from typing import Any

from cedarpy import pst

from citywatch.core.policy.operators import UNARY
from citywatch.core.policy.values import CedarSet, EvaluationError, Uid

_CONSTRUCTORS = frozenset({"decimal", "datetime", "duration", "ip"})


def uid_of(node: pst.EntityUid) -> Uid:
    """An entity's name in a policy, as a pair."""
    return Uid(str(node.type), node.id)


def literal(node: Any) -> tuple[bool, Any]:
    """Whether a node is a literal, and its value."""
    kind = type(node)
    if kind is pst.BoolLit or kind is pst.LongLit or kind is pst.StringLit:
        return True, node.value
    if kind is pst.EntityLit:
        return True, uid_of(node.value)
    return False, None


def constant(node: Any) -> tuple[bool, Any]:
    """Whether a node has the same value in every request, and the value: literals, sets of them, `decimal("1.5")`."""
    kind = type(node)
    if kind is pst.UnaryOp and node.op in _CONSTRUCTORS and type(node.arg) is pst.StringLit:
        try:
            return True, UNARY[node.op](node.arg.value)
        except EvaluationError:
            return False, None  # an error, in every request; the closure raises it where Cedar would
    if kind is pst.Set:
        members = [constant(element) for element in node.elements]
        known = all(fixed for fixed, _ in members)
        return known, CedarSet([value for _, value in members]) if known else None
    return literal(node)
