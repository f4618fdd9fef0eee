"""Of all policies, those that can matter for one action on one resource: found once, then asked every time.

Decides which policies a call cannot concern because of its action and resource alone; leaves the rest to the tree. What
is kept between calls is a memo: it changes when an answer comes, never which answer.

INVARIANTS: a policy is left out only where its first conditions cannot err and one of them is false, which is what
Cedar would find; a slice serves only the very groups (`line`) it was made for; the memo is bounded, beyond it the whole
tree answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cedarpy import pst

from citywatch.core.policy.asking import Found, Step, all_of
from citywatch.core.policy.compile import Compiler
from citywatch.core.policy.constants import literal
from citywatch.core.policy.facts import Facts
from citywatch.core.policy.tree import Rule, build_tree
from citywatch.core.policy.values import Uid

MAX_SLICES = 4_096

_FIXED = ("action", "resource")
_Lines = frozenset[Uid]


class Slices:
    """The rules of a policy set, sliced by action and resource."""

    def __init__(self, rules: Sequence[Rule], compiler: Compiler) -> None:
        self.compiler = compiler
        self.whole = all_of(build_tree(rules, compiler))
        parts = [(rule, *_fixed_part(rule)) for rule in rules]
        self.shared = build_tree([rule for rule, fixed, _ in parts if not fixed], compiler)
        self.particular = {rule.id: Rule(rule.id, rule.permits, rest) for rule, fixed, rest in parts if fixed}
        self.select = all_of(build_tree([Rule(rule.id, True, fixed) for rule, fixed, _ in parts if fixed], compiler))
        self.memo: dict[tuple[Uid, Uid], tuple[_Lines, _Lines, Step]] = {}

    def judge(self, facts: Facts, found: Found) -> None:
        """Add to `found` which rules are satisfied and which err."""
        action, resource = facts.action, facts.resource
        known = self.memo.get((action.uid, resource.uid))
        if known is None:
            known = self._add(facts)
        groups, places, step = known
        if (groups is action.line or groups == action.line) and (places is resource.line or places == resource.line):
            step(facts, found)
        else:
            self.whole(facts, found)

    def _add(self, facts: Facts) -> tuple[_Lines, _Lines, Step]:
        if len(self.memo) >= MAX_SLICES:
            return facts.action.line, facts.resource.line, self.whole
        concerned = Found()
        self.select(facts, concerned)
        left = [self.particular[name] for name in concerned.permits]
        step = all_of([*build_tree(left, self.compiler), *self.shared])
        found = (facts.action.line, facts.resource.line, step)
        self.memo[facts.action.uid, facts.resource.uid] = found
        return found


def _fixed_part(rule: Rule) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The conditions on action and resource alone among a rule's first ones, none of which can err; and all others."""
    fixed: list[Any] = []
    rest: list[Any] = []
    for number, node in enumerate(rule.conditions):
        name = scope_of(node)
        if name is None:
            return tuple(fixed), (*rest, *rule.conditions[number:])
        (fixed if name in _FIXED else rest).append(node)
    return tuple(fixed), tuple(rest)


def scope_of(node: Any) -> str | None:
    """The variable that a condition is about, if it asks for no more than its name, type or groups: it cannot err then.
    To ask what an entity or the context has cannot err either."""
    kind = type(node)
    if kind is pst.BinaryOp and type(node.left) is pst.Var and node.left.name != "context":
        targets = node.right.elements if type(node.right) is pst.Set else (node.right,)
        if node.op in ("eq", "in") and all(type(target) is pst.EntityLit for target in targets):
            return str(node.left.name)
        return str(node.left.name) if node.op == "eq" and literal(node.right)[0] else None
    if kind is pst.Is and node.in_expr is None and type(node.base) is pst.Var and node.base.name != "context":
        return str(node.base.name)
    if kind is pst.HasAttr and len(node.attrs) == 1 and type(node.base) is pst.Var:
        return "attributes"
    return None
