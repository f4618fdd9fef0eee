"""Who may answer a ticket: the one place for whoever counts, lists, shows or waits for answers.

Decides whom a ticket reaches, by the people and rules of the file; not what an answer has to say (`answers`) nor what
the answers come to (`quorum`). INVARIANTS
1. It reaches nobody whom its act does not reach, or whom its quorum does not name.
2. Nobody approves what uses the authority of somebody for whom they speak, where that is not to be; a no is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from citywatch.core.approvals.people import Approvals, Person, Quorum, reached


class Question(Protocol):
    """What a ticket says of whom it reaches."""

    @property
    def server(self) -> str: ...
    @property
    def tool(self) -> str: ...
    @property
    def authority(self) -> tuple[str, ...]: ...


class Audience(msgspec.Struct, frozen=True):
    """The people who may be asked, at one instant."""

    people: Mapping[str, Person]
    approvals: Approvals

    def quorum(self, ticket: Question) -> Quorum:
        """How many have to say yes to this ticket, out of whom."""
        return self.approvals.quorum_of(ticket.server, ticket.tool)

    def asked(self, ticket: Question) -> tuple[str, ...]:
        """Whom it reaches, by name. # INVARIANT: 1."""
        return reached(self.people, self.quorum(ticket), ticket.server, ticket.tool)

    def reached(self, ticket: Question) -> tuple[str, ...]:
        """Who may approve it, by name. # INVARIANT: 2."""
        return tuple(one for one in self.asked(ticket) if not self.conflict(ticket, self.people[one]))

    def conflict(self, ticket: Question, person: Person) -> str:
        """Why somebody must not approve what is done in their own name; empty if nothing is in the way."""
        if not self.approvals.is_not_own(ticket.server, ticket.tool):
            return ""
        own = set(person.speaks_for) & set(ticket.authority)
        return f"the call uses the authority of `{min(own)}`, for whom `{person.name}` speaks" if own else ""
