"""Whether enough people said yes: votes are counted by person and weight, and never twice.

Decides what a ticket's votes come to. Who may vote was asked before (`people`), and what each weighs is told by whoever
watches how well approvers do. INVARIANTS
1. One person is one vote, however often they answer and for whomever they stand in: their first counts. So is one
   place: whoever is away and who stands in for them are never two.
2. A yes that is decided has the weight of at least `need` people, and with `one_denies` no vote against it.
3. What can no longer be reached is a no at once: nobody waits for what cannot come.
4. Nobody's vote weighs more than one person's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import msgspec

from citywatch.core.approvals.ticket import Vote

WHOLE: Final = 100
"""The weight of one person whose word counts in full, in hundredths."""


class Verdict(StrEnum):
    """What the votes come to so far."""

    OPEN = "open"
    YES = "yes"
    NO = "no"


class Tally(msgspec.Struct, frozen=True):
    """`have` and `need` are in hundredths of a person."""

    verdict: Verdict
    have: int
    need: int
    people: tuple[str, ...] = ()


def counted(votes: Iterable[Vote]) -> tuple[Vote, ...]:
    """One vote for each person and each place, the first. # INVARIANT: 1."""
    found: list[Vote] = []
    voices, places = set[str](), set[str]()
    for vote in votes:
        place = vote.place or vote.person
        if vote.person not in voices and place not in places:
            found.append(vote)
            voices.add(vote.person)
            places.add(place)
    return tuple(found)


def tally(votes: Iterable[Vote], need: int, left: Iterable[int], *, one_denies: bool) -> Tally:
    """What these votes come to where `need` people have to say yes; `left` is what those weigh who have not said."""
    once = counted(votes)
    wanted = max(1, need) * WHOLE
    yes = [one for one in once if one.yes]
    have = sum(_weight(one.weight) for one in yes)
    people = tuple(one.person for one in yes)
    if one_denies and len(yes) < len(once):  # INVARIANT: 2.
        return Tally(Verdict.NO, have, wanted, people)
    if have >= wanted:
        return Tally(Verdict.YES, have, wanted, people)
    reachable = have + sum(_weight(one) for one in left)
    return Tally(Verdict.OPEN if reachable >= wanted else Verdict.NO, have, wanted, people)  # INVARIANT: 3.


def _weight(weight: int) -> int:
    """# INVARIANT: 4."""
    return min(WHOLE, max(0, weight))
