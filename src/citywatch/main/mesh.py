"""What `citywatch check` says of agents that speak to each other: who may, who never will, and where it leads back.

Decides nothing; `core.enforce.mesh` finds it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import groupby

from citywatch.core.enforce.mesh import circles, edges, idle, namesakes
from citywatch.core.enforce.rules import Rules


def told(rules: Rules, cards: Collection[str]) -> Iterator[str]:
    """One line for each thing; `cards` are the peers whose card was approved."""
    found = edges(rules)
    for peer, callers in groupby(sorted(found, key=lambda one: (one.peer, one.caller)), key=lambda one: one.peer):
        skills = ", ".join(rules.peers[peer].skills)
        yield f"speak           {', '.join(one.caller for one in callers)} to {peer}{f': {skills}' if skills else ''}"
    heard = {one.peer for one in found}
    for caller, peer in idle(rules):
        yield f"WARNING         {caller} is named beside `peers.{peer}`, and no policy could let it say a word there"
    for name in sorted(rules.peers.keys() - heard):
        yield f"WARNING         nobody may speak to {name}"
    for name in sorted(rules.peers.keys() - set(cards)):
        yield f"WARNING         the card of {name} is not approved, so nobody gets it: `citywatch tools approve {name}`"
    for name in namesakes(rules):
        yield f"WARNING         `peers.{name}` has an agent's name and does not say `agent: {name}`:"
        yield "                what it hears is not followed, and circles through it are not counted"
    for way in circles(found):
        yield f"circle          {' -> '.join((*way, way[0]))}: {_ends(rules, way)}"


def _ends(rules: Rules, way: tuple[str, ...]) -> str:
    free = [one for one in way if one not in rules.bound]
    ends = f"it ends after {rules.max_hops} messages (`max_hops`)"
    if not free:
        return f"{ends}, and with what its grants leave: all are `delegated_only`"
    if len(free) < len(way):
        return f"{ends}; {', '.join(free)} may go on without a grant"
    return f"{ends}; none is `delegated_only`, so no grant ends it sooner"
