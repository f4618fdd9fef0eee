"""Facts and policies become a decision. This is the rule, for both engines:

    1. a forbid that is satisfied denies                   FORBIDDEN, naming every forbid that is
    2. a policy that cannot be evaluated denies            POLICY_ERROR, naming every policy that errs
    3. a permit that is satisfied allows                   naming every permit that is
    4. otherwise: denied                                   NO_PERMIT

Decides whether plain facts are permitted; how a call becomes facts is not decided here.

INVARIANTS: neither the order of policies nor duplicates count; rule 2 is stricter than Cedar, which skips a policy that
errs (a forbid that errs would then let through what it was written to stop); `decide` (compiled) and `decide_reference`
(cedarpy alone) give equal decisions; a policy that the compiler does not know is evaluated by cedarpy, never guessed;
what a foreign issuer asserts can only take away: a permit counts only if it holds without it as well, so that an
assertion never allows what no permit allows anyway, while a forbid may rest on it, and on its being there.
SPEC: https://docs.cedarpolicy.com/auth/authorization.html; `spec/policy.md` §1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from citywatch.core.call import Allow, Decision, Deny, Reason
from citywatch.core.errors import Code, Malformed
from citywatch.core.policy.asking import Found
from citywatch.core.policy.cedar import NativeFailure, Policy, digest_of
from citywatch.core.policy.compile import Compiler, NotCompiled
from citywatch.core.policy.facts import ASSERTED, Entity, Facts
from citywatch.core.policy.reference import (
    NO_POLICY,
    Native,
    NativeEntities,
    ask_cedar,
    native_entities,
    native_policies,
)
from citywatch.core.policy.slices import Slices
from citywatch.core.policy.tree import Rule, build_tree, conditions
from citywatch.core.policy.values import Uid


class Policies(msgspec.Struct, frozen=True):
    """A set of policies, ready to decide. `digest` stands for it in the log."""

    digest: str
    policies: tuple[Policy, ...]
    slices: Slices
    whole: Native
    fallback: Native | None
    permits: frozenset[str]
    whole_permits: Native | None
    fallback_permits: Native | None
    entities: NativeEntities

    @property
    def fallen_back(self) -> tuple[str, ...]:
        """The ids of the policies that the compiler left to cedarpy: they are right, and slow."""
        return self.fallback.ids if self.fallback else ()


def compile_policies(policies: Iterable[Policy], entities: Mapping[Uid, Entity]) -> Policies:
    """Prepare parsed policies for deciding; `entities` are all that exist beside a request's own (`World.entities`)."""
    ordered = tuple(sorted(policies, key=lambda policy: policy.id))
    compiler = Compiler(entities)
    rules = [rule for policy in ordered if (rule := _rule(policy, compiler)) is not None]
    known = {rule.id for rule in rules}
    rest = [policy for policy in ordered if policy.id not in known]
    try:
        whole, fallback = native_policies(ordered), native_policies(rest) if rest else None
        of_whole, of_rest = ([one for one in some if one.permits] for some in (ordered, rest))
        whole_permits = native_policies(of_whole) if of_whole else None
        fallback_permits = native_policies(of_rest) if of_rest else None
        prepared = native_entities(entities)
    except (NativeFailure, ValueError) as failure:
        raise Malformed(f"the policies cannot be loaded: {failure}") from None
    return Policies(
        digest=digest_of(ordered),
        policies=ordered,
        slices=Slices(rules, compiler),
        whole=whole,
        fallback=fallback,
        permits=frozenset(policy.id for policy in ordered if policy.permits),
        whole_permits=whole_permits,
        fallback_permits=fallback_permits,
        entities=prepared,
    )


def _rule(policy: Policy, compiler: Compiler) -> Rule | None:
    """The policy for the tree, or None if any part of it is beyond the compiler."""
    if policy.tree is None:
        return None
    rule = Rule(policy.id, policy.permits, conditions(policy.tree))
    try:
        build_tree([rule], compiler)
    except NotCompiled:
        return None
    return rule


def decide(policies: Policies, facts: Facts) -> Decision:
    """Say whether policy permits these facts, and which policies said so."""
    found = Found()
    policies.slices.judge(facts, found)
    if policies.fallback is not None:
        ask_cedar(policies.fallback, policies.entities, facts, found)
    if ASSERTED in facts.context:
        bare, without = Found(), _unasserted(facts)
        policies.slices.judge(without, bare)
        if policies.fallback_permits is not None:
            ask_cedar(policies.fallback_permits, policies.entities, without, bare)
        _narrow(found, bare, policies.permits)
    return _conclude(found)


def decide_reference(policies: Policies, facts: Facts) -> Decision:
    """The same decision by cedarpy alone: the oracle that `decide` is held against."""
    found = Found()
    ask_cedar(policies.whole, policies.entities, facts, found)
    if ASSERTED in facts.context:
        bare = Found()
        if policies.whole_permits is not None:
            ask_cedar(policies.whole_permits, policies.entities, _unasserted(facts), bare)
        _narrow(found, bare, policies.permits)
    return _conclude(found)


def _unasserted(facts: Facts) -> Facts:
    context = {name: value for name, value in facts.context.items() if name != ASSERTED}
    return msgspec.structs.replace(facts, context=context)


def _narrow(found: Found, bare: Found, permits: frozenset[str]) -> None:
    """# INVARIANT: a permit counts that holds with the assertion and without it; one that errs without it errs."""
    held = set(bare.permits)
    found.permits = [name for name in found.permits if name in held]
    for names, why in bare.errors:
        erring = tuple(name for name in names if name in permits or name == NO_POLICY)
        if erring:
            found.errors.append((erring, why))


def _conclude(found: Found) -> Decision:
    if found.forbids:  # 1
        return Deny(Reason(Code.FORBIDDEN, tuple(sorted(found.forbids))))
    if found.errors:  # 2
        erring = {name for names, _ in found.errors for name in names}
        return Deny(Reason(Code.POLICY_ERROR, tuple(sorted(erring))))
    if found.permits:  # 3
        return Allow(tuple(sorted(found.permits)))
    return Deny(Reason(Code.NO_PERMIT))  # 4
