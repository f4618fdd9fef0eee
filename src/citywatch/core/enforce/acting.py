"""For whom a call that was let through is made, as an access token says it to a resource server.

Decides the subject, the agents and the scopes on what was verified and on nothing that an agent states.
INVARIANTS: the agents are those of the verified chain, in its order; without a chain nobody but the task's principal
stands behind an agent, and that only where the task was given to it; the scope names the one act that was judged.
"""

from __future__ import annotations

from citywatch.core.call import Call
from citywatch.core.enforce.needs import TOOL_CALL, Known
from citywatch.core.enforce.verify import Authority
from citywatch.core.identity.access import Acting, scope_word


def acting(call: Call, authority: Authority, known: Known) -> Acting:
    """Who acts for whom in this call."""
    delegated, agent = authority.delegated, authority.agent
    if delegated is not None:
        until = delegated.caveats.not_after
        return Acting(subject=delegated.principal, actors=delegated.hops, agent=agent, task=delegated.task, until=until)
    task = known.task
    if call.task is None or task is None or task.agent != agent:
        return Acting(subject=agent, actors=(), agent=agent)
    return Acting(subject=f"principal:{task.principal}", actors=(agent,), agent=agent, task=call.task)


def scope_of(call: Call) -> str:
    """What a token for this call is for: `tool:<name>`, or the method of anything that is no tool."""
    return scope_word(f"tool:{call.name}" if call.method == TOOL_CALL else call.method)
