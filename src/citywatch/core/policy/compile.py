"""One Cedar expression, typed tree in, Python closure out.

Decides nothing about policies: it gives each expression the value that Cedar gives it, or Cedar's error.

INVARIANTS: strict types (`true` is not `1`), 64-bit overflow is an error, `&&`, `||` and `if` evaluate no more than
Cedar does; every node kind and operator of `cedarpy.pst` is here or raises `NotCompiled`, and then cedarpy evaluates
the whole policy: nothing is approximated. `tests/differential` holds this against cedarpy.
SPEC: https://docs.cedarpolicy.com/policies/syntax-operators.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cedarpy import pst

from citywatch.core.policy.attributes import get_attribute, has_attribute
from citywatch.core.policy.constants import constant, literal
from citywatch.core.policy.facts import Entity, Facts
from citywatch.core.policy.operators import BINARY, UNARY
from citywatch.core.policy.patterns import matcher
from citywatch.core.policy.values import CedarSet, EvaluationError, Uid, key, same, wrong

Closure = Callable[[Facts], Any]


class NotCompiled(Exception):
    """The compiler does not know this construct; cedarpy does. Never leaves `core.policy`."""


class Compiler:
    """Compiles expressions that may name any entity of `entities` beside the three of the request."""

    def __init__(self, entities: Mapping[Uid, Entity]) -> None:
        self.entities = entities

    def expression(self, node: Any) -> Closure:
        """The closure of a node; raises `NotCompiled` for one that is not known here."""
        compile_node = _NODES.get(type(node))
        if compile_node is None:
            raise NotCompiled(type(node).__name__)
        closure: Closure = compile_node(self, node)
        return closure

    def entity(self, facts: Facts, uid: Uid) -> Entity | None:
        """An entity by its name: the request's own three first, for they are what this call is about."""
        if uid == facts.principal.uid:
            return facts.principal
        if uid == facts.resource.uid:
            return facts.resource
        if uid == facts.action.uid:
            return facts.action
        return self.entities.get(uid)

    def _constant(self, node: Any) -> Closure:
        value = literal(node)[1]
        return lambda facts: value

    def _var(self, node: pst.Var) -> Closure:
        closure = _VARS.get(node.name)
        if closure is None:
            raise NotCompiled(node.name)
        return closure

    def _unary(self, node: pst.UnaryOp) -> Closure:
        operator = UNARY.get(node.op)
        if operator is None:
            raise NotCompiled(node.op)
        known, value = constant(node)
        if known:
            return lambda facts: value
        argument = self.expression(node.arg)
        return lambda facts: operator(argument(facts))

    def _binary(self, node: pst.BinaryOp) -> Closure:
        special = _LAZY.get(node.op)
        if special is not None:
            closure: Closure = special(self, node)
            return closure
        operator = BINARY.get(node.op)
        if operator is None:
            raise NotCompiled(node.op)
        left, right = self.expression(node.left), self.expression(node.right)
        return lambda facts: operator(left(facts), right(facts))

    def _and(self, node: pst.BinaryOp) -> Closure:
        left, right = self.expression(node.left), self.expression(node.right)

        def both(facts: Facts) -> bool:
            value = left(facts)
            if value is False:
                return False
            if value is not True:
                raise wrong("bool", value)
            value = right(facts)
            if value is True or value is False:
                return value is True
            raise wrong("bool", value)

        return both

    def _or(self, node: pst.BinaryOp) -> Closure:
        left, right = self.expression(node.left), self.expression(node.right)

        def either(facts: Facts) -> bool:
            value = left(facts)
            if value is True:
                return True
            if value is not False:
                raise wrong("bool", value)
            value = right(facts)
            if value is True or value is False:
                return value is True
            raise wrong("bool", value)

        return either

    def _equal(self, node: pst.BinaryOp) -> Closure:
        left, right = self.expression(node.left), self.expression(node.right)
        if type(node.right) is pst.StringLit:  # by far the commonest: only a str equals a str
            text = node.right.value
            return lambda facts: bool(left(facts) == text)
        return lambda facts: same(left(facts), right(facts))

    def _not_equal(self, node: pst.BinaryOp) -> Closure:
        equal = self._equal(node)
        return lambda facts: not equal(facts)

    def _contains(self, node: pst.BinaryOp) -> Closure:
        left, right = self.expression(node.left), self.expression(node.right)

        def contains(facts: Facts) -> bool:
            container, item = left(facts), right(facts)
            if type(container) is not CedarSet:
                raise wrong("set", container)
            return key(item) in container.keys

        return contains

    def _in(self, node: pst.BinaryOp) -> Closure:
        left, right = self.expression(node.left), self.expression(node.right)

        def inside(facts: Facts) -> bool:
            uid, target = left(facts), right(facts)
            if type(uid) is not Uid:
                raise wrong("entity", uid)
            if type(target) is Uid:
                targets: tuple[Any, ...] = (target,)
            elif type(target) is CedarSet:
                targets = target.items
                for item in targets:
                    if type(item) is not Uid:
                        raise wrong("entity", item)
            else:
                raise wrong("entity or set of entities", target)
            if uid in targets:
                return True
            found = self.entity(facts, uid)
            return found is not None and not found.line.isdisjoint(targets)

        return inside

    def _get_tag(self, node: pst.BinaryOp) -> Closure:
        # No entity of ours has tags (the schema declares none), so this errs or, for an unknown key, errs as well
        left, right = self.expression(node.left), self.expression(node.right)

        def get_tag(facts: Facts) -> Any:
            uid, name = left(facts), right(facts)
            _check_tag(uid, name)
            raise EvaluationError(f"`{uid}` has no tags")

        return get_tag

    def _has_tag(self, node: pst.BinaryOp) -> Closure:
        left, right = self.expression(node.left), self.expression(node.right)

        def has_tag(facts: Facts) -> bool:
            _check_tag(left(facts), right(facts))
            return False

        return has_tag

    def _like(self, node: pst.Like) -> Closure:
        base, matches = self.expression(node.base), matcher(node.pattern)

        def like(facts: Facts) -> bool:
            value = base(facts)
            if type(value) is not str:
                raise wrong("string", value)
            return matches(value)

        return like

    def _is(self, node: pst.Is) -> Closure:
        base, kind = self.expression(node.base), str(node.entity_type)
        inside = None if node.in_expr is None else self._in(pst.BinaryOp("in", node.base, node.in_expr))

        def is_of_type(facts: Facts) -> bool:
            value = base(facts)
            if type(value) is not Uid:
                raise wrong("entity", value)
            return value.type == kind and (inside is None or inside(facts))

        return is_of_type

    def _if(self, node: pst.IfThenElse) -> Closure:
        condition = self.expression(node.cond)
        then, otherwise = self.expression(node.then_expr), self.expression(node.else_expr)

        def choose(facts: Facts) -> Any:
            value = condition(facts)
            if value is True:
                return then(facts)
            if value is False:
                return otherwise(facts)
            raise wrong("bool", value)

        return choose

    def _set(self, node: pst.Set) -> Closure:
        known, fixed = constant(node)
        if known:
            return lambda facts: fixed
        elements = [self.expression(element) for element in node.elements]
        return lambda facts: CedarSet([element(facts) for element in elements])

    def _record_literal(self, node: pst.Record) -> Closure:
        fields = [(name, self.expression(field)) for name, field in node.fields.items()]
        return lambda facts: {name: field(facts) for name, field in fields}


def _check_tag(uid: Any, name: Any) -> None:
    if type(uid) is not Uid:
        raise wrong("entity", uid)
    if type(name) is not str:
        raise wrong("string", name)


_VARS: Mapping[str, Closure] = {
    "principal": lambda facts: facts.principal.uid,
    "action": lambda facts: facts.action.uid,
    "resource": lambda facts: facts.resource.uid,
    "context": lambda facts: facts.context,
}

_LAZY: Mapping[str, Callable[[Compiler, pst.BinaryOp], Closure]] = {
    "and": Compiler._and,
    "or": Compiler._or,
    "eq": Compiler._equal,
    "not_eq": Compiler._not_equal,
    "contains": Compiler._contains,
    "in": Compiler._in,
    "get_tag": Compiler._get_tag,
    "has_tag": Compiler._has_tag,
}

_NODES: Mapping[type, Callable[[Compiler, Any], Closure]] = {
    pst.Var: Compiler._var,
    pst.BoolLit: Compiler._constant,
    pst.LongLit: Compiler._constant,
    pst.StringLit: Compiler._constant,
    pst.EntityLit: Compiler._constant,
    pst.UnaryOp: Compiler._unary,
    pst.BinaryOp: Compiler._binary,
    pst.GetAttr: get_attribute,
    pst.HasAttr: has_attribute,
    pst.Like: Compiler._like,
    pst.Is: Compiler._is,
    pst.IfThenElse: Compiler._if,
    pst.Set: Compiler._set,
    pst.Record: Compiler._record_literal,
}
