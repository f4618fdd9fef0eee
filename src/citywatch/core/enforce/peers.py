"""Whether an agent may speak to another at all: who is named, for which skill, and about whose tasks.

    the peer is configured → the caller is named → the skill is offered → what it goes on with is its own

Decides this on the operator's declaration and on who was given which task; whether a policy permits the message is
asked after it. INVARIANTS
1. Who is not named beside a peer cannot reach it, whatever a policy permits; nor can anybody be reached that has no
   entry in the file.
2. Where a peer has declared skills, a message names one of them: none and another are refused.
3. A task or a conversation is its receiver's alone, under the registration that received it. Who is given a name later
   inherits nothing. A name for a conversation that no peer gave to anybody is the sender's own: the peer is told
   another, which no other agent's can be (`a2a_own`).
4. A push goes to an address that the file gives the agent, or that lies in a pattern which it gives, and to no other:
   an address in a message is somebody's wish, and could be inside of our own network.
5. What an agent is not to have is looked for in whole replies and in streams (`streamed`), and not across pushes: where
   there is a ruling, there are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from citywatch.core.call import Call, Deny, Reason
from citywatch.core.enforce.rules import Rules
from citywatch.core.errors import Code
from citywatch.core.identity.registration import AgentRow
from citywatch.core.manifest import Peer
from citywatch.core.wire import a2a, a2a_push
from citywatch.core.wire.a2a_own import MAX_NAME, peers_name
from citywatch.core.wire.destination import destination_of

Key = tuple[str, str]
THING = "peer"
LISTED = "listed"


def is_message(call: Call) -> bool:
    """Whether a call is spoken to an agent, over A2A."""
    return call.revision == _REVISION


_REVISION: Final = a2a.REVISION


def may_wait(call: Call, rules: Rules) -> bool:
    """Whether a person could be asked about a message: for whatever else is said no row is read and no hash is made."""
    return rules.asks and is_message(call) and a2a.sends(call.method)


def receiver_of(call: Call, rules: Rules) -> str | None:
    """The name of the agent of ours that is spoken to; None where a third party is."""
    peer = rules.peers.get(call.server) if call.revision == _REVISION else None
    return None if peer is None else peer.agent or None


def thing_key(server: str, kind: str, name: str) -> Key:
    """Where it is kept to whom a peer gave a task or a conversation; no part but the last can hold a newline."""
    return (THING, f"{server}\n{kind}\n{name}")


def listed_prefix(server: str, owner: str) -> str:
    """How the ids of the rows begin in which the tasks stand that a peer gave to this agent, the oldest first."""
    return f"{server}\n{owner}\n"


def listed_key(server: str, owner: str, now: int, task: str) -> Key:
    """Where a task stands in the list of whoever it was given to at `now`; the row's value is its conversation."""
    return (LISTED, f"{listed_prefix(server, owner)}{now:015d}\n{task}")


def thing_rows(call: Call) -> tuple[Key, ...]:
    """The rows of all that a message goes on with."""
    return tuple([thing_key(call.server, kind, name) for kind, name in call.things]) if call.things else ()


def owner_of(row: AgentRow) -> str:
    """An agent as it was registered."""
    return f"{row.agent}#{row.added_at}"


def unspoken(
    call: Call, rules: Rules, agent: AgentRow | None, things: Mapping[Key, str | None], *, pushes: bool = True
) -> Deny | None:
    """Refuse what must not be said to this peer, by this agent; None for a call that is no message.

    `pushes`: the peer's card says that it pushes, or nobody knows.
    """
    if not is_message(call):
        return None
    peer = rules.peers.get(call.server)
    caller = call.agent.rpartition("/")[2]
    if peer is None or caller not in peer.callers:  # INVARIANT: 1.
        return Deny(Reason(Code.SERVER_UNKNOWN, detail=f"`{call.server[:80]}` is no peer of `{caller}`"))
    offered = peer.skills
    if a2a.sends(call.method) and offered and call.name not in offered:  # INVARIANT: 2.
        detail = f"name one of its skills in the metadata, as `{a2a.SKILL}`: {', '.join(offered[:16])}"
        return Deny(Reason(Code.NO_PERMIT, detail=detail))
    if (refusal := _unpushed(call, caller, peer, rules, offered=pushes)) is not None:
        return refusal
    if agent is None or any(not _is_own(call, one, agent, things) for one in call.things):  # INVARIANT: 3.
        return Deny(Reason(Code.PEER_TASK_UNKNOWN))
    return None


def peers_context(call: Call, agent: AgentRow | None, things: Mapping[Key, str | None]) -> str | None:
    """What the peer is told in the place of the conversation that a message names; None where it gave it itself."""
    if agent is None or not a2a.sends(call.method):
        return None
    for kind, name in call.things:
        if kind == "context" and things.get(thing_key(call.server, kind, name)) is None:
            return peers_name(owner_of(agent), name)
    return None


def _is_own(call: Call, thing: tuple[str, str], agent: AgentRow, things: Mapping[Key, str | None]) -> bool:
    """Whether a task or a conversation is this agent's: it was given it, or named the conversation itself."""
    kind, name = thing
    owner = things.get(thing_key(call.server, kind, name))
    return owner == owner_of(agent) or (owner is None and kind == "context" and len(name) <= MAX_NAME)


def _unpushed(call: Call, caller: str, peer: Peer, rules: Rules, *, offered: bool) -> Deny | None:
    """# INVARIANT: 4 and 5."""
    wanted = a2a_push.asked(call)
    if wanted is None and call.method not in a2a_push.METHODS:
        return None
    own = peer.pushes.get(caller, ())
    if not peer.push or not own:
        return Deny(Reason(Code.PUSH_UNSUPPORTED, detail="the file names no `push` for both this peer and this agent"))
    if not offered:
        return Deny(Reason(Code.PUSH_UNSUPPORTED, detail="the peer's card offers none"))
    if wanted is not None and destination_of(own, wanted["url"]) is None:
        return Deny(Reason(Code.PUSH_ADDRESS_UNKNOWN))
    if wanted is not None and not rules.cleared(caller).is_open and not rules.observe:
        return Deny(Reason(Code.CONTENT_WITHHELD, detail="pushes are not looked through as one: use `SendMessage`"))
    return None
