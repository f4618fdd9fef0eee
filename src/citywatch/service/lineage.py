"""For whom agents act, and through whom: the chains that calls showed, and the grants that roots gave; a fold.

Decides nothing: whether a chain holds is `core.delegation`'s. INVARIANT: bounded; of what is past the bound nothing is
remembered here, and the log has all of it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final

from citywatch.core import events
from citywatch.core.errors import Malformed
from citywatch.core.log.entry import decode_event

MOST: Final = 2_000
GRANTS: Final = 1_000
_TELLING: Final = (b'"via":["', b'"type":"grant_rooted"', b'"type":"grant_withdrawn"')
Chain = tuple[str, ...]
"""A principal, and the agents down to the one that acted."""


class Lineage:
    """Chains with how often they were shown, and the newest grants. Give `fold` every leaf, in order."""

    def __init__(self) -> None:
        self.chains: Counter[Chain] = Counter()
        self.grants: OrderedDict[str, tuple[int, events.GrantRooted]] = OrderedDict()
        self.withdrawn: set[str] = set()

    def fold(self, index: int, leaf: bytes) -> None:
        if not any(mark in leaf for mark in _TELLING):
            return
        try:
            event = decode_event(leaf)
        except Malformed:
            return
        if isinstance(event, events.Decided) and event.via:
            if event.via in self.chains or len(self.chains) < MOST:
                self.chains[event.via] += 1
        elif isinstance(event, events.GrantRooted):
            self.grants[event.grant] = index, event
            while len(self.grants) > GRANTS:
                self.grants.popitem(last=False)
        elif isinstance(event, events.GrantWithdrawn):
            self.withdrawn.add(event.grant)

    def through(self, agent: str) -> list[tuple[Chain, int]]:
        """The chains that an agent (its SPIFFE ID) is a link of, the most used first."""
        return [(chain, count) for chain, count in self.chains.most_common() if agent in chain]

    def rooted(self, agent: str) -> list[tuple[int, events.GrantRooted, bool]]:
        """The newest grants that were rooted for an agent, each with its log index and whether it was withdrawn."""
        return [
            (index, one, not self.withdrawn.isdisjoint((f"grant:{one.grant}", f"chain:{one.chain}")))
            for index, one in reversed(self.grants.values())
            if one.agent == agent
        ]
