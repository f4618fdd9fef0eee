"""The city from above: which places there are, who went where, how often, and what was stopped on the way.

Decides nothing: a fold over the log, for a picture. Places are people, agents, servers and outside peers; a road is
between two of them, in the direction of the act. What is stopped, is stopped at the gate that every road leads through.
INVARIANTS: counts only grow with the log; a place or road is named by what the log says and nothing else, and there
are no more of them than `MOST` (what is past that is one place, called elsewhere).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from citywatch.core import events
from citywatch.core.call import Direction
from citywatch.core.errors import Malformed
from citywatch.core.log.entry import decode_event

MOST: Final = 1_000
RECENT: Final = 512
ELSEWHERE: Final = "s:elsewhere"
GATE: Final = "gate"
STANDING: Final = ("revoked", "quarantined", "lifted", "halted", "resumed")
"""What can become of an agent, or of all of them."""
_TELLING: Final = tuple(
    f'"type":"{kind.__struct_config__.tag}"'.encode()
    for kind in (
        events.Decided,
        events.Settled,
        events.Rejected,
        events.TaskStarted,
        events.AgentRevoked,
        events.Quarantined,
        events.QuarantineLifted,
        events.Halted,
        events.Resumed,
    )
)


class Road(msgspec.Struct):
    """All that went one way between two places: how often, and how much of it was asked about or stopped."""

    source: str
    target: str
    passed: int = 0
    asked: int = 0
    stopped: int = 0
    last: int = 0

    @property
    def volume(self) -> int:
        return self.passed + self.asked + self.stopped


class Passing(msgspec.Struct, frozen=True, array_like=True):
    """One thing that happened, for whoever watches. `became` is allow, ask, deny, withheld, released or turned_away,
    or one of `STANDING`: then `source` is whose, the gate if it is everybody's.

    `index` is its log entry, `decided` that of the decision it belongs to. `key` says in which context it was done.
    """

    index: int
    decided: int
    at: int
    source: str
    target: str
    became: str
    name: str
    code: str
    agent: str
    key: str
    quiet: bool
    count: int = 1


class Panorama:
    """Places and roads so far, and the last things that happened. Give `fold` every leaf, in order."""

    def __init__(self, peers: Mapping[str, str] = {}, *, asks: bool = True) -> None:
        """`peers`: by the name in the file, the agents of ours that can be spoken to. Without `asks`: what a person was
        asked is not drawn."""
        self._peers = peers
        self._asks = asks
        self.places: dict[str, int] = {}
        """By id, the time of the last thing that happened there."""
        self.roads: dict[tuple[str, str], Road] = {}
        self.turned_away = 0
        """How many never came so far that they were on a road."""
        self.recent: deque[Passing] = deque(maxlen=RECENT)
        self._open: dict[str, Passing] = {}

    def fold(self, index: int, leaf: bytes) -> None:
        if not any(mark in leaf for mark in _TELLING):
            return
        try:
            event = decode_event(leaf)
        except Malformed:
            return  # it is in the log all the same, and `citywatch log verify` speaks of it
        if isinstance(event, events.Decided):
            self._decided(index, event)
        elif isinstance(event, events.Settled):
            self._settled(index, event)
        elif isinstance(event, events.Rejected):
            self._rejected(index, event)
        elif isinstance(event, events.AgentRevoked):
            self._stands(index, event.at, event.agent, "revoked")
        elif isinstance(event, events.Quarantined):
            self._stands(index, event.at, event.agent, "quarantined")
        elif isinstance(event, events.QuarantineLifted):
            self._stands(index, event.at, event.agent, "lifted")
        elif isinstance(event, events.Halted):
            self._stands(index, event.at, event.what, "halted")
        elif isinstance(event, events.Resumed):
            self._stands(index, event.at, event.what, "resumed")
        elif isinstance(event, events.TaskStarted):
            source = self._place(f"p:{event.principal}", event.at)
            target = self._place(f"a:{name_of(event.agent)}", event.at)
            told = Passing(index, index, event.at, source, target, "allow", "task", "", event.agent, "", False)
            self._went(told)

    def since(self, index: int) -> list[Passing]:
        """What happened from that log entry on, as far as it is remembered."""
        found = []
        for one in reversed(self.recent):
            if one.index < index:
                break
            found.append(one)
        return found[::-1]

    def _decided(self, index: int, one: events.Decided) -> None:
        if one.became == "ask" and not self._asks:
            return
        agent = self._place(f"a:{name_of(one.agent)}", one.at)
        other = self._place(self._other(one), one.at)
        to_agent = one.direction == Direction.TO_AGENT.value
        source, target = (other, agent) if to_agent else (agent, other)
        quiet = one.name is None and one.became == "allow"
        told = Passing(
            index, index, one.at, source, target, one.became, one.name or one.method, one.code or "", one.agent,
            one.key, quiet,
        )  # fmt: skip
        self._went(told)
        if one.forwarded:
            self._open[one.call] = told

    def _settled(self, index: int, event: events.Settled) -> None:
        if event.call not in self._open:
            return
        told = self._open[event.call]
        if event.final:
            del self._open[event.call]
        self.recent.append(
            Passing(
                index,
                told.index,
                event.at,
                told.target,
                told.source,
                event.outcome,
                told.name,
                event.code or "",
                told.agent,
                told.key,
                told.quiet and event.outcome == "released",
            )
        )
        if event.outcome == "withheld":
            self._road(told.target, told.source, event.at).stopped += 1

    def _rejected(self, index: int, event: events.Rejected) -> None:
        """Whoever has papers is known and on a road; whoever has none, is nobody."""
        target = self._place(f"s:{event.server}", event.at) if event.server else GATE
        known = event.peer.startswith("spiffe://")
        source = self._place(f"a:{name_of(event.peer)}", event.at) if known else GATE
        if known and event.server:
            self._road(source, target, event.at).stopped += event.count
        else:
            self.turned_away += event.count
        self.recent.append(
            Passing(index, index, event.at, source, target, "turned_away", "", event.code, "", "", False, event.count)
        )

    def _stands(self, index: int, at: int, what: str, became: str) -> None:
        if what.startswith("task:"):
            return  # of an agent it says nothing
        source = self._place(f"a:{name_of(what)}", at) if what.startswith("spiffe://") else GATE
        self.recent.append(Passing(index, index, at, source, GATE, became, "", "", "", "", False))

    def _went(self, told: Passing) -> None:
        road = self._road(told.source, told.target, told.at)
        if told.became == "allow":
            road.passed += 1
        elif told.became == "ask":
            road.asked += 1
        else:
            road.stopped += 1
        self.recent.append(told)

    def _road(self, source: str, target: str, at: int) -> Road:
        road = self.roads.get((source, target))
        if road is None:
            road = self.roads[source, target] = Road(source, target)
        road.last = at
        return road

    def _other(self, one: events.Decided) -> str:
        """With whom: an agent of ours that hears it, or a server or peer by its name in the file."""
        if one.hears:
            return f"a:{name_of(one.hears[0].partition(chr(10))[0])}"
        return f"a:{self._peers[one.server]}" if self._peers.get(one.server) else f"s:{one.server}"

    def _place(self, name: str, at: int) -> str:
        if name not in self.places and len(self.places) >= MOST:
            name = ELSEWHERE
        self.places[name] = at
        return name


def name_of(agent: str) -> str:
    """What an agent is called among people: the end of its SPIFFE ID."""
    return agent.rpartition("/")[2]
