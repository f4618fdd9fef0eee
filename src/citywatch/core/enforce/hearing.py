"""Which agent of ours a message is spoken to, and which of its contexts hold what it hears.

Decides that from the operator's declaration (`peers.*.agent`) and the agent's registration; under which label its words
travel is `said`'s. INVARIANTS
1. Whatever keys an agent has, nobody can tell which of its processes answers: each of them hears it, those of revoked
   keys too. Where *honest runtime* is assumed of it, the context of the task that the message names does.
2. Nothing is said to an agent that is not registered and in good standing: no context would hold it.
"""

from __future__ import annotations

from typing import Final

from citywatch.core.call import Call, Deny, Reason
from citywatch.core.enforce.context import Hearing, Key, context_key, task_context_key
from citywatch.core.enforce.peers import is_message, receiver_of
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.core.identity.registration import AgentRow
from citywatch.core.wire import a2a

HANDED: Final = "handed"


def hearing_of(call: Call, rules: Rules, row: AgentRow | None) -> Hearing | None:
    """Who hears this call, as they are registered; None if it is spoken to no agent of ours, or contexts are not kept.

    # INVARIANT: 1.
    """
    if row is None or not rules.principals or not is_message(call):
        return None
    keys = tuple(context_key(row.agent, key) for key in dict.fromkeys((*row.keys, *row.void)))
    apart = call.task is not None and rules.is_isolated(row.agent)
    contexts = (task_context_key(row.agent, call.task),) if apart and call.task is not None else keys
    carries = a2a.carries(call.method)
    handed = tuple(handed_key(one, call.task) for one in contexts) if carries and call.task is not None else ()
    return Hearing(agent=row.agent, contexts=contexts, around=keys if apart else (), handed=handed, carries=carries)


def handed_key(context: Key, task: str) -> Key:
    """Where it is kept that a context has the words of the person whose task this is."""
    return (HANDED, f"{context[1]}\n{task}")


def unheard(call: Call, rules: Rules, row: AgentRow | None) -> Deny | None:
    """Refuse what is said to an agent of ours that nothing may be said to. # INVARIANT: 2."""
    name = receiver_of(call, rules)
    if name is None or (row is not None and row.refusal is None and row.keys):
        return None
    return Deny(Reason(Code.PEER_STOPPED, detail=f"the agent `{name}`, which is behind `{call.server}`"))
