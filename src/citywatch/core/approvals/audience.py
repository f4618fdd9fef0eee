"""Who may answer a ticket, and in whose place: the one question for whoever counts, lists, shows or waits for answers.

    places:  those whom the act reaches and its quorum names, by the file
    voices:  whoever has a place answers in it; while they are away, their deputy does, and they do not

Decides by the people and rules of the file and by who is away; not what an answer has to say (`answers`), nor what the
answers come to (`quorum`). INVARIANTS
1. There is a place only for those whom the act reaches and whom its quorum names: a deputy adds none, and what a person
   is a deputy for is not handed on.
2. Nobody approves what uses the authority of somebody for whom they speak, where that is not to be, nor for whom the
   person speaks in whose place they answer; a no is theirs.
3. One place is one answer: that of whoever has it, or of whoever stood in, and never both.
4. Whoever is away answers nothing until they say that they are back.
5. In the place of another one speaks in the names that are theirs, and in no other.
6. Whom a ticket is passed on to are approvers whom the act reaches, too: it needs as many yes as before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from citywatch.core.approvals.people import Approvals, Person, Quorum, reached
from citywatch.core.approvals.ticket import Vote


class Question(Protocol):
    """What a ticket says of whom it reaches."""

    @property
    def server(self) -> str: ...
    @property
    def tool(self) -> str: ...
    @property
    def authority(self) -> tuple[str, ...]: ...
    @property
    def votes(self) -> tuple[Vote, ...]: ...
    @property
    def escalated(self) -> int: ...


class Audience(msgspec.Struct, frozen=True):
    """The people who may be asked, at one instant; `away` has, for each who is, who stands in."""

    people: Mapping[str, Person]
    approvals: Approvals
    away: Mapping[str, str] = {}

    def quorum(self, ticket: Question) -> Quorum:
        """How many have to say yes to this ticket, out of whom: once it was passed on, also out of those who come next.

        # INVARIANT: 6.
        """
        found = self.approvals.quorum_of(ticket.server, ticket.tool)
        return self._widened(found) if ticket.escalated else found

    def places(self, ticket: Question) -> tuple[str, ...]:
        """Whom it reaches, by name. # INVARIANT: 1."""
        return reached(self.people, self.quorum(ticket), ticket.server, ticket.tool)

    def _widened(self, quorum: Quorum) -> Quorum:
        return msgspec.structs.replace(quorum, of=(*quorum.of, *self.approvals.escalate_to))

    def places_of(self, ticket: Question, person: str) -> tuple[str, ...]:
        """In whose places somebody can answer it now: their own, and then of those who are away. # INVARIANT: 4."""
        if person in self.away:
            return ()
        mine = [one for one in self.places(ticket) if self.away.get(one, one) == person]
        return tuple(sorted(mine, key=lambda one: (one != person, one)))

    def place_for(self, ticket: Question, person: str, principal: str) -> str:
        """The first of their places in which they speak in that name, without an answer if there is one such; if they
        do in none, any of theirs, for `answers` to say so. Empty for whom it does not reach. # INVARIANT: 5."""
        mine = self.places_of(ticket, person)
        named = [one for one in mine if not principal or principal in self.people[one].speaks_for]
        return min(named or mine, key=lambda one: self.is_taken(ticket, one), default="")

    def speaks_for(self, ticket: Question, person: str) -> tuple[str, ...]:
        """In whose names somebody can answer it now."""
        mine = self.places_of(ticket, person)
        return tuple(dict.fromkeys(name for one in mine for name in self.people[one].speaks_for))

    def reached(self, ticket: Question) -> tuple[str, ...]:
        """Who may approve it now, by name. Nothing that was said changes this: whoever looks learns nothing by it."""
        voices = [(self.away.get(one, one), one) for one in self.places(ticket)]
        free = (who for who, place in voices if who not in self.away and not self.conflict(ticket, who, place))
        return tuple(sorted(set(free)))

    def conflict(self, ticket: Question, person: str, place: str) -> str:
        """Why somebody must not approve it in this place; empty if nothing is in the way. # INVARIANT: 2."""
        if not self.approvals.is_not_own(ticket.server, ticket.tool):
            return ""
        for name in dict.fromkeys((person, place)):
            own = set(self.people[name].speaks_for) & set(ticket.authority)
            if own:
                return f"the call uses the authority of `{min(own)}`, for whom `{name}` speaks"
        return ""

    def stands(self, ticket: Question, vote: Vote) -> bool:
        """Whether a vote would still be that person's to give: their being away by now takes nothing from it."""
        place = vote.place or vote.person
        if vote.person not in self.people or place not in self.places(ticket):
            return False
        if place != vote.person:
            said = any(one.person == place for one in ticket.votes)  # INVARIANT: 3. Their own word is the last one.
            if said or self.away.get(place) != vote.person:
                return False
        return not vote.yes or not self.conflict(ticket, vote.person, place)

    def left(self, ticket: Question) -> tuple[tuple[str, ...], ...]:
        """For each place without an answer, who might still say yes in it: its own person, too, once they are back; and
        those to whom it may yet be passed on."""
        voted = {one.person for one in ticket.votes}
        found = []
        widest = self._widened(self.quorum(ticket))
        for place in reached(self.people, widest, ticket.server, ticket.tool):
            might = [one for one in dict.fromkeys((place, self.away.get(place, place))) if one not in voted]
            might = [one for one in might if not self.conflict(ticket, one, place)]
            if might and not self.is_taken(ticket, place):
                found.append(tuple(might))
        return tuple(found)

    def is_taken(self, ticket: Question, place: str) -> bool:
        """Whether it was answered in this place. # INVARIANT: 3.

        An answer of a deputy who does not stand in any more is in nobody's way.
        """
        there = (one for one in ticket.votes if (one.place or one.person) == place)
        return any(one.person == place or self.away.get(place) == one.person for one in there)
