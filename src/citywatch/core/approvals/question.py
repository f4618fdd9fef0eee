"""One question that waits: what was asked, what is folded behind it, who looks at it and who has answered.

Decides whether one more is to look at it; what its answers come to is `quorum`'s, in which order it is shown `queue`'s.
INVARIANT: nobody is shown what they answered, or look at; no more people look than may be asked.
"""

from __future__ import annotations

import msgspec

from citywatch.core.approvals.asked import Asked, loss
from citywatch.core.approvals.quorum import WHOLE, Verdict, tally
from citywatch.core.approvals.ticket import Vote

Lane = tuple[str, str]
"""A root and an agent."""
Group = tuple[str, int, int]
"""Of a lane: an act, how new it is, and the stake."""
Dimensions = tuple[str, str, str, str, str]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One question as it is listed: the ticket that is shown, how many are folded behind it, and why it stands here."""

    ticket: str
    count: int
    folded: tuple[str, ...]
    stake: int
    tier: int
    novelty: int
    waited_ms: int
    need: int


class Flood(msgspec.Struct, frozen=True, kw_only=True):
    """All that one agent or root asked too much, as one line. `kind` is agent or root."""

    kind: str
    who: str
    until: int
    strikes: int
    count: int
    acts: tuple[str, ...]


class Standing:
    """One question that waits: who looks at it and who has answered."""

    __slots__ = (
        "asked",
        "dimensions",
        "folded",
        "group",
        "lane",
        "looking",
        "no",
        "novelty",
        "open",
        "stake",
        "tier",
        "yes",
    )

    def __init__(self, asked: Asked, novelty: int) -> None:
        self.asked = asked
        self.novelty = novelty
        self.stake = loss(asked, novelty)
        self.lane: Lane = (asked.root, asked.agent)
        self.group: Group = (asked.act, novelty, self.stake)
        self.dimensions: Dimensions = (
            asked.root,
            asked.agent,
            f"{asked.act}\n{asked.effect.value}",
            asked.resource,
            str(novelty),
        )
        self.folded: list[Asked] = []
        self.yes: set[str] = set()
        self.no: set[str] = set()
        self.looking: set[str] = set()
        self.tier = -1
        """The tier in which it was first shown: what was begun is brought to its end."""
        self.open = True

    def waits_for(self, who: str) -> bool:
        """# INVARIANT: 1. Whether one more is to look at it, and this one may."""
        taken = len(self.yes) + len(self.looking)
        seen = taken + len(self.no)
        fresh = who not in self.yes and who not in self.no and who not in self.looking
        return self.open and fresh and taken < self.asked.need and seen < self.asked.reviewers

    @property
    def verdict(self) -> bool | None:
        """Whether enough said yes, or so many no that not enough can; None: neither yet."""
        said = [Vote(person=who, yes=who in self.yes, at=0) for who in (*self.yes, *self.no)]
        left = max(0, self.asked.reviewers - len(said))
        found = tally(said, self.asked.need, [WHOLE] * left, one_denies=False).verdict
        return None if found is Verdict.OPEN else found is Verdict.YES
