"""Many policies in one tree of tests, so that a decision asks each question once and only where the answer matters.

Decides which policies are satisfied and which err, exactly as if each were evaluated by itself. A policy is a list of
conditions, all of which must be true, in order: its scope (which never errs) and its clauses, taken apart at `&&`.
Policies that begin with the same condition share it. Conditions of one form on one subject (`questions.Question`) are
asked together: the subject is evaluated once, whatever the number of policies.

INVARIANTS: only a policy's *first* open condition steers it, so short-circuits and errors stay Cedar's; an error of a
shared condition is an error of every policy below it; each policy stands in the tree once and is reported at most once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import msgspec
from cedarpy import pst

from citywatch.core.policy.asking import ASK, Asked, Found, Step, all_of
from citywatch.core.policy.compile import Compiler
from citywatch.core.policy.questions import Question, question_of


class Rule(msgspec.Struct, frozen=True):
    """One policy for the tree: its id, whether it permits, and its conditions."""

    id: str
    permits: bool
    conditions: tuple[Any, ...]


def conditions(template: pst.Template) -> tuple[Any, ...]:
    """A policy's scope and clauses as one list of expressions, all of which must be true, in this order."""
    scope = [
        *_scope("action", template.action),
        *_scope("resource", template.resource),
        *_scope("principal", template.principal),
    ]
    for clause in template.clauses:
        scope += _split(clause.expr, type(clause) is pst.When)
    return tuple(scope)


def _scope(name: pst.VarName, constraint: Any) -> list[Any]:
    # Scope conditions never err, so their order among each other is ours: the action tells most policies apart
    var, kind = pst.Var(name), type(constraint)
    if kind is pst.ScopeEq or kind is pst.ActionEq:
        return [pst.BinaryOp("eq", var, pst.EntityLit(constraint.entity))]
    if kind is pst.ScopeIn:
        return [pst.BinaryOp("in", var, pst.EntityLit(constraint.entity))]
    if kind is pst.ActionIn:
        return [pst.BinaryOp("in", var, pst.Set(tuple(pst.EntityLit(uid) for uid in constraint.entities)))]
    if kind is pst.ScopeIs:
        return [pst.Is(var, constraint.entity_type, None)]
    if kind is pst.ScopeIsIn:
        inside = pst.BinaryOp("in", var, pst.EntityLit(constraint.entity))
        return [pst.Is(var, constraint.entity_type, None), inside]
    return []


def _split(node: Any, wanted: bool) -> list[Any]:
    """Take an expression apart where `&&` joins it, or `||` under a negation; what is evaluated stays the same."""
    kind = type(node)
    if kind is pst.UnaryOp and node.op == "not":
        return _split(node.arg, not wanted)
    if kind is pst.BinaryOp and node.op == ("and" if wanted else "or"):
        return _split(node.left, wanted) + _split(node.right, wanted)
    if kind is pst.Is and node.in_expr is not None and wanted:
        return [pst.Is(node.base, node.entity_type, None), pst.BinaryOp("in", node.base, node.in_expr)]
    return [node if wanted else pst.UnaryOp("not", node)]


def build_tree(rules: Sequence[Rule], compiler: Compiler) -> list[Step]:
    """The steps that judge all rules; raises `NotCompiled` if one of their conditions cannot be compiled."""
    return _build([(rule, 0) for rule in rules], compiler)


def _build(rules: Sequence[tuple[Rule, int]], compiler: Compiler) -> list[Step]:
    """The steps for rules, each with the number of its conditions that are already known to be true."""
    done = [rule for rule, depth in rules if depth == len(rule.conditions)]
    groups: dict[tuple[str, Any], list[tuple[Question, Rule, int]]] = {}
    for rule, depth in rules:
        if depth < len(rule.conditions):
            question = question_of(rule.conditions[depth])
            groups.setdefault((question.form, question.subject), []).append((question, rule, depth + 1))
    steps = [_group(form, subject, members, compiler) for (form, subject), members in groups.items()]
    return [_satisfied(done), *steps] if done else steps


def _group(form: str, subject: Any, members: Sequence[tuple[Question, Rule, int]], compiler: Compiler) -> Step:
    # Rules that go on for the same answers make one step, so each rule stands in exactly one: the tree stays as small
    # as the policies, whatever sets they test
    alike: dict[frozenset[Hashable], list[tuple[Rule, int]]] = {}
    for question, rule, depth in members:
        alike.setdefault(frozenset(question.answers), []).append((rule, depth))
    table: dict[Any, list[Step]] = {}
    for answers, rules in alike.items():
        step = all_of(_build(rules, compiler))
        for answer in answers:
            table.setdefault(answer, []).append(step)
    return ASK[form](Asked(compiler, subject, table, tuple(rule.id for _, rule, _ in members)))


def _satisfied(done: Iterable[Rule]) -> Step:
    permits = [rule.id for rule in done if rule.permits]
    forbids = [rule.id for rule in done if not rule.permits]

    def satisfied(facts: Any, found: Found) -> None:
        found.permits += permits
        found.forbids += forbids

    return satisfied
