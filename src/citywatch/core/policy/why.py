"""Why a decision came out as it did, in words: which policies spoke, and which condition kept the others silent.

Decides nothing: the first line repeats `decide`. For the operator, who may see arguments; agents get the code alone.
INVARIANT: each condition is evaluated by the closures that decide, so the explanation cannot differ from the decision.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from cedarpy import pst

from citywatch.core.call import Allow, Decision
from citywatch.core.policy.cedar import Policy
from citywatch.core.policy.compile import Compiler, NotCompiled
from citywatch.core.policy.decide import Policies, decide
from citywatch.core.policy.facts import Facts
from citywatch.core.policy.text import expression_text, value_text
from citywatch.core.policy.tree import conditions
from citywatch.core.policy.values import EvaluationError, kind_of

NEAREST = 3


class Trial(msgspec.Struct, frozen=True):
    """One condition of a policy under some facts: `true`, `false`, an error, or not reached; with what it read."""

    text: str
    outcome: str
    read: tuple[str, ...]


def explain(policies: Policies, facts: Facts) -> tuple[str, ...]:
    """The decision and its reasons, one line each, for a terminal."""
    decision = decide(policies, facts)
    asked = f"{facts.principal.uid} may {{}} {facts.action.uid} on {facts.resource.uid}"
    lines = [asked.format("do") if isinstance(decision, Allow) else asked.format("not do")]
    known = {policy.id: policy for policy in policies.policies}
    named = decision.policies if isinstance(decision, Allow) else decision.reason.policies
    lines += [f"  {_because(decision)}"]
    for name in named:
        if name in known:
            lines += _told(known[name], policies, facts)
    if not named:
        lines += _nearest(policies, facts)
    return tuple(lines)


def _because(decision: Decision) -> str:
    if isinstance(decision, Allow):
        return "these policies permit it:"
    return {
        "forbidden": "these policies forbid it:",
        "policy_error": "these policies cannot be evaluated, and what cannot be evaluated denies:",
    }.get(decision.reason.code.value, "no policy permits it")


def trials(policy: Policy, policies: Policies, facts: Facts) -> tuple[Trial, ...]:
    """Each condition of a policy, in order; after the first that is not true the rest is not reached, as in Cedar."""
    if policy.tree is None:
        return ()
    compiler = Compiler(policies.entities.entities)
    found: list[Trial] = []
    open_ = True
    for node in conditions(policy.tree):
        outcome = _outcome(node, compiler, facts) if open_ else "not reached"
        open_ = outcome == "true"
        found.append(Trial(expression_text(node), outcome, tuple(_reads(node, compiler, facts))))
    return tuple(found)


def _outcome(node: Any, compiler: Compiler, facts: Facts) -> str:
    try:
        value = compiler.expression(node)(facts)
    except (EvaluationError, NotCompiled) as error:
        return f"error: {error}"
    return value_text(value) if type(value) is bool else f"error: expected Bool, got {kind_of(value)}"


def _reads(node: Any, compiler: Compiler, facts: Facts) -> Iterator[str]:
    """What the condition read: each longest path of attributes, with its value."""
    if isinstance(node, pst.GetAttr) or (isinstance(node, pst.Var) and node.name == "principal"):
        try:
            value = value_text(compiler.expression(node)(facts))
        except EvaluationError:
            value = "missing"
        yield f"{expression_text(node)} is {value}"
        return
    for inner in _inner(node):
        yield from _reads(inner, compiler, facts)


def _inner(node: Any) -> tuple[Any, ...]:
    match node:
        case pst.UnaryOp(_, argument):
            return (argument,)
        case pst.BinaryOp(_, left, right):
            return (left, right)
        case pst.HasAttr(base, _) | pst.Like(base, _) | pst.Is(base, _, _):
            return (base,) if isinstance(base, pst.GetAttr) else ()
        case pst.IfThenElse(condition, then, otherwise):
            return (condition, then, otherwise)
        case pst.Set(elements):
            return elements
        case pst.Record(fields):
            return tuple(fields.values())
    return ()


def _told(policy: Policy, policies: Policies, facts: Facts) -> list[str]:
    lines = [f"  {policy.id} ({policy.file}:{policy.line})"]
    for trial in trials(policy, policies, facts):
        read = f"   ({'; '.join(dict.fromkeys(trial.read))})" if trial.read else ""
        lines.append(f"    {trial.outcome:<5}  {trial.text}{read}")
    return lines


def _nearest(policies: Policies, facts: Facts) -> list[str]:
    """The permits that came closest: most conditions true before the first that was not."""
    permits = [(trials(policy, policies, facts), policy) for policy in policies.policies if policy.permits]
    if not permits:
        return ["  there is no permit at all"]
    ranked = sorted(permits, key=lambda pair: (-_true(pair[0]), len(pair[0]), pair[1].id))
    lines = ["  the permits that came closest:"]
    for tried, policy in ranked[:NEAREST]:
        lines.append(f"  {policy.id} ({policy.file}:{policy.line})")
        failed = next((trial for trial in tried if trial.outcome != "true"), None)
        if failed is not None:
            read = f": {'; '.join(dict.fromkeys(failed.read))}" if failed.read else ""
            lines.append(f"    {failed.outcome}  {failed.text}{read}")
    return lines


def _true(tried: tuple[Trial, ...]) -> int:
    return sum(trial.outcome == "true" for trial in tried)
