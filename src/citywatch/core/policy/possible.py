"""Could any policy let this agent do this at all? By scope alone, before there are arguments.

Decides what a list may show, never a call: `decide` has the last word when the call comes. INVARIANT: one-sided; an act
that `decide` would permit for some context is always possible here.
"""

from __future__ import annotations

from cedarpy import pst

from citywatch.core.policy.cedar import Policy
from citywatch.core.policy.constants import uid_of
from citywatch.core.policy.decide import Policies
from citywatch.core.policy.facts import Entity


def possible(policies: Policies, principal: Entity, action: Entity, resource: Entity) -> bool:
    """Whether some permit's scope covers these three, and no unconditional forbid's does."""
    permitted = False
    for policy in policies.policies:
        if not _covers(policy, principal, action, resource):
            continue
        if policy.permits:
            permitted = True
        elif policy.tree is not None and not policy.tree.clauses:
            return False
    return permitted


def _covers(policy: Policy, principal: Entity, action: Entity, resource: Entity) -> bool:
    tree = policy.tree
    if tree is None:  # too deep for the typed tree: it may cover anything, so it does if it permits
        return True
    return _within(tree.principal, principal) and _action(tree.action, action) and _within(tree.resource, resource)


def _within(scope: pst.PrincipalOrResourceConstraint, found: Entity) -> bool:
    if isinstance(scope, pst.ScopeAny):
        return True
    if isinstance(scope, pst.ScopeIs):
        return str(scope.entity_type) == found.uid.type
    if not isinstance(scope.entity, pst.EntityUid):
        return False  # a slot of a template, which is refused when policies are read
    uid = uid_of(scope.entity)
    if isinstance(scope, pst.ScopeEq):
        return uid == found.uid
    inside = uid in found.line
    return inside and (isinstance(scope, pst.ScopeIn) or str(scope.entity_type) == found.uid.type)


def _action(scope: pst.ActionConstraint, action: Entity) -> bool:
    if isinstance(scope, pst.ScopeAny):
        return True
    if isinstance(scope, pst.ActionEq):
        return uid_of(scope.entity) == action.uid
    return any(uid_of(one) in action.line for one in scope.entities)
