"""Who asks too much: cool-down, then quarantine. A flood of questions is an attack on whoever answers them.

    within the allowance   →  asked like anybody
    an agent beyond its    →  a strike: for a while nobody is shown what it asks
    a root beyond its      →  a strike for those of its agents that asked more than their part of it, under this root
    each further strike    →  twice as long
    strikes enough         →  the agent is put aside (`service/quarantine`)

Decides from who asked when, and nothing else: not what was asked, nor how. INVARIANTS
1. Whoever keeps their allowance and their part of their root's is never held back, whatever others do.
2. Asking while one is held back is no way out: it counts, and prolongs.
3. A strike is forgotten only by time without one.
4. What is held back under one root is not held back under another for that.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Final

import msgspec

HOUR_MS: Final = 3_600_000
MAX_DOUBLED: Final = 10
AGENT: Final = "agent"
ROOT: Final = "root"


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be asked in an hour, how long the first cool-down lasts, and at which strike an agent is put aside.

    After `forgive_ms` without a strike the strikes begin anew.
    """

    per_agent: int = 8
    per_root: int = 30
    cool_ms: int = 600_000
    strikes: int = 3
    forgive_ms: int = 24 * HOUR_MS


class Strike(msgspec.Struct, frozen=True):
    """Somebody asked more than they may: held back before `until`; with `aside` they are to be put aside."""

    kind: str
    who: str
    number: int
    until: int
    aside: bool


class _Pace:
    __slots__ = ("last", "strikes", "times", "until", "whose")

    def __init__(self) -> None:
        self.times: deque[tuple[int, str]] = deque()
        self.whose: Counter[str] = Counter()
        """How many of those came from each agent."""
        self.until: dict[str, int] = {}
        """Before when which agent is held back for it."""
        self.strikes = 0
        self.last = 0


class Floods:
    """Who asked how often; a fold over questions in the order in which they were asked."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._paces: dict[tuple[str, str], _Pace] = {}

    def asked(self, agent: str, root: str, now: int) -> tuple[Strike, ...]:
        """Note one question; the strikes that it earns."""
        found = (
            self._note(AGENT, agent, agent, self._allowance.per_agent, now),
            self._note(ROOT, root, agent, self._allowance.per_root, now),
        )
        return tuple(one for one in found if one is not None)

    def until(self, agent: str, root: str) -> int:
        """Before which instant this agent's questions under this root are held back; 0 if they are not."""
        own, shared = self._paces.get((AGENT, agent)), self._paces.get((ROOT, root))  # INVARIANT: 4
        until = 0 if own is None else own.until.get(agent, 0)
        return until if shared is None else max(until, shared.until.get(agent, 0))

    def recent(self, agent: str, now: int) -> int:
        """How much an agent asked within the hour, since its last strike."""
        pace = self._paces.get((AGENT, agent))
        if pace is None:
            return 0
        _forget(pace, now)
        return len(pace.times)

    def held(self, now: int) -> tuple[tuple[str, str, int, int], ...]:
        """Each agent and each root for which something is held back: kind, who, until when, strikes."""
        return tuple(
            (kind, who, max(one.until.values()), one.strikes)
            for (kind, who), one in sorted(self._paces.items())
            if now < max(one.until.values(), default=0)
        )

    def lifted(self, kind: str, who: str) -> None:
        """A person lets somebody ask again."""
        self._paces.pop((kind, who), None)

    def _note(self, kind: str, who: str, agent: str, allowed: int, now: int) -> Strike | None:
        pace = self._paces.setdefault((kind, who), _Pace())
        _forget(pace, now)
        pace.times.append((now, agent))
        pace.whose[agent] += 1
        if len(pace.times) <= allowed:  # INVARIANT: 1
            return None
        if now - pace.last > self._allowance.forgive_ms:  # INVARIANT: 3
            pace.strikes = 0
        pace.strikes += 1
        pace.last = now
        cool = self._allowance.cool_ms << min(pace.strikes - 1, MAX_DOUBLED)
        those = +pace.whose
        part = allowed // len(those)
        for one, count in those.items():
            if count > part:  # INVARIANT: 1
                pace.until[one] = max(pace.until.get(one, 0), now) + cool
        pace.times.clear()  # what was struck for is paid; what comes from here on counts anew: INVARIANT: 2
        pace.whose.clear()
        aside = kind == AGENT and pace.strikes >= self._allowance.strikes
        return Strike(kind, who, pace.strikes, max(pace.until.values()), aside)


def _forget(pace: _Pace, now: int) -> None:
    while pace.times and pace.times[0][0] <= now - HOUR_MS:
        _, before = pace.times.popleft()
        pace.whose[before] -= 1
