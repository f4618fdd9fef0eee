"""A call and its authority become the plain facts that policy sees. The only translation from one concept to another.

Decides nothing. INVARIANTS: principal, action and resource are pairs of type and id built from verified names;
arguments reach policy as the manifest types them, or the call is refused by the argument's name.
"""

from __future__ import annotations

from citywatch.core.call import Call, Direction
from citywatch.core.enforce.exchanging import is_exchange, scopes_of
from citywatch.core.enforce.needs import TOOL_CALL
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.verify import Authority
from citywatch.core.errors import Code, Refused
from citywatch.core.policy.arguments import text_of
from citywatch.core.policy.facts import (
    PEER,
    RESOURCE,
    TOKEN_ACTION,
    Entity,
    Facts,
    method_action,
    method_context,
    peer_action,
    peer_context,
    token_context,
    tool_context,
    with_asserted,
)
from citywatch.core.policy.values import Uid


def facts_of(call: Call, authority: Authority, rules: Rules, now: int, spread: int = 0) -> Facts:
    """Translate; raises `Refused` for a server, method or argument that policy has no name or type for.

    `spread` is how many agents carried on what the call carries on, its own included.
    """
    facts, said = _facts(call, authority, rules, now, spread), call.asserted
    return facts if said is None else with_asserted(facts, said.issuer, said.subject, said.actors)


def _facts(call: Call, authority: Authority, rules: Rules, now: int, spread: int) -> Facts:
    if is_message(call):
        peer = rules.world.entities.get(Uid(PEER, call.server))
        if peer is None:
            raise Refused(Code.SERVER_UNKNOWN)
        context = peer_context(call.name, text_of(call.arguments), now, spread, call.type)
        return Facts(authority.entity, peer_action(call.method), peer, context)
    if is_exchange(call):
        resource = rules.world.entities.get(Uid(RESOURCE, call.server))
        if resource is None:
            raise Refused(Code.SERVER_UNKNOWN)
        return Facts(authority.entity, TOKEN_ACTION, resource, token_context(scopes_of(call), now))
    near, far = authority.entity, _server(call, rules)
    if call.direction is Direction.TO_AGENT:
        context = method_context(call.method, call.name, text_of(call.arguments), now)
        return Facts(far, method_action(call.method, call.direction), near, context)
    if call.method == TOOL_CALL:
        tool = rules.tools.get((call.server, call.name or ""))
        if tool is None:
            raise Refused(Code.TOOL_NOT_APPROVED)
        arguments = tool.arguments.read(call.arguments)
        return Facts(near, tool.action, far, tool_context(call.name or "", arguments, now, spread))
    context = method_context(call.method, call.name, text_of(call.arguments), now)
    return Facts(near, method_action(call.method, call.direction), far, context)


def _server(call: Call, rules: Rules) -> Entity:
    server = rules.servers.get(call.server)
    if server is None:
        raise Refused(Code.SERVER_UNKNOWN)
    return server
