"""Which ticket an approver is shown next: by what is at stake, in fair shares, and never a flood.

    folded:   near-duplicates (agent, act, argument template, resource) are one question with a count
    held:     what a flooding agent or root asks waits, and is shown as one line (`flood`)
    tiers:    for each of root, agent, act, resource and novelty of which a question goes beyond its fair share of an
              hour's answers, it comes a tier later
    in tiers: by expected loss (`asked.loss`), which grows with the time waited
    aged:     every tenth question is the one that has waited longest

Decides the order alone. It sees what the gateway recorded (`Asked`), who asked how often, and what was approved; it
approves nothing, and whether an act may be done is asked again when the ticket is used (`enforce.admit`).

INVARIANTS
1. Nobody is shown what they answered, what is decided, what has expired, or what is held back.
2. What goes beyond a fair share cannot take the answers that are kept for those within theirs (`load`).
3. Of `OLDEST` questions that are shown in a row, one is the oldest that is not held: nothing starves.
4. A no ends all that is folded; a yes ends the one question that was shown.
5. The order depends on recorded facts and on their order alone: whoever folds the same log finds the same order.
6. What is listed beside what was asked changes nothing for anything else: neither order, nor share, nor what is held.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from citywatch.core.approvals.asked import Asked, Fold, fold_of
from citywatch.core.approvals.flood import AGENT, ROOT, Floods, Strike
from citywatch.core.approvals.load import HOUR_MS, Load
from citywatch.core.approvals.question import Dimensions, Flood, Group, Lane, Line, Standing

OLDEST: Final = 10
LOOK: Final = 4
"""How many of those that are alike in all but the resource are looked at, the oldest first."""
HALF_MS: Final = 600_000
"""After so long the stake of a question has doubled."""
LEAST_SHARE: Final = 4
QUIET: Final = 3
"""Whose agent asked so often within the hour comes a tier later; twice as often, two."""
FAIR: Final = 1
"""Up to this tier a question may take the answers that are kept: it goes beyond one share at most."""
DIMENSIONS: Final = 5
SLACK: Final = (1, 2, 2, 1, 1)
"""Roots divide an hour's answers among them; agents and acts are unequal by nature, and get twice an equal part."""
Rank = tuple[int, int, int, str]
"""The tier, the stake with the time waited (the dearer the less), when it was asked, the ticket."""


class Queue:
    """The questions that wait, for one city; a fold over what was asked and answered, in that order."""

    def __init__(self, floods: Floods, load: Load) -> None:
        self.floods = floods
        self.load = load
        self._waiting: dict[str, Standing] = {}
        self._heads: dict[Fold, str] = {}
        self._lanes: dict[Lane, dict[Group, list[Standing]]] = {}
        self._behind: dict[str, str] = {}
        """Which ticket stands for a folded one."""
        self._ends: list[tuple[int, str]] = []
        self._known: set[tuple[str, ...]] = set()
        self._present = tuple(Counter[str]() for _ in range(DIMENSIONS))
        self._served = tuple(Counter[str]() for _ in range(DIMENSIONS))
        self._shown: deque[tuple[int, Dimensions]] = deque()
        self._turn = 0
        self._moved: set[str] = set()

    def ask(self, asked: Asked) -> tuple[Strike, ...]:
        """A ticket was opened; the strikes that its agent and its root earned with it."""
        strikes = self.floods.asked(asked.agent, asked.root, asked.asked)
        heapq.heappush(self._ends, (asked.expires, asked.id))
        head = self._heads.get(fold_of(asked))
        if head is not None:
            self._waiting[head].folded.append(asked)
            self._behind[asked.id] = head
            return strikes
        self._stand(asked)
        return strikes

    def pick(self, who: str, now: int) -> Standing | None:
        """What this approver is shown next, None if nothing is for them now; they look at it from here on."""
        self._forget(now)
        if not self.load.may(who, True, now):
            return None
        chosen = self._oldest(who, now) if self._turn % OLDEST == OLDEST - 1 else self._dearest(who, now)
        if chosen is None:
            return None
        self._turn += 1
        self._show(chosen, who, now)
        return chosen

    def said(self, ticket: str, who: str, yes: bool) -> bool | None:
        """Somebody answered; whether that approves or denies the ticket, None: more have to answer."""
        standing = self._waiting.get(ticket)
        if standing is None:
            return None
        standing.looking.discard(who)
        (standing.yes if yes else standing.no).add(who)
        verdict = standing.verdict
        if verdict is not None:
            self.close(ticket, approved=verdict)
        return verdict

    def answered(self, ticket: str, who: str, yes: bool, now: int) -> bool | None:
        """Somebody looked at a ticket and answered it, whoever chose it for them."""
        standing = self._waiting.get(ticket)
        if standing is None:
            return None
        self._forget(now)
        self._show(standing, who, now)
        return self.said(ticket, who, yes)

    def left(self, ticket: str, who: str) -> None:
        """Somebody who looked at it went away without an answer."""
        standing = self._waiting.get(ticket)
        if standing is not None:
            standing.looking.discard(who)

    def close(self, ticket: str, *, approved: bool | None) -> tuple[str, ...]:
        """A ticket is decided, or (None) it is over without an answer; all the tickets that are over with it."""
        standing = self._waiting.pop(ticket, None)
        if standing is None:
            return self._unfold(ticket)
        self._leave(standing)
        if approved:
            self._known.update(_familiar(standing.asked))
        for one in standing.folded:
            del self._behind[one.id]
        if approved is False:  # INVARIANT: 4
            return (ticket, *(one.id for one in standing.folded))
        if standing.folded:
            first, *others = standing.folded
            self._stand(first).folded.extend(others)
            self._behind.update((one.id, first.id) for one in others)
        return (ticket,)

    def drop(self, agent: str) -> tuple[str, ...]:
        """An agent was put aside: nobody is asked for it any more; all the tickets that are over with that."""
        theirs = [ticket for ticket, one in self._waiting.items() if one.asked.agent == agent]
        return tuple(one for ticket in theirs for one in self.close(ticket, approved=False))

    def expire(self, now: int) -> tuple[str, ...]:
        """What nobody answered in time: those tickets, which are denied by that."""
        over: list[str] = []
        while self._ends and self._ends[0][0] <= now:
            over += self.close(heapq.heappop(self._ends)[1], approved=None)
        return tuple(over)

    def ranks(self, now: int) -> Callable[[Standing], Rank]:
        """How questions compare at this instant: the lower one is shown before the other."""
        self._forget(now)
        shares = self._shares()
        return lambda one: self._rank(one, shares, now)

    def waiting(self) -> list[Standing]:
        """All questions that wait, those that are held back among them, in no order."""
        return list(self._waiting.values())

    def moved(self) -> frozenset[str]:
        """Which questions began or ceased to wait, or were looked at, since this was last asked."""
        moved, self._moved = frozenset(self._moved), set()
        return moved

    def is_free(self, one: Standing, now: int) -> bool:
        """Whether it would be shown: it waits, and nothing holds it back."""
        return one.open and one.asked.expires > now and not self._is_held(one, now)

    def beside(self, asked: Asked) -> Standing | str:
        """# INVARIANT: 6. What this would be had it been asked: a question of its own, or one behind that ticket."""
        return self._heads.get(fold_of(asked)) or Standing(asked, self._novelty(asked))

    def line(self, one: Standing, now: int, behind: Iterable[str] = ()) -> Line:
        """A question as it is listed; `behind` stand behind it beside those that are folded."""
        folded = (*(each.id for each in one.folded), *behind)
        return Line(
            ticket=one.asked.id,
            count=1 + len(folded),
            folded=folded,
            stake=one.stake,
            tier=self._tier(one, self._shares(), now),
            novelty=one.novelty,
            waited_ms=max(0, now - one.asked.asked),
            need=one.asked.need,
        )

    def lines(self, now: int) -> tuple[Line, ...]:
        """All that is not held, in the order in which it would be shown."""
        free = [one for one in self._waiting.values() if self.is_free(one, now)]
        return tuple(self.line(one, now) for one in sorted(free, key=self.ranks(now)))

    def flooded(self, now: int) -> tuple[Flood, ...]:
        """One line for each agent or root that is held back, however much it asked."""
        floods = self.floods.held(now)
        counts: Counter[tuple[str, str]] = Counter()
        acts: dict[tuple[str, str], set[str]] = {(kind, who): set() for kind, who, _, _ in floods}
        for one in self._waiting.values() if floods else ():
            if self._is_held(one, now):
                for key in ((AGENT, one.asked.agent), (ROOT, one.asked.root)):
                    if key in acts:
                        acts[key].add(one.asked.act)
                        counts[key] += 1 + len(one.folded)
        return tuple(
            Flood(
                kind=kind,
                who=who,
                until=until,
                strikes=strikes,
                count=counts[kind, who],
                acts=tuple(sorted(acts[kind, who])),
            )
            for kind, who, until, strikes in floods
        )

    def standing(self, ticket: str) -> Standing | None:
        """A question that waits, by the ticket that is shown for it."""
        return self._waiting.get(ticket)

    def __len__(self) -> int:
        return sum(1 + len(one.folded) for one in self._waiting.values())

    # -- the order ----------------------------------------------------------------------------------------------------

    def _dearest(self, who: str, now: int) -> Standing | None:
        shares = self._shares()
        best: Rank | None = None
        chosen = None
        for one in self._candidates(who, now):
            rank = self._rank(one, shares, now)
            if best is None or rank < best:
                best, chosen = rank, one
        if chosen is None or not self.load.may(who, self._is_fair(chosen, shares, now), now):  # INVARIANT: 2
            return None
        return chosen

    def _oldest(self, who: str, now: int) -> Standing | None:
        """# INVARIANT: 3."""
        return min(self._candidates(who, now), key=lambda one: (one.asked.asked, one.asked.id), default=None)

    def _candidates(self, who: str, now: int) -> Iterator[Standing]:
        for (root, agent), groups in self._lanes.items():
            if self.floods.until(agent, root) > now:  # INVARIANT: 1
                continue
            for group in groups.values():
                found = 0
                for one in group:
                    if one.waits_for(who) and one.asked.expires > now:
                        yield one
                        found += 1
                        if found == LOOK:
                            break

    def _rank(self, one: Standing, shares: tuple[int, ...], now: int) -> Rank:
        aged = one.stake * (HALF_MS + max(0, now - one.asked.asked))
        return (self._tier(one, shares, now), -aged, one.asked.asked, one.asked.id)

    def _tier(self, one: Standing, shares: tuple[int, ...], now: int) -> int:
        if one.tier >= 0:
            return min(one.tier, FAIR)
        return sum(self._over(one, shares)) + self._loudness(one, now)

    def _is_fair(self, one: Standing, shares: tuple[int, ...], now: int) -> bool:
        """Whether it may take what is kept: by who asks, for a flood can take any act and any novelty."""
        root, agent, *_ = self._over(one, shares)
        return one.tier >= 0 or root + agent + self._loudness(one, now) <= FAIR

    def _over(self, one: Standing, shares: tuple[int, ...]) -> list[bool]:
        of = zip(self._served, one.dimensions, shares, strict=True)
        return [served[name] >= share for served, name, share in of]

    def _loudness(self, one: Standing, now: int) -> int:
        return (self.floods.recent(one.asked.agent, now) // QUIET).bit_length()

    def _shares(self) -> tuple[int, ...]:
        """The fair share of an hour's answers: of a root, an agent, an act, a resource, a kind of novelty."""
        capacity = self.load.capacity
        of = zip(self._present, SLACK, strict=True)
        return tuple(max(LEAST_SHARE, slack * capacity // max(1, len(present))) for present, slack in of)

    def _is_held(self, one: Standing, now: int) -> bool:
        return self.floods.until(one.asked.agent, one.asked.root) > now

    # -- the book-keeping ---------------------------------------------------------------------------------------------

    def _stand(self, asked: Asked) -> Standing:
        standing = Standing(asked, self._novelty(asked))
        self._moved.add(asked.id)
        self._waiting[asked.id] = standing
        self._heads[fold_of(asked)] = asked.id
        self._lanes.setdefault(standing.lane, {}).setdefault(standing.group, []).append(standing)
        for present, name in zip(self._present, standing.dimensions, strict=True):
            present[name] += 1
        return standing

    def _leave(self, standing: Standing) -> None:
        standing.open = False
        self._moved.add(standing.asked.id)
        del self._heads[fold_of(standing.asked)]
        groups = self._lanes[standing.lane]
        groups[standing.group].remove(standing)
        if not groups[standing.group]:
            del groups[standing.group]
        if not groups:
            del self._lanes[standing.lane]
        _less(self._present, standing.dimensions)

    def _unfold(self, ticket: str) -> tuple[str, ...]:
        head = self._behind.pop(ticket, None)
        if head is None:
            return ()
        standing = self._waiting[head]
        standing.folded = [one for one in standing.folded if one.id != ticket]
        return (ticket,)

    def _novelty(self, asked: Asked) -> int:
        whole, template = _familiar(asked)
        return 0 if whole in self._known else 1 if template in self._known else 2

    def _show(self, one: Standing, who: str, now: int) -> None:
        if one.tier < 0:
            one.tier = self._tier(one, self._shares(), now)
        one.looking.add(who)
        self._moved.add(one.asked.id)
        self.load.given(who, now)
        self._shown.append((now, one.dimensions))
        for served, present, name in zip(self._served, self._present, one.dimensions, strict=True):
            served[name] += 1
            present[name] += 1

    def _forget(self, now: int) -> None:
        """What was shown more than an hour ago counts no longer."""
        while self._shown and self._shown[0][0] <= now - HOUR_MS:
            _, dimensions = self._shown.popleft()
            _less(self._served, dimensions)
            _less(self._present, dimensions)


def _familiar(asked: Asked) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Under which names an approval of it makes others like it less new: with its resource, and without."""
    return (asked.root, asked.act, asked.template, asked.resource), (asked.root, asked.act, asked.template)


def _less(counters: tuple[Counter[str], ...], dimensions: Dimensions) -> None:
    for counter, name in zip(counters, dimensions, strict=True):
        counter[name] -= 1
        if not counter[name]:
            del counter[name]
