"""Whether an agent may be handed a token for a resource server that it goes to by itself.

What it does there is seen by nobody: no label is kept of what it sends, no argument is judged, no reply is settled. So
a token is a way out of the city, and is handed over as if everything that the agent knows went out with it, and as if
everybody who ever spoke to it now acted there.

    the resource is configured → the scopes are its own → no plan holds → nobody else could have shaped the context
    → whoever reads there may see all of it

Decides this on the operator's declaration and the context; the chain's caveats are `granted`'s, policy is asked after
it. INVARIANTS
1. A token is for a resource of the file, and for scopes that the file has for it.
2. An agent that is held to a plan has no token: no step of a plan could be checked.
3. Where contexts are kept, a context that anybody could have shaped but the task's principal, and servers for their own
   data, gets none: *honest until tainted* (`held.is_clean`).
4. Nor does one that holds what the resource's audience may not see. There is no word-by-word exception.
"""

from __future__ import annotations

from citywatch.core.call import Call, Deny, Reason
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.context import Flow
from citywatch.core.enforce.exchanging import is_exchange, scopes_of
from citywatch.core.enforce.held import is_clean
from citywatch.core.enforce.needs import Known
from citywatch.core.errors import Code
from citywatch.core.label import join, may_flow
from citywatch.core.manifest import ResourceServer, audience_of


def unfit(call: Call, known: Known) -> Deny | None:
    """Refuse a token that is not to be handed to this agent as it is; None for any other call."""
    if not is_exchange(call):
        return None
    resource = known.rules.resources.get(call.server)
    asked = scopes_of(call)
    if resource is None or call.arguments.get("resource") != resource.identifier:  # INVARIANT: 1.
        return Deny(Reason(Code.SERVER_UNKNOWN, detail="no resource of this gateway's file"))
    if not asked or not set(asked) <= set(resource.scopes):
        detail = f"`{call.server}` has the scopes {', '.join(resource.scopes)}"
        return Deny(Reason(Code.SCOPE_REFUSED, detail=detail))
    return _shaped(resource, known)


def _principal(known: Known, flow: Flow) -> str:
    """Whose authority goes along: of the chain or the task, or else whoever gave the agent its last one."""
    if isinstance(known.chain, Chain):
        return known.chain.principal.removeprefix("principal:")
    return flow.context.principal if known.task is None else known.task.principal


def _shaped(resource: ResourceServer, known: Known) -> Deny | None:
    flow = known.flow
    if flow is None:
        return None
    if flow.held.plan is not None:  # INVARIANT: 2.
        return Deny(Reason(Code.OUT_OF_PLAN, detail="plan: no step of a plan is a token"))
    whole = join(flow.context.label, flow.context.before)
    if not is_clean(whole, _principal(known, flow)):  # INVARIANT: 3.
        return Deny(Reason(Code.CONTEXT_TAINTED))
    if not may_flow(whole, audience_of(resource.audience)):  # INVARIANT: 4.
        readers = ", ".join(f"`{one}`" for one in resource.audience[:8])
        return Deny(Reason(Code.NOT_A_READER, detail=f"a token would let it reach {readers}"))
    return None
