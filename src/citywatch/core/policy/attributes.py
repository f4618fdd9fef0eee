"""`.name` and `has name`: attributes of records and entities, as closures.

Decides which record an expression reads from. INVARIANTS: an entity that does not exist has no attributes; reading one
that is not there is an error, asking for it is not; what is neither record nor entity has none and is an error; the
short ways give what the long way gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cedarpy import pst

from citywatch.core.policy.facts import Entity, Facts
from citywatch.core.policy.values import EvaluationError, Uid, wrong

Closure = Callable[[Facts], Any]
RecordOf = Callable[[Facts], Mapping[str, Any]]

_CONTEXT, _PRINCIPAL = pst.Var("context"), pst.Var("principal")


class Expressions(Protocol):
    """What is needed of the compiler here: the closure of a node, and an entity by its name."""

    def expression(self, node: Any) -> Closure: ...

    def entity(self, facts: Facts, uid: Uid) -> Entity | None: ...


def get_attribute(compiler: Expressions, node: pst.GetAttr) -> Closure:
    """`base.attr`, and `base["attr"]`."""
    record, attribute = record_of(compiler, node.base), node.attr

    def get(facts: Facts) -> Any:
        try:
            return record(facts)[attribute]
        except KeyError:
            raise EvaluationError(f"there is no attribute `{attribute}`") from None

    return _shortcut(node, get) or get


def has_attribute(compiler: Expressions, node: pst.HasAttr) -> Closure:
    """`base has a`, and `base has a.b.c`, which is false as soon as one is missing."""
    record, path = record_of(compiler, node.base), node.attrs

    def has(facts: Facts) -> bool:
        holder = record(facts)
        for attribute in path[:-1]:
            if attribute not in holder:
                return False
            holder = _record(compiler, facts, holder[attribute])
        return path[-1] in holder

    return has


def record_of(compiler: Expressions, node: Any) -> RecordOf:
    """The attributes of what a node gives: a record's own, or an entity's."""
    if type(node) is pst.Var:
        return _OF_VARS[node.name]
    base = compiler.expression(node)
    if type(node) is not pst.GetAttr or node.base != _CONTEXT:
        return lambda facts: _record(compiler, facts, base(facts))
    name = node.attr

    def in_context(facts: Facts) -> Mapping[str, Any]:
        holder = facts.context.get(name)
        return holder if type(holder) is dict else _record(compiler, facts, base(facts))

    return in_context


def _record(compiler: Expressions, facts: Facts, holder: Any) -> Mapping[str, Any]:
    if type(holder) is dict:
        return holder
    if type(holder) is not Uid:
        raise wrong("record or entity", holder)
    found = compiler.entity(facts, holder)
    return found.attributes if found is not None else {}


def _shortcut(node: pst.GetAttr, otherwise: Closure) -> Closure | None:
    """`context.now`, `context.args.amount`, `principal.team`: what most policies read, in one call. Anything unexpected
    on the way (no such key, not a record) goes the long way, which knows what it means."""
    base, last = node.base, node.attr
    if base == _CONTEXT:

        def of_context(facts: Facts) -> Any:
            try:
                return facts.context[last]
            except KeyError:
                return otherwise(facts)

        return of_context
    if base == _PRINCIPAL:

        def of_principal(facts: Facts) -> Any:
            try:
                return facts.principal.attributes[last]
            except KeyError:
                return otherwise(facts)

        return of_principal
    if type(base) is pst.GetAttr and base.base == _CONTEXT:
        first = base.attr

        def of_argument(facts: Facts) -> Any:
            try:
                return facts.context[first][last]
            except (KeyError, TypeError):
                return otherwise(facts)

        return of_argument
    return None


_OF_VARS: Mapping[str, RecordOf] = {
    "principal": lambda facts: facts.principal.attributes,
    "action": lambda facts: facts.action.attributes,
    "resource": lambda facts: facts.resource.attributes,
    "context": lambda facts: facts.context,
}
