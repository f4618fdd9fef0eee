"""Who may speak to whom, as a graph: what the file names and the policies leave, and where it leads back.

Decides no call; `citywatch check` and `citywatch reach` tell people. INVARIANTS
1. One-sided: whoever could ever be permitted a message to a peer has an edge to it; who has none cannot speak to it.
2. Each circle that messages could go in holds an agent of one that is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from citywatch.core.enforce.rules import Rules
from citywatch.core.names import AgentId
from citywatch.core.policy.facts import PEER, PEER_ACTIONS, Entity
from citywatch.core.policy.possible import possible
from citywatch.core.policy.values import Uid
from citywatch.core.wire import a2a


class Edge(msgspec.Struct, frozen=True, order=True):
    """One agent may speak to a peer, which is an agent of ours (`agent`) or, where that is empty, a stranger."""

    caller: str
    peer: str
    agent: str


def edges(rules: Rules) -> tuple[Edge, ...]:
    """Everybody who is named beside a peer, and whom some policy could let speak to it. # INVARIANT: 1."""
    return tuple(
        sorted(
            Edge(caller, name, peer.agent)
            for name, peer in rules.peers.items()
            for caller in peer.callers
            if may_speak(rules, rules.agent(str(AgentId(rules.domain, caller)), caller), name)
        )
    )


def idle(rules: Rules) -> tuple[tuple[str, str], ...]:
    """Who is named beside a peer for nothing, as (caller, peer): no policy could let them say a word."""
    speaking = {(one.caller, one.peer) for one in edges(rules)}
    named = {(caller, name) for name, peer in rules.peers.items() for caller in peer.callers}
    return tuple(sorted(named - speaking))


def namesakes(rules: Rules) -> tuple[str, ...]:
    """The peers with the name of an agent of the file that do not say which agent they are."""
    own = {str(one.attributes["name"]) for one in rules.world.agents}
    return tuple(sorted(name for name, peer in rules.peers.items() if not peer.agent and name in own))


def circles(found: Iterable[Edge]) -> tuple[tuple[str, ...], ...]:
    """The shortest ways back, each beginning with the first name in it; one for each set of agents. # INVARIANT: 2."""
    graph: dict[str, set[str]] = {}
    for one in found:
        if one.agent:
            graph.setdefault(one.caller, set()).add(one.agent)
    told: dict[frozenset[str], tuple[str, ...]] = {}
    for start in sorted(graph):
        way = _back(graph, start)
        if way is not None:
            first = way.index(min(way))
            told.setdefault(frozenset(way), (*way[first:], *way[:first]))
    return tuple(sorted(told.values()))


def _back(graph: Mapping[str, set[str]], start: str) -> tuple[str, ...] | None:
    """The shortest way from an agent to itself, without its end."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen: set[str] = set()
    for way in ways:
        for following in sorted(graph.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    return None


def may_speak(rules: Rules, agent: Entity, peer: str) -> bool:
    """Whether some policy could let an agent say something to a peer."""
    there = rules.world.entities.get(Uid(PEER, peer))
    sending = (action for method, action in PEER_ACTIONS.items() if a2a.sends(method))
    return there is not None and any(possible(rules.policies, agent, action, there) for action in sending)
