"""Does a call keep the caveats of the chain that it is made under? It can only be narrower for it.

Decides which act a call is in the terms of caveats (`delegation.holds`), and refuses what is beyond them. Whether the
chain holds at all is `verify`'s.

INVARIANTS
1. A chain never permits: policy, plan, budgets and approvals are asked as without one.
2. An act whose facts are not known keeps no caveat about them: whom it reaches without a manifest, what shaped it where
   contexts are not kept.
3. An agent that is bound acts under a chain or not at all.
4. Where arguments are limited, nothing that no limit can speak of goes along with them.
5. A token is each of its scopes: `resource/scope` has to be left by the chain, like a tool.
"""

from __future__ import annotations

from citywatch.core.call import Call, Deny, Reason
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.holds import Act, beyond
from citywatch.core.enforce.chains import is_act
from citywatch.core.enforce.exchanging import is_exchange, scopes_of
from citywatch.core.enforce.needs import TOOL_CALL, Known
from citywatch.core.enforce.peers import is_message
from citywatch.core.enforce.verify import Authority
from citywatch.core.errors import Code
from citywatch.core.label import join
from citywatch.core.manifest import EVERYBODY, audience_of
from citywatch.core.wire import a2a


def granted(call: Call, authority: Authority, known: Known) -> Deny | None:
    """Refuse an act that the chain does not leave; None if it does, or if nothing has to be granted."""
    if not is_act(call):
        return None
    delegated = authority.delegated
    if delegated is None:
        return Deny(Reason(Code.CHAIN_MISSING)) if authority.name in known.rules.bound else None  # INVARIANT: 3.
    if is_exchange(call):  # INVARIANT: 5.
        acts = tuple(_token(call, scope, known) for scope in scopes_of(call))
        broken = next((one for act in acts if (one := beyond(delegated.caveats, act)) is not None), None)
    else:
        act = _act(call, known)
        broken = beyond(delegated.caveats, act) or _answered(call, delegated.caveats, act)
    return None if broken is None else Deny(Reason(Code.BEYOND_GRANT, detail=f"its chain's caveat `{broken}`"))


def _answered(call: Call, caveats: Caveats, act: Act) -> str | None:
    """# INVARIANT: 4. What a server asks for in the middle of a call is an argument by another name."""
    answers = call.continuation is not None and call.continuation.responses
    return f"arguments.{act.name}" if answers and act.name in caveats.arguments else None


def _token(call: Call, scope: str, known: Known) -> Act:
    resource = known.rules.resources.get(call.server)
    return Act(
        name=f"{call.server}/{scope}",
        arguments={},
        readers=audience_of((EVERYBODY,) if resource is None else resource.audience),
        origins=_origins(known),
    )


def _origins(known: Known) -> frozenset[str] | None:
    flow = known.flow
    return None if flow is None else join(flow.context.label, flow.context.before).origins  # INVARIANT: 2.


def _act(call: Call, known: Known) -> Act:
    tool = known.rules.tools.get((call.server, call.name or "")) if call.method == TOOL_CALL else None
    origins = _origins(known)
    if is_message(call):
        peer = known.rules.peers.get(call.server)
        return Act(
            name=f"{call.server}/{call.name if a2a.sends(call.method) and call.name else '*'}",
            arguments=call.arguments,
            readers=audience_of((EVERYBODY,) if peer is None else peer.audience),
            origins=origins,
            skill=True,
        )
    return Act(
        # What is no tool has no name that a grant could give, but all that the server has
        name=f"{call.server}/{call.name}" if call.method == TOOL_CALL else f"{call.server}/*",
        arguments=call.arguments if call.method == TOOL_CALL else {},
        readers=frozenset()
        if tool is not None and tool.manifest.inside
        else audience_of((EVERYBODY,) if tool is None else tool.manifest.audience),
        origins=origins,
    )
